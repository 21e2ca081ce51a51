"""CAs are replaced in three states, each a generation like any other."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import ClusterSpec, PkiSpec
from etcdctl_remote.errors import Refused, UsageError
from etcdctl_remote.pki import rotation
from etcdctl_remote.pki.generation import Generation, State, renewed
from etcdctl_remote.pki.inspect import signed_by
from etcdctl_remote.pki.profiles import Kind
from etcdctl_remote.pki.rotation import Which
from etcdctl_remote.pki.store import Store

from .stores import NODES, NOW, killed_at

SAME = PkiSpec(peer_ca="same")


def held(store: Store) -> Generation:
    found = store.load()
    assert found is not None
    return found


def trusted(generation: Generation, of: Generation) -> bool:
    """Whether members with the bundles of one take every leaf of another."""
    bundles = {
        kind: generation.peer_ca_bundle if kind is Kind.PEER else generation.ca_bundle for kind in Kind
    }
    return all(
        signed_by(leaf.certificate, of.credentials[slot].certificate_pem, bundles[slot[1]])
        for slot, leaf in of.leaves.items()
    )


def states(store: Store, cluster: ClusterSpec, which: frozenset[Which] = rotation.BOTH) -> list[Generation]:
    """Go the whole way on disk: before, trust both, leaves from the new, trust the new only."""
    found = [held(store)]
    store.save(renewed(rotation.trust_both(found[0], cluster, NOW, which), cluster, NOW))
    found.append(held(store))
    while found[-1].rotation:
        store.save(renewed(rotation.advanced(found[-1]), cluster, NOW))
        found.append(held(store))
    return found


@pytest.mark.parametrize("pki", [PkiSpec(), SAME])
def test_each_state_goes_with_the_one_before(cluster: ClusterSpec, store: Store, pki: PkiSpec) -> None:
    """Members of one and members of the next take each other's leaves; of any others not."""
    cluster = replace(cluster, pki=pki)
    if pki == SAME:
        store = Store(store.root.parent / "same")
        store.save(store.prepare(cluster, NOW))
    before, both, new, last, after = every = states(store, cluster)
    for one, other in itertools.pairwise(every):
        assert trusted(one, other)
        assert trusted(other, one)
    assert not trusted(before, new)
    assert not trusted(after, both)
    assert both.leaves == before.leaves
    assert not set(new.leaves.values()) & set(both.leaves.values())
    assert after.leaves == last.leaves == new.leaves
    assert (after.ca_bundle, after.peer_ca_bundle) == (last.ca_bundle, last.peer_ca_bundle)
    assert before.token == new.token == after.token
    assert [g.rotation.state if g.rotation else None for g in every] == [
        None,
        State.TRUST_BOTH,
        State.NEW_LEAVES,
        State.TRUST_NEW,
        None,
    ]


def test_who_signs_and_who_did(cluster: ClusterSpec, store: Store) -> None:
    """The old and the new CAs are known in every state of a rotation, and in none else."""
    before, both, new, last, after = states(store, cluster)
    old = (before.authorities.client, before.authorities.peer)
    coming = (after.authorities.client, after.authorities.peer)
    for state in (both, new, last):
        assert rotation.old_cas(state) == old
        assert rotation.new_cas(state) == coming
        assert rotation.under_way(state) == rotation.BOTH
    for state in (before, after):
        assert rotation.old_cas(state) == rotation.new_cas(state) == ()
        assert rotation.under_way(state) == frozenset()
    assert both.authorities == before.authorities
    assert new.authorities == last.authorities == after.authorities
    assert new.rotation is not None
    assert new.rotation.other == before.authorities


@pytest.mark.parametrize("which", ["client", "peer"])
def test_one_of_two(cluster: ClusterSpec, store: Store, which: Which) -> None:
    """The other CA, its bundle and its leaves stay in every state."""
    every = states(store, cluster, frozenset((which,)))
    peers = which == "client"
    assert len({g.peer_ca_bundle if peers else g.ca_bundle for g in every}) == 1
    assert len({g.ca_bundle if peers else g.peer_ca_bundle for g in every}) == 3
    for slot in every[0].leaves:
        assert len({g.leaves[slot].serial for g in every}) == (1 if (slot[1] is Kind.PEER) is peers else 2)
    assert rotation.under_way(every[1]) == {which}
    assert len(rotation.new_cas(every[1])) == len(rotation.old_cas(every[2])) == 1


def test_every_state_says_what_is_new(cluster: ClusterSpec, store: Store) -> None:
    """In the words that a plan shows."""
    both = rotation.trust_both(held(store), cluster, NOW)
    assert sum("(new, trusted beside the old one)" in line for line in both.issued) == len(both.issued) == 2
    new = renewed(rotation.advanced(replace(both, issued=())), cluster, NOW)
    assert sum("(signs from now on)" in line for line in new.issued) == 2
    assert sum("issuer changed: " in line for line in new.issued) == 9
    after = renewed(rotation.advanced(replace(new, issued=())), cluster, NOW)
    assert all("(no longer trusted)" in line for line in after.issued)
    assert len(after.issued) == 2
    assert rotation.advanced(replace(after, issued=())).issued == ("the replacement of the CA is done",)


def test_there_is_no_state_after_the_last(store: Store) -> None:
    """Nor before the first: only a rotation advances."""
    with pytest.raises(ValueError, match="no CA is being replaced"):
        rotation.advanced(held(store))


@pytest.mark.parametrize(
    "pki", [PkiSpec(ca_days=100, leaf_days=90), replace(SAME, ca_days=100, leaf_days=90)]
)
def test_expired_cas_are_replaced_at_once(cluster: ClusterSpec, store: Store, pki: PkiSpec) -> None:
    """Only the new ones are trusted, and every leaf is new; on disk as in memory."""
    cluster, store = replace(cluster, pki=pki), Store(store.root.parent / "short")
    store.save(store.prepare(cluster, NOW))
    before, late = held(store), NOW + timedelta(days=101)
    assert rotation.expired(before.authorities, late - timedelta(days=2)) == frozenset()
    assert rotation.expired(before.authorities, late) == rotation.BOTH
    store.save(renewed(rotation.at_once(before, cluster, late), cluster, late))
    after = held(store)
    assert not trusted(after, before)
    assert trusted(after, after)
    assert after.rotation is not None
    assert after.rotation.state is State.TRUST_NEW
    assert rotation.advanced(after).rotation is None
    assert after.token == before.token
    assert len(after.leaves) == 9
    assert rotation.expired(after.authorities, late) == frozenset()


def aging(cluster: ClusterSpec, store: Store, which: Which) -> tuple[ClusterSpec, Store, datetime]:
    """A store in whose replacement of one CA, begun on day 50, the first CAs end."""
    cluster = replace(cluster, pki=PkiSpec(ca_days=100, leaf_days=90))
    store = Store(store.root.parent / "aging")
    store.save(store.prepare(cluster, NOW))
    begun = NOW + timedelta(days=50)
    both = rotation.trust_both(held(store), cluster, begun, frozenset((which,)))
    store.save(renewed(both, cluster, begun))
    return cluster, store, NOW + timedelta(days=101)


@pytest.mark.parametrize("which", ["client", "peer"])
def test_what_a_rotation_has_made_already_is_taken(cluster: ClusterSpec, store: Store, which: Which) -> None:
    """And the CA that it left alone is replaced as well where it has ended too."""
    cluster, store, late = aging(cluster, store, which)
    before = held(store)
    assert before.rotation is not None
    store.save(renewed(rotation.at_once(before, cluster, late), cluster, late))
    after = held(store)
    made = {"client": before.rotation.other.client, "peer": before.rotation.other.peer}[which]
    assert made in (after.authorities.client, after.authorities.peer)
    assert rotation.expired(after.authorities, late) == frozenset()
    assert trusted(after, after)
    assert not trusted(after, before)


@pytest.mark.parametrize("which", ["client", "peer"])
def test_a_ca_that_lives_is_not_replaced_with_the_other(
    cluster: ClusterSpec, store: Store, which: Which
) -> None:
    """The one that was replaced in time stays."""
    cluster, store, late = aging(cluster, store, which)
    for _ in range(3):
        store.save(renewed(rotation.advanced(held(store)), cluster, NOW + timedelta(days=51)))
    before = held(store)
    other: Which = "peer" if which == "client" else "client"
    assert rotation.expired(before.authorities, late) == {other}
    after = rotation.at_once(before, cluster, late)
    assert (after.authorities.client == before.authorities.client) is (which == "client")
    assert (after.authorities.peer == before.authorities.peer) is (which == "peer")
    assert sum("(new, at once" in line for line in after.issued) == 1


def test_a_state_on_disk_is_what_it_was(cluster: ClusterSpec, store: Store) -> None:
    """The CAs on their way in or out with their keys, each in a directory that stays."""
    both = rotation.trust_both(held(store), cluster, NOW)
    store.save(both)
    again = held(store)
    assert again.rotation == both.rotation
    assert again.rotation is not None
    assert again.rotation.other.place == "0002"
    assert (again.ca_bundle, again.peer_ca_bundle) == (both.ca_bundle, both.peer_ca_bundle)
    meta = json.loads((store.root / "current" / "generation.json").read_text())
    assert (meta["signs"], meta["rotation"]) == ("0001", {"state": "trust-both", "other": "0002"})
    store.save(renewed(rotation.advanced(again), cluster, NOW))
    meta = json.loads((store.root / "current" / "generation.json").read_text())
    assert (meta["signs"], meta["rotation"]) == ("0002", {"state": "new-leaves", "other": "0001"})
    assert not store.prepare(cluster, NOW).issued


def rewrite(store: Store, change: Callable[[dict[str, object]], None]) -> None:
    path = store.root / "current" / "generation.json"
    meta = json.loads(path.read_text())
    change(meta["rotation"])
    path.write_text(json.dumps(meta))


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.update(state="trust-nobody"),
        lambda found: found.pop("other"),
        lambda found: found.pop("state"),
    ],
)
def test_a_damaged_state_is_named(
    cluster: ClusterSpec, store: Store, change: Callable[[dict[str, object]], None]
) -> None:
    """Wrong usage, with the file; never taken for no rotation."""
    store.save(rotation.trust_both(held(store), cluster, NOW))
    rewrite(store, change)
    with pytest.raises(UsageError, match=r"generation\.json is damaged"):
        store.load()


def test_cas_of_a_rotation_that_are_gone_are_named(cluster: ClusterSpec, store: Store) -> None:
    """Another number, or a directory that was lost."""
    store.save(rotation.trust_both(held(store), cluster, NOW))
    rewrite(store, lambda found: found.update(other="0009"))
    with pytest.raises(UsageError, match=r"ca/0009/ca\.crt is missing"):
        store.load()


def test_the_state_before(cluster: ClusterSpec, store: Store) -> None:
    """Is the newest older one with other certificates; saved, it is a state of its own."""
    with pytest.raises(Refused, match="holds nothing before the current state"):
        store.former()
    first, both, new, *_ = states(store, cluster)
    back = store.former()
    assert back.issued == ("all certificates (back to generation 0003)",)
    assert (back.rotation, dict(back.leaves)) == (new.rotation, dict(new.leaves))
    store.save(back)
    assert (store.root / "current").readlink() == Path("generations/0006")
    assert held(store).rotation == new.rotation
    assert store.former().rotation is None
    assert dict(first.leaves) == dict(both.leaves)


def test_the_state_before_a_destroy_is_none(cluster: ClusterSpec, store: Store) -> None:
    """Another token: those certificates were another cluster's."""
    store.save(held(store).with_new_token())
    with pytest.raises(Refused, match="generation 0001 is of a cluster that was destroyed since"):
        store.former()
    with pytest.raises(Refused, match="holds nothing before"):
        Store(store.root.parent / "none").former()


def test_a_state_before_that_somebody_overtook_is_not_saved(cluster: ClusterSpec, store: Store) -> None:
    """Two runs at once: the second starts again from what is there."""
    store.save(renewed(rotation.trust_both(held(store), cluster, NOW), cluster, NOW))
    back = store.former()
    store.save(renewed(rotation.advanced(held(store)), cluster, NOW))
    with pytest.raises(Refused, match="was changed by another run"):
        store.save(back)


def _save_dying(store: Store, generation: Generation, change: int) -> int:
    """Save in a process of its own that kills itself ahead of its `change`-th change; its wait status."""
    return killed_at(change, lambda disk: Store(store.root, disk).save(generation))


@pytest.mark.parametrize("begun", [0, 1, 2])
def test_a_state_that_is_killed_while_it_is_saved(cluster: ClusterSpec, store: Store, begun: int) -> None:
    """The one before or the new one, whole; and from there it goes on to the end."""
    cluster, outcomes = replace(cluster, nodes=NODES[:1]), set()
    for change in itertools.count():
        store = Store(store.root.parent / f"killed-{begun}-{change}")
        store.save(store.prepare(cluster, NOW))
        before = rotation.trust_both(held(store), cluster, NOW)
        for _ in range(begun):
            store.save(before)
            before = renewed(rotation.advanced(held(store)), cluster, NOW)
        status = _save_dying(store, before, change)
        found = held(store)
        assert trusted(found, found)
        assert not store.prepare(cluster, NOW).issued
        outcomes.add(found.rotation.state if found.rotation else None)
        if found.rotation is None and begun < 2:
            found = rotation.trust_both(found, cluster, NOW)
            store.save(found)
        while held(store).rotation:
            store.save(renewed(rotation.advanced(held(store)), cluster, NOW))
        assert not list(store.root.rglob(".partial-*"))
        if not os.WIFSIGNALED(status):
            break
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(outcomes) == 2
