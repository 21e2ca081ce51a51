"""Killed at any moment, or run twice at once, the store loads and holds one whole state."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, PkiSpec, Version
from etcdctl_remote.errors import Refused
from etcdctl_remote.operations.certs_issue import issue
from etcdctl_remote.pki.applications import Asked
from etcdctl_remote.pki.disk import Disk
from etcdctl_remote.pki.issued import entry_files, issued
from etcdctl_remote.pki.store import Store

from .stores import NOW, killed_at

NODES = tuple(NodeSpec(f"n{i}", f"n{i}", address=f"10.0.0.{i}") for i in (1, 2))


@pytest.fixture
def cluster(tmp_path: Path) -> ClusterSpec:
    return ClusterSpec("demo", Version(3, 6, 14), NODES, tmp_path / "inventory.yaml")


def _save_dying(store: Store, cluster: ClusterSpec, change: int) -> int:
    """Save in a process of its own that kills itself ahead of its `change`-th change; its wait status."""
    generation = store.prepare(cluster, NOW)
    return killed_at(change, lambda disk: Store(store.root, disk).save(generation))


def test_a_first_save_killed_anywhere_is_finished_by_the_next_run(cluster: ClusterSpec) -> None:
    """A CA that reached the disk is used, never replaced; nothing half done is left."""
    certs = Store.beside(cluster).root.parent
    for change in itertools.count():
        store = Store(certs / f"killed-{change}")
        status = _save_dying(store, cluster, change)
        ca = [path.read_bytes() for path in store.root.glob("ca/0001/ca.crt")]
        again = store.prepare(cluster, NOW)
        assert [again.ca_bundle] == ca or not ca, change
        store.save(again)
        assert [path.name for path in (store.root / "ca").iterdir()] == ["0001"], change
        assert not list(store.root.rglob(".partial-*")), change
        assert store.prepare(cluster, NOW).issued == (), change
        if not os.WIFSIGNALED(status):
            break
    assert os.waitstatus_to_exitcode(status) == 0
    assert change > 40


def test_a_later_save_killed_anywhere_leaves_the_old_state_or_the_new(cluster: ClusterSpec) -> None:
    """Every node's files are all from before or all from after, and the next run completes."""
    store = Store.beside(cluster)
    store.save(store.prepare(cluster, NOW))
    outcomes = set()
    for change in itertools.count():
        wish = replace(cluster, pki=PkiSpec(names=(f"x{change}.example",)))
        before = store.load()
        status = _save_dying(store, wish, change)
        after, again = store.load(), store.prepare(wish, NOW)
        assert before is not None
        assert after is not None
        assert (after.token, after.ca_bundle) == (before.token, before.ca_bundle)
        same = [after.node_files(node.name) == before.node_files(node.name) for node in NODES]
        assert len(set(same)) == 1, change
        assert bool(again.issued) is same[0], change
        outcomes.add(same[0])
        store.save(again)
        assert store.prepare(wish, NOW).issued == ()
        if not os.WIFSIGNALED(status):
            break
    assert os.waitstatus_to_exitcode(status) == 0
    assert change > 20
    assert outcomes == {True, False}


RACER = """
import sys
from pathlib import Path
from etcdctl_remote.errors import Refused
from etcdctl_remote.pki.store import Store
from etcdctl_remote.pki.disk import Disk
from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, Version
from datetime import datetime, UTC
root = Path(sys.argv[1])
nodes = tuple(NodeSpec(f"n{i}", f"n{i}", address=f"10.0.0.{i}") for i in (1, 2))
cluster = ClusterSpec("demo", Version(3, 6, 14), nodes, root / "inventory.yaml")
generation = Store(root).prepare(cluster, datetime(2030, 5, 17, 12, tzinfo=UTC))
print("ready", flush=True)
sys.stdin.readline()
try:
    Store(root).save(generation)
    print("saved", generation.token)
except Refused as refused:
    print("refused", refused.message)
"""


def test_two_first_deploys_at_once_make_one_ca(cluster: ClusterSpec) -> None:
    """Of several processes that prepared a first state, one saves; the others are refused."""
    store = Store.beside(cluster)
    command = [sys.executable, "-c", RACER, str(store.root)]
    package = Path(__file__).parents[3]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=package)
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=30)[0].split(maxsplit=1) for racer in racers]
    winners = [rest.strip() for word, rest in said if word == "saved"]
    assert len(winners) == 1, said
    assert [word for word, _ in said].count("refused") == 3
    found = store.load()
    assert found is not None
    assert found.token == winners[0]
    assert len(list((store.root / "ca").iterdir())) == 1


def test_while_one_writes_the_other_is_told(cluster: ClusterSpec) -> None:
    """The lock is held from the first change to the last, and a reader needs none."""
    store = Store.beside(cluster)
    store.save(store.prepare(cluster, NOW))
    wish = replace(cluster, pki=PkiSpec(names=("x.example",)))
    seen: list[str] = []

    def intrude(_: str) -> None:
        assert store.load() is not None
        with pytest.raises(Refused) as caught:
            store.save(other)
        seen.append(caught.value.message)

    other = store.prepare(wish, NOW)
    Store(store.root, Disk(intrude)).save(store.prepare(wish, NOW))
    assert len(seen) > 20
    assert all("another process is changing these certificates" in message for message in seen)


def _enrol_dying(store: Store, files: Mapping[str, bytes], change: int) -> int:
    """Enter a certificate in a process of its own that kills itself; its wait status."""
    return killed_at(change, lambda disk: Store(store.root, disk).enrol(files))


def test_an_entry_in_the_register_is_whole_or_not_there(cluster: ClusterSpec) -> None:
    """Killed anywhere, the register is read, the store is as it was, and the next entry gets its number."""
    store = Store.beside(cluster)
    store.save(store.prepare(cluster, NOW))
    held, made = store.load(), issue(cluster, Asked("app"), NOW).certificate
    for change in itertools.count():
        before = len(issued(store.root))
        status = _enrol_dying(store, entry_files(made), change)
        after = issued(store.root)
        assert len(after) - before in (0, 1), change
        assert {one.leaf.serial for one in after} == {made.leaf.serial}
        assert store.load() == held
        if not os.WIFSIGNALED(status):
            break
    assert os.waitstatus_to_exitcode(status) == 0
    assert change > 5
    assert not list(store.root.rglob(".partial-*"))
