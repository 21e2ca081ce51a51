"""What the store keeps, when it issues, and how it speaks of damage."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, PkiSpec
from etcdctl_remote.errors import Refused, UsageError
from etcdctl_remote.pki.disk import Disk
from etcdctl_remote.pki.generation import Due
from etcdctl_remote.pki.profiles import Kind
from etcdctl_remote.pki.store import KEPT, Store
from etcdctl_remote.secret import Secret

from .stores import NODES, NOW, contents


def test_the_first_time_everything_is_issued_and_said(cluster: ClusterSpec) -> None:
    """Two CAs and three leaves a node, a line each, and nothing on the disk before `save`."""
    generation = Store.beside(cluster).prepare(cluster, NOW)
    assert re.fullmatch(r"CA 'demo etcd CA \w{8}' \(new, until 2040-05-14\)", generation.issued[0])
    assert re.fullmatch(r"CA 'demo etcd peer CA \w{8}' \(new, until 2040-05-14\)", generation.issued[1])
    assert generation.issued[2:5] == (
        "server certificate for n1 (new)",
        "peer certificate for n1 (new)",
        "client certificate for n1 (new)",
    )
    assert len(generation.issued) == 11
    assert list(cluster.source.parent.iterdir()) == []


def test_what_was_saved_is_what_is_loaded(cluster: ClusterSpec) -> None:
    """Certificates, keys, bundles and the token come back byte for byte."""
    store = Store.beside(cluster)
    made = store.prepare(cluster, NOW)
    store.save(made)
    found = store.load()
    assert found is not None
    assert (found.token, found.ca_bundle, found.peer_ca_bundle) == (
        made.token,
        made.ca_bundle,
        made.peer_ca_bundle,
    )
    for node in NODES:
        assert found.node_files(node.name) == made.node_files(node.name)


def test_the_second_time_nothing_is_new(store: Store, cluster: ClusterSpec) -> None:
    """Same serials, same token; saving writes not a byte."""
    before, again = contents(store.root), store.prepare(cluster, NOW + timedelta(days=200))
    assert again.issued == ()
    store.save(again)
    assert contents(store.root) == before


def test_preparing_touches_nothing(store: Store, cluster: ClusterSpec) -> None:
    """A plan that would issue everything anew changes neither content nor time of any file."""

    def stamps() -> dict[Path, int]:
        return {path: path.lstat().st_mtime_ns for path in (store.root, *store.root.rglob("*"))}

    before = stamps()
    assert store.prepare(replace(cluster, pki=PkiSpec(key="ecdsa-p384")), NOW).issued
    assert stamps() == before


def test_a_node_gets_exactly_its_files(store: Store, cluster: ClusterSpec) -> None:
    """The names are those of etcdadm and kubeadm; keys, and nothing but keys, are secret."""
    files = store.prepare(cluster, NOW).node_files("n2")
    stems = ("server", "peer", "etcdctl")
    keys = {f"{stem}.key" for stem in stems}
    assert set(files) == {"ca.crt", "peer-ca.crt", *keys, *(f"{stem}.crt" for stem in stems)}
    assert {name for name, content in files.items() if isinstance(content, Secret)} == keys


def test_no_ca_key_ever_goes_to_a_node(store: Store, cluster: ClusterSpec) -> None:
    """Neither the CAs' keys nor those of another node are in what a node gets."""
    generation = store.prepare(cluster, NOW)
    ca_keys = [path.read_bytes() for path in store.root.glob("ca/*/*.key")]
    assert len(ca_keys) == 2
    shipped = {
        node.name: b"".join(
            content.reveal if isinstance(content, Secret) else content
            for content in generation.node_files(node.name).values()
        )
        for node in NODES
    }
    for key in ca_keys:
        body = key.split(b"-----")[2].strip()
        assert not any(body in data for data in shipped.values())
    assert shipped["n1"].count(b"PRIVATE KEY-----") == 2 * 3
    own = generation.client("n1").key_pem.reveal
    assert own in shipped["n1"]
    assert own not in shipped["n2"]


def test_changed_names_renew_exactly_the_leaves_concerned(store: Store, cluster: ClusterSpec) -> None:
    """The others keep their serial and key."""
    changed = replace(NODES[1], names=("n2.example",))
    later = replace(cluster, nodes=(NODES[0], changed, NODES[2]))
    before, after = store.prepare(cluster, NOW), store.prepare(later, NOW)
    assert after.issued == (
        "server certificate for n2 (names changed: +n2.example)",
        "peer certificate for n2 (names changed: +n2.example)",
    )
    renewed = {slot for slot in before.leaves if before.leaves[slot].serial != after.leaves[slot].serial}
    assert renewed == {("n2", Kind.SERVER), ("n2", Kind.PEER)}
    store.save(after)
    assert store.prepare(later, NOW).issued == ()


def test_a_new_node_is_signed_by_the_ca_that_is_there(store: Store, cluster: ClusterSpec) -> None:
    """Adding a member makes no CA and no token."""
    before = store.load()
    bigger = replace(cluster, nodes=(*NODES, NodeSpec("n4", "n4", address="10.0.0.4")))
    after = store.prepare(bigger, NOW)
    assert before is not None
    assert [line.split(" (")[0] for line in after.issued] == [
        f"{kind.value} certificate for n4" for kind in Kind
    ]
    assert (after.token, after.ca_bundle) == (before.token, before.ca_bundle)
    assert after.authorities.peer.signed(after.leaf("n4", Kind.PEER).certificate)


def test_a_node_that_left_is_no_change(store: Store, cluster: ClusterSpec) -> None:
    """Its certificates go when something else changes."""
    smaller = replace(cluster, nodes=NODES[:2])
    assert store.prepare(smaller, NOW).issued == ()
    store.save(store.prepare(replace(smaller, pki=PkiSpec(names=("x.example",))), NOW))
    assert sorted(path.name for path in (store.root / "current").iterdir() if path.is_dir()) == ["n1", "n2"]


def test_only_what_was_asked_for_is_renewed(store: Store, cluster: ClusterSpec) -> None:
    """Kinds and nodes narrow what is looked at; the rest stays and is still shipped."""
    later = replace(cluster, pki=PkiSpec(names=("x.example",)))
    after = store.prepare(later, NOW, Due(kinds=(Kind.PEER,), only=["n3"]))
    assert after.issued == ("peer certificate for n3 (names changed: +x.example)",)
    assert set(after.credentials) == {(node.name, kind) for node in NODES for kind in Kind}


def test_a_leaf_never_issued_is_refused_by_name(cluster: ClusterSpec) -> None:
    """What was left out by `only` cannot be shipped by mistake."""
    generation = Store.beside(cluster).prepare(cluster, NOW, Due(only=["n1"]))
    with pytest.raises(Refused, match="no server certificate for n2"):
        generation.node_files("n2")


def test_expired_leaves_are_replaced_and_ending_ones_on_demand(store: Store, cluster: ClusterSpec) -> None:
    """deploy leaves an ending certificate alone; a window takes it in."""
    late = NOW + timedelta(days=360)
    assert store.prepare(cluster, late).issued == ()
    assert len(store.prepare(cluster, late, Due(within=timedelta(days=30))).issued) == 9
    expired = store.prepare(cluster, NOW + timedelta(days=366)).issued
    assert expired[0] == "server certificate for n1 (expired on 2031-05-17)"


def test_a_leaf_cut_short_by_its_ca_says_so(store: Store, cluster: ClusterSpec) -> None:
    """A CA of ten years signs no full year in its tenth."""
    line = store.prepare(cluster, NOW + timedelta(days=3500)).issued[0]
    assert line.endswith("(expired on 2031-05-17; cut to 2040-05-14, the end of its CA)")


def test_an_expired_ca_is_refused_with_the_way_out(store: Store, cluster: ClusterSpec) -> None:
    """No new CA is made under a running cluster."""
    with pytest.raises(Refused, match=r"expired on 2040-05-14") as caught:
        store.prepare(cluster, NOW + timedelta(days=3651))
    assert "rotate-certs --ca" in caught.value.hint


@pytest.mark.parametrize(("first", "then"), [("separate", "same"), ("same", "separate")])
def test_the_peer_ca_of_a_cluster_cannot_be_switched(cluster: ClusterSpec, first: str, then: str) -> None:
    """Members that run would not trust the other CA."""
    specs = {"separate": PkiSpec(peer_ca="separate"), "same": PkiSpec(peer_ca="same")}
    store = Store.beside(cluster)
    store.save(store.prepare(replace(cluster, pki=specs[first]), NOW))
    with pytest.raises(Refused, match=f"made with `peer_ca: {first}`"):
        store.prepare(replace(cluster, pki=specs[then]), NOW)


def test_a_new_token_is_a_change_and_keeps_the_cas(store: Store, cluster: ClusterSpec) -> None:
    """A cluster that starts over after destroy has its CAs and nothing else of the former one's."""
    before = store.prepare(cluster, NOW)
    store.save(before.with_new_token())
    held, after = store.load(), store.prepare(cluster, NOW)
    assert held is not None
    assert (held.credentials, held.leaves) == ({}, {})
    assert held.token == after.token != before.token
    assert after.node_files("n1")["peer-ca.crt"] == before.node_files("n1")["peer-ca.crt"]
    assert len(after.issued) == 9


def test_the_generations_before_stay_and_older_ones_go(store: Store, cluster: ClusterSpec) -> None:
    """Three ways back, and no heap of old keys."""
    for number in range(5):
        store.save(store.prepare(replace(cluster, pki=PkiSpec(names=(f"x{number}.example",))), NOW))
    names = sorted(path.name for path in (store.root / "generations").iterdir())
    assert names == ["0003", "0004", "0005", "0006"]
    assert len(names) == KEPT
    assert (store.root / "current").readlink() == Path("generations/0006")


def test_a_state_that_another_run_changed_is_refused(store: Store, cluster: ClusterSpec) -> None:
    """The second of two that prepared from one state starts again."""
    wish = replace(cluster, pki=PkiSpec(names=("x.example",)))
    one, two = store.prepare(wish, NOW), store.prepare(wish, NOW)
    store.save(one)
    with pytest.raises(Refused, match="changed by another run"):
        store.save(two)
    assert store.prepare(wish, NOW).node_files("n1") == one.node_files("n1")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277])
def test_files_are_private_whatever_the_umask(cluster: ClusterSpec, umask: int) -> None:
    """0700 and 0600, up to the directory of all clusters."""
    store, before = Store.beside(cluster), os.umask(umask)
    try:
        store.save(store.prepare(cluster, NOW))
    finally:
        os.umask(before)
    for path in (store.root.parent, store.root, *store.root.rglob("*")):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_no_key_is_ever_open_even_for_an_instant(cluster: ClusterSpec) -> None:
    """At each single change under umask 000, whatever lies on the disk is already private."""
    seen: list[Path] = []

    def look(_: str) -> None:
        for path in cluster.source.parent.rglob("*"):
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                continue
            if path.is_file() and mode & 0o077:
                seen.append(path)

    store, before = Store(Store.beside(cluster).root, Disk(look)), os.umask(0)
    try:
        store.save(store.prepare(cluster, NOW))
    finally:
        os.umask(before)
    assert seen == []


def test_everything_is_on_the_disk_before_the_link_says_so(cluster: ClusterSpec) -> None:
    """Each file and directory is synced before a rename can make it visible."""
    log: list[str] = []
    root = Store.beside(cluster).root
    store = Store(root, Disk(log.append))
    store.save(store.prepare(cluster, NOW))
    written = {line.removeprefix("write ") for line in log if line.startswith("write ")}
    last = max(
        number for number, line in enumerate(log) if line == f"rename {root}/.partial-current {root}/current"
    )
    synced = {line.removeprefix("fsync ") for line in log[:last] if line.startswith("fsync ")}
    made = {line.removeprefix("mkdir ") for line in log if line.startswith("mkdir ")}
    assert len(written) == 4 + 3 + 18
    assert written | {path for path in made if ".partial-" in path} <= synced
    assert {f"{root}/ca", f"{root}/generations", str(root)} <= synced
    assert log[last + 1] == f"fsync {root}"


@pytest.mark.parametrize("name", ["../n1", "a/b", ".hidden", "ca.crt"])
def test_a_node_name_never_leaves_the_store(cluster: ClusterSpec, name: str) -> None:
    """Whatever passes elsewhere for a member name is not used as a path."""
    store = Store.beside(cluster)
    generation = store.prepare(replace(cluster, nodes=(replace(NODES[0], name=name),)), NOW)
    with pytest.raises(UsageError, match="cannot be the name of a directory"):
        store.save(generation)
    assert not store.root.exists()


@pytest.fixture
def stopwatch() -> Callable[[Callable[[], object]], float]:
    """Take the best of five, in milliseconds: what a busy machine cannot spoil."""

    def best(act: Callable[[], object]) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            act()
            times.append(time.perf_counter() - start)
        return min(times) * 1000

    return best


def test_three_nodes_are_prepared_at_once(
    store: Store, cluster: ClusterSpec, stopwatch: Callable[[Callable[[], object]], float]
) -> None:
    """Two CAs and nine leaves in 50 ms, an unchanged store read in 15 ms (measured: 8 and 4)."""
    fresh = Store(store.root.with_name("fresh"))
    assert stopwatch(lambda: fresh.prepare(cluster, NOW)) < 50
    assert stopwatch(lambda: store.prepare(cluster, NOW)) < 15
