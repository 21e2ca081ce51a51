"""CAs are replaced under a running cluster, in three states, killed anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import ExternalSpec
from etcdctl_remote.errors import Refused, Unreachable, UsageError
from etcdctl_remote.operations.certs_issue import issue
from etcdctl_remote.pki import chain
from etcdctl_remote.pki.applications import Asked
from etcdctl_remote.pki.generation import State
from etcdctl_remote.pki.profiles import Kind
from etcdctl_remote.plan.steps import RestartEtcd
from tests.unit.operations.rotating import FORCED, Town, hosts, spec
from tests.unit.operations.world import Crash
from tests.unit.pki import openssl

Found = Callable[..., Town]


def state(town: Town) -> State | None:
    rotation = town.held.rotation
    return rotation.state if rotation else None


def restarts(town: Town, before: dict[str, int]) -> dict[str, int]:
    return {name: count - before[name] for name, count in town.starts().items()}


def steps_of(number: int, todo: object) -> list[str]:
    return [
        type(step).__name__
        for stage in todo.stages  # type: ignore[attr-defined]
        if stage.title.startswith(f"State {number} of 3")
        for step in stage.steps
    ]


@pytest.mark.parametrize("pki", ["", "peer_ca: same"])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_two_rolling_restarts_and_none_for_leaves(found: Found, size: int, pki: str) -> None:
    """Everybody trusts the new CA only, shows leaves of it, and nobody was ever refused."""
    town = found(size, pki=pki)
    before, old = town.starts(), town.held
    todo = town.replace_ca()
    assert len(town.shown) == 1, "asked once"
    for number, restarted in ((1, size), (2, 0), (3, size)):
        assert steps_of(number, todo).count("RestartEtcd") == restarted
    assert restarts(town, before) == dict.fromkeys(before, 2)
    new = town.held
    assert new.rotation is None
    assert new.ca_bundle == new.authorities.client.certificate != old.ca_bundle
    assert new.peer_ca_bundle == new.authorities.peer.certificate != old.peer_ca_bundle
    assert not old.authorities.client.signed(new.leaf("n1", Kind.SERVER).certificate)
    assert town.world.strangers == []
    if size > 1:
        town.assert_unharmed()
    town.assert_whole()


def test_the_plan_is_what_is_done(found: Found) -> None:
    """A dry run shows all three states, in the order and with the steps that follow; nothing changes."""
    town = found()
    before = town.held.seen
    todo = town.replace_ca(dry_run=True)
    assert (town.held.seen, town.world.done) == (before, [])
    titles = {stage.title.partition(":")[0] for stage in todo.stages}
    assert titles == {
        "State 1 of 3, trust both",
        "State 2 of 3, leaves from the new",
        "State 3 of 3, trust the new only",
    }
    done = town.replace_ca()
    assert [stage.title for stage in done.stages] == [stage.title for stage in todo.stages]
    assert len(town.world.done) == todo.changes


def test_the_plan_is_short(found: Found) -> None:
    """Leaves of one issuer are one line, and of a unit in which only the digest changes no diff is shown."""
    todo = found().replace_ca(dry_run=True)
    leaves = [note for note in todo.notes if "issuer changed" in note]
    assert [note.partition(" (")[0] for note in leaves] == [
        "server and client certificates for n1, n2, n3",
        "peer certificates for n1, n2, n3",
    ]
    assert len(todo.notes) == 11
    assert not [step for stage in todo.stages for step in stage.steps if "ETCDCTL_REMOTE_DIGEST" in step.diff]


def test_clients_are_warned_with_the_day(found: Found) -> None:
    """What they have to trust before the leaves change, and from when on they are refused."""
    town = found()
    day = f"{town.held.authorities.client.not_after:%Y-%m-%d}"
    notes = "\n".join(town.replace_ca(dry_run=True).notes)
    assert "clients have to trust the new CA beside 'demo etcd CA " in notes
    assert f"after {day} in any case" in notes
    assert "(signs from now on)" in notes
    assert "(no longer trusted)" in notes


def test_applications_with_certificates_of_the_old_ca_are_named(found: Found) -> None:
    """With their last day, for whoever has to issue them anew; replacing the peer CA concerns none of them."""
    town = found()
    issue(town.cluster, Asked("billing", "", "client", "", 30), datetime.now(UTC))
    notes = "\n".join(town.replace_ca(dry_run=True).notes)
    assert "to be issued anew before that: billing (serial " in notes
    assert "billing" not in "\n".join(town.replace_ca(dry_run=True, which=frozenset(("peer",))).notes)


@pytest.mark.parametrize("which", ["client", "peer"])
def test_one_of_two_cas(found: Found, which: str) -> None:
    """The other CA stays, and so do its leaves."""
    town = found()
    old, before = town.held, town.starts()
    town.replace_ca(which=frozenset((which,)))
    new = town.held
    assert (new.ca_bundle == old.ca_bundle) is (which == "peer")
    assert (new.peer_ca_bundle == old.peer_ca_bundle) is (which == "client")
    for (node, kind), leaf in new.leaves.items():
        stays = (kind is Kind.PEER) is (which == "client")
        assert (leaf == old.leaves[node, kind]) is stays
    assert restarts(town, before) == dict.fromkeys(before, 2)
    town.assert_unharmed()
    town.assert_whole()


def test_one_of_one_ca_is_wrong_usage(found: Found) -> None:
    """Clients and peers share it."""
    town = found(pki="peer_ca: same")
    before = town.held.seen
    with pytest.raises(UsageError, match="share one CA"):
        town.replace_ca(which=frozenset(("client",)))
    assert town.held.seen == before


@pytest.mark.parametrize(
    ("pause", "stopped"), [("before-leaves", State.TRUST_BOTH), ("before-drop", State.NEW_LEAVES)]
)
def test_a_pause_is_kept_and_a_later_run_finishes(found: Found, pause: str, stopped: State) -> None:
    """Whatever else runs meanwhile: the state stays until it is asked for the next one."""
    town = found()
    before = town.starts()
    town.replace_ca(pause=pause)
    assert state(town) is stopped
    assert town.told[-1].startswith("paused after ")
    assert "no longer trusted" not in "".join(town.shown[-1].notes), "the plan ends where the run does"
    assert not town.deploy()
    assert not town.rotate()
    town.rotate(FORCED)
    assert state(town) is stopped
    assert restarts(town, before) == dict.fromkeys(before, 1)
    assert not town.deploy()
    town.replace_ca(pause=pause)
    assert state(town) is stopped
    town.replace_ca()
    assert state(town) is None
    assert restarts(town, before) == dict.fromkeys(before, 2)
    town.assert_unharmed()
    town.assert_whole()


def test_a_pause_that_is_past_is_wrong_usage(found: Found) -> None:
    """The leaves have changed already: nobody could wait for that any more."""
    town = found()
    town.replace_ca(pause="before-drop")
    held = town.held.seen
    with pytest.raises(
        UsageError, match="the replacement is past that, at state 2 of 3, leaves from the new"
    ):
        town.replace_ca(pause="before-leaves")
    assert town.held.seen == held


def test_before_the_drop_the_old_client_is_taken_and_then_no_more(found: Found) -> None:
    """That is what a pause is for."""
    town = found()
    old = town.held.client("n1").certificate_pem.decode()
    for pause, accepted in (("before-leaves", True), ("before-drop", True), ("", False)):
        town.replace_ca(pause=pause)
        assert {town.world.dial(f"10.0.0.{n}", 2379, old).accepted for n in (1, 2, 3)} == {accepted}


@pytest.mark.parametrize("pause", ["before-leaves", "before-drop"])
def test_names_that_change_in_the_middle(found: Found, pause: str) -> None:
    """The leaves concerned are issued by whoever signs in that state."""
    town = found()
    town.replace_ca(pause=pause)
    nodes = [replace(n, names=("x.example",)) if n.name == "n2" else n for n in town.cluster.nodes]
    town.cluster = replace(town.cluster, nodes=tuple(nodes))
    stopped = state(town)
    town.rotate()
    assert state(town) is stopped
    assert "x.example" in town.held.leaf("n2", Kind.SERVER).names
    town.assert_whole()
    town.replace_ca()
    assert "x.example" in town.held.leaf("n2", Kind.SERVER).names
    town.assert_unharmed()
    town.assert_whole()


def test_leaves_alone_are_not_renewed_while_members_lag_behind(found: Found) -> None:
    """Cut off in the last state: some trust both, some the new only; whose task it is is said."""
    town = found()
    todo = town.replace_ca(dry_run=True)
    first = next(n for n, stage in enumerate(todo.stages) if stage.title.startswith("State 3 of 3"))
    town.world.budget = sum(len(stage.steps) for stage in todo.stages[: first + 2])
    with pytest.raises(Crash):
        town.replace_ca()
    town.world.budget = None
    held = town.held.seen
    with pytest.raises(Refused, match=r"n[23]: not restarted yet with the CAs of this store") as caught:
        town.rotate(FORCED)
    assert caught.value.hint.startswith("`rotate-certs --ca` finishes it")
    assert town.held.seen == held
    town.replace_ca()
    town.assert_unharmed()
    town.assert_whole()


def test_leaves_are_renewed_during_a_pause(found: Found) -> None:
    """It may last for weeks; settings that were edited meanwhile come first, and the refusal says so."""
    town = found()
    town.replace_ca(pause="before-drop")
    before = town.shows()
    town.rotate(FORCED)
    assert not set(town.shows().values()) & set(before.values())
    edited = "heartbeat-interval: 200, election-timeout: 2000"
    town.cluster = spec(town.cluster.source.parent, settings=edited)
    with pytest.raises(Refused, match="settings that were edited since") as caught:
        town.rotate(FORCED)
    assert "`deploy` first" in caught.value.hint
    town.deploy()
    before = town.shows()
    town.rotate(FORCED)
    assert not set(town.shows().values()) & set(before.values())
    assert state(town) == "new-leaves"
    town.replace_ca()
    town.assert_unharmed()
    town.assert_whole()


def test_leaves_that_a_running_member_would_not_take_are_not_installed(found: Found) -> None:
    """Observed, not assumed: n3's disk and digest say that it trusts both, and its process does not."""
    town = found()
    old = town.world.machines["n3"].trusts
    town.replace_ca(pause="before-leaves")
    town.world.machines["n3"].trusts = old
    before, done = town.held.seen, len(town.world.done)
    with pytest.raises(Refused, match="new certificates would not fit; nothing was installed") as caught:
        town.replace_ca()
    assert "n3 refuses its new peer certificate: tls alert" in caught.value.hosts["n1"]
    assert "n3 refuses its new peer certificate: tls alert" in caught.value.hosts["n2"]
    assert "its own client port refuses its new client certificate" in caught.value.hosts["n3"]
    assert (town.held.seen, len(town.world.done)) == (before, done)
    town.world.stop("n3")
    town.world.start("n3")
    town.replace_ca()
    town.assert_whole()


def test_every_host_is_needed(found: Found) -> None:
    """One that is out of reach would be locked out by the last state."""
    town = found()
    town.lose("n2")
    before = town.held.seen
    with pytest.raises(Unreachable):
        town.replace_ca()
    assert (town.held.seen, town.world.done) == (before, [])


def test_a_missing_release_is_the_business_of_deploy(found: Found) -> None:
    """Nothing is installed on the way."""
    town = found()
    town.world.machines["n2"].releases.clear()
    before = town.held.seen
    with pytest.raises(Refused, match="as the inventory says") as caught:
        town.replace_ca()
    assert set(caught.value.hosts) == {"n2"}
    assert town.held.seen == before


def test_no_quorum_is_refused(found: Found) -> None:
    """Nothing could be proven, and a rolling restart keeps nothing alive."""
    town = found()
    for name in ("n1", "n2"):
        town.world.stop(name)
    before = town.held.seen
    with pytest.raises(Refused, match="no quorum"):
        town.replace_ca()
    assert town.held.seen == before


def test_a_leader_that_changes_meanwhile(found: Found) -> None:
    """Each state looks anew at who leads."""
    town = found()
    town.world.leader = "n1"
    apply = town.world.apply

    def unruly(step: object) -> None:
        apply(step)  # type: ignore[arg-type]
        if isinstance(step, RestartEtcd):
            others = [name for name in town.world.machines if name != town.world.leader]
            town.world.leader = others[len(town.world.done) % 2]

    town.world.apply = unruly  # type: ignore[method-assign]
    town.replace_ca()
    town.assert_unharmed()
    town.assert_whole()


def test_a_member_that_is_down_is_started_on_the_way(found: Found) -> None:
    """It has to load the bundle of both like everybody else, or it would be locked out."""
    town = found()
    town.world.stop("n3")
    town.world.forget()
    town.replace_ca()
    assert town.world.machines["n3"].running
    town.assert_unharmed()
    town.assert_whole()


def test_twice_are_two_replacements(found: Found) -> None:
    """A finished one is finished: asked for again, the next CA is made."""
    town = found()
    town.replace_ca()
    first = town.held.authorities
    todo = town.replace_ca()
    assert len(hosts(todo)) > 0
    assert town.held.authorities != first
    town.assert_unharmed()
    town.assert_whole()


def test_a_ca_that_was_to_be_another_one_is_not_confused(found: Found) -> None:
    """Asked for the other CA in the middle of a replacement: refused, and what is under way is named."""
    town = found()
    town.replace_ca(which=frozenset(("client",)), pause="before-leaves")
    before = town.held.seen
    with pytest.raises(Refused, match="--ca-only peer"):
        town.replace_ca(which=frozenset(("peer",)))
    assert town.held.seen == before
    town.replace_ca()
    town.assert_whole()


def test_a_store_that_no_member_trusts_any_more_restarts_nobody(found: Found) -> None:
    """An older copy, of before a replacement: its leaves would shut each member out as it restarts."""
    town = found()
    older = town.held
    town.replace_ca()
    town.store.save(replace(older, seen=town.held.seen, issued=("restored",)))
    before, starts = town.held.seen, town.starts()
    with pytest.raises(
        Refused, match="n1, n2, n3: they run with other CAs than those of certs/demo"
    ) as caught:
        town.rotate(FORCED)
    assert "is certs/demo an older copy? Then put the newer one here" in (caught.value.hint or "")
    with pytest.raises(Refused, match="new certificates would not fit") as caught:
        town.replace_ca()
    assert "n2 refuses its new peer certificate" in caught.value.hosts["n1"]
    assert "older copy" in (caught.value.hint or "")
    assert (town.held.seen, town.starts()) == (before, starts)


def test_signing_elsewhere_is_told_before_anything_is_begun(found: Found, tmp_path: Path) -> None:
    """From CAs of our own to somebody else's, through a folder: who signs what is in the plan, once, and by name."""
    town = found(pki="peer_ca: same")
    ca = openssl.root(tmp_path, "theirs")
    away = ExternalSpec(ca.certificate, None, tmp_path / "requests", (), ())
    town.cluster = replace(town.cluster, pki=replace(town.cluster.pki, external=away))
    todo = town.replace_ca(dry_run=True)
    told = [note for note in todo.notes if "to be signed elsewhere, their" in note]
    assert len(told) == 1
    assert all(
        f"{node}-{kind}" in told[0] for node in ("n1", "n2", "n3") for kind in ("server", "peer", "client")
    )
    assert "it stops there with exit 4 until they are signed; then run it again" in todo.notes
    assert not [note for note in todo.notes if "stand-in" in note]
    with pytest.raises(
        Refused, match=r"9 of 9 certificates are to be signed elsewhere: .*; what needs them is not begun"
    ):
        town.replace_ca()
    assert state(town) is State.TRUST_BOTH
    for csr in (tmp_path / "requests").glob("*.csr"):
        csr.with_suffix(".crt").write_bytes(openssl.sign(ca, csr.read_bytes(), tmp_path))
    town.world.clock = datetime.now(UTC) + timedelta(seconds=1)  # what openssl signs begins now
    town.replace_ca()
    assert state(town) is None
    assert town.held.ca_bundle == chain.pem(chain.load(ca.certificate.read_bytes()))
    town.assert_unharmed()
    town.assert_whole()
