"""What the store knows of its cluster: on which nodes it is, and that it was seen serving."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, PkiSpec, Version
from etcdctl_remote.errors import Failed, Refused, UsageError
from etcdctl_remote.pki.disk import Disk
from etcdctl_remote.pki.generation import Formed, Generation, refuse_other_nodes
from etcdctl_remote.pki.store import Store

from .stores import NOW, killed_at

SERVED = Formed(0xABC123, NOW)


def nodes(addresses: Mapping[str, str]) -> tuple[NodeSpec, ...]:
    return tuple(NodeSpec(name, name, address=address) for name, address in addresses.items())


@pytest.fixture
def cluster(tmp_path: Path) -> ClusterSpec:
    specs = nodes({"n1": "10.0.0.1", "n2": "10.0.0.2", "n3": "fd00::3"})
    pki = PkiSpec(names=("etcd.example", "10.9.9.9"))
    return ClusterSpec("demo", Version(3, 6, 14), specs, tmp_path / "inventory.yaml", pki=pki)


def held(store: Store) -> Generation:
    found = store.load()
    assert found is not None
    return found


# -- the nodes -------------------------------------------------------------------------------


def test_another_cluster_of_the_same_name_gets_nothing(store: Store, cluster: ClusterSpec) -> None:
    """The names n1 … n3 are everybody's: addresses count. Both sides are named, with the way out."""
    other = replace(cluster, nodes=nodes({"n1": "10.1.0.1", "n2": "10.1.0.2"}))
    with pytest.raises(Refused) as caught:
        store.prepare(other, NOW)
    said = caught.value.message
    assert "n1 (10.0.0.1, " in said
    assert "n3 (10.9.9.9, etcd.example, fd00::3)" in said
    assert f"{cluster.source} names none of these addresses, but n1 (10.1.0.1), n2 (10.1.0.2)" in said
    assert "another `cluster:` name, or a folder of its own" in caught.value.hint


@pytest.mark.parametrize(
    "addresses",
    [
        {"n1": "10.0.0.1", "n2": "10.1.0.2", "n3": "10.1.0.3"},
        {"n4": "10.0.0.4", "n2": "10.0.0.2"},
        {"renamed": "10.0.0.1"},
        {"n3": "FD00:0::3"},
    ],
)
def test_one_address_in_common_is_enough(
    store: Store, cluster: ClusterSpec, addresses: Mapping[str, str]
) -> None:
    """Nodes come, go, move and are renamed; whether a task may do that is its own question."""
    after = store.prepare(replace(cluster, nodes=nodes(addresses)), NOW)
    assert (after.token, after.ca_bundle) == (held(store).token, held(store).ca_bundle)


def test_what_was_saved_since_counts(store: Store, cluster: ClusterSpec) -> None:
    """Once the store knows the moved nodes, the former addresses are nobody's."""
    for addresses in (
        {"n1": "10.0.0.1", "n2": "10.1.0.2", "n3": "10.1.0.3"},
        {"n1": "10.1.0.1", "n2": "10.1.0.2", "n3": "10.1.0.3"},
    ):
        store.save(store.prepare(replace(cluster, nodes=nodes(addresses)), NOW))
    with pytest.raises(Refused, match="belongs to a cluster on n1"):
        store.prepare(cluster, NOW)


def test_what_others_dial_is_compared_not_what_is_bound(store: Store, cluster: ClusterSpec) -> None:
    """Behind two NATs the same private addresses are different hosts; an extra name is no address."""
    behind = replace(nodes({"n1": "10.0.0.1"})[0], advertise="198.51.100.1", names=("n1",))
    with pytest.raises(Refused, match=r"but n1 \(198\.51\.100\.1\)"):
        store.prepare(replace(cluster, nodes=(behind,)), NOW)
    dialled = replace(behind, address="192.168.0.1", advertise="10.0.0.1")
    assert store.prepare(replace(cluster, nodes=(dialled,)), NOW).token == held(store).token


def test_an_address_not_known_yet_is_no_contradiction(store: Store, cluster: ClusterSpec) -> None:
    """A node named by an interface that could not be read says nothing."""
    unread = tuple(replace(node, address=None, interface="eth1") for node in cluster.nodes)
    refuse_other_nodes(held(store), replace(cluster, nodes=unread))
    moved = NodeSpec("n1", "n1", address="10.1.0.1")
    with pytest.raises(Refused):
        refuse_other_nodes(held(store), replace(cluster, nodes=(moved, *unread[1:])))


def test_after_destroy_the_store_belongs_to_nobody(store: Store, cluster: ClusterSpec) -> None:
    """The next cluster of this name may be on other hosts; from its first save on it is theirs."""
    store.save(held(store).with_new_token())
    other = replace(cluster, nodes=nodes({"n1": "10.1.0.1"}))
    store.save(store.prepare(other, NOW))
    assert store.prepare(other, NOW).issued == ()
    with pytest.raises(Refused):
        store.prepare(cluster, NOW)


# -- that it served --------------------------------------------------------------------------


def test_a_cluster_that_served_is_remembered_once(store: Store, cluster: ClusterSpec) -> None:
    """With its id and the first time; issuing certificates does not forget it."""
    assert held(store).formed is None
    store.remember(held(store).token, SERVED)
    store.remember(held(store).token, replace(SERVED, seen=NOW.replace(year=2031)))
    assert held(store).formed == SERVED
    assert str(SERVED) == "cluster abc123, seen serving on 2030-05-17"
    store.save(store.prepare(replace(cluster, pki=PkiSpec(names=("more.example",))), NOW))
    assert held(store).formed == SERVED
    assert store.prepare(cluster, NOW).formed == SERVED


def test_another_token_is_another_cluster_and_the_way_back_is_one_link(store: Store) -> None:
    """After destroy nothing is remembered; going back to the generation before brings it back."""
    before = held(store)
    store.remember(before.token, SERVED)
    store.save(held(store).with_new_token())
    assert held(store).formed is None
    (store.root / "current").unlink()
    (store.root / "current").symlink_to("generations/0001")
    assert (held(store).token, held(store).formed) == (before.token, SERVED)


def test_two_destroys_later_the_first_can_still_be_undone(store: Store, cluster: ClusterSpec) -> None:
    """A destroy, a new cluster, and the destroy that its undoing asks for first."""
    token = held(store).token
    store.save(held(store).with_new_token())
    store.save(store.prepare(cluster, NOW))
    store.save(held(store).with_new_token())
    (store.root / "current").unlink()
    (store.root / "current").symlink_to("generations/0001")
    assert held(store).token == token
    assert held(store).leaves


def _remember(root: Path, token: str, disk: Disk) -> None:
    Store(root, disk).remember(token, SERVED)


def test_remembering_killed_anywhere_is_all_or_nothing(store: Store, cluster: ClusterSpec) -> None:
    """The store loads at every moment, and the next run completes it."""
    for change in itertools.count():
        token = held(store).token
        store.save(held(store).with_new_token())
        token = held(store).token
        status = killed_at(change, partial(_remember, store.root, token))
        assert held(store).formed in (None, SERVED)
        store.remember(token, SERVED)
        assert held(store).formed == SERVED
        store.save(store.prepare(cluster, NOW))
        assert not list(store.root.rglob(".partial-*")), change
        if not os.WIFSIGNALED(status):
            break
    assert os.waitstatus_to_exitcode(status) == 0
    assert change > 5


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"cluster_id": "xyz", "seen": "2030-05-17"}'])
def test_a_damaged_memory_is_named(store: Store, content: str) -> None:
    """It is not taken for none: that would make the cluster a new one."""
    store.remember(held(store).token, SERVED)
    path = store.root / "formed" / held(store).token / "cluster.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"cluster\.json is damaged") as caught:
        store.load()
    assert str(path) in caught.value.message


def test_a_disk_that_cannot_be_written_is_told(store: Store) -> None:
    """With the path, and as a failure: the cluster itself is as it is."""
    token = held(store).token
    (store.root / "formed").write_text("in the way")
    with pytest.raises(Failed, match=f"{store.root}/formed"):
        store.remember(token, SERVED)
