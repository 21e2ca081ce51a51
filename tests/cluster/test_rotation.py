"""Certificates are renewed and CAs replaced while applications write: nobody notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdctl_remote.lab.model import Lab

from . import clients, drive
from .drive import Factory

pytestmark = pytest.mark.cluster

FIRST = "{Nice: -15}"
"""etcd goes before all others on a busy machine: 200 ms are for etcd, not for our neighbours."""
RELEASES = (("3.5.33", "debian12"), ("3.6.14", "debian13"), ("3.7.1", "debian12"))


def deployed(lab_factory: Factory, version: str, os: str, folder: Path) -> Lab:
    lab = lab_factory(3, version=version, os=os)
    drive.edit(lab, service=FIRST)
    drive.deploy(lab)
    clients.equip(lab, folder)
    return lab


def wire(lab: Lab) -> dict[str, int]:
    """Return the serial that each port shows to a new connection, as openssl's library sees it."""
    return {
        f"{node.name}:{port}": drive.served(node, port).serial_number
        for node in lab.nodes
        for port in (2379, 2380)
    }


@pytest.mark.parametrize(("version", "os"), RELEASES)
def test_nobody_notices_new_leaves(lab_factory: Factory, tmp_path: Path, version: str, os: str) -> None:
    """No request fails, none is repeated, no process ends, and every port shows a new certificate."""
    lab = deployed(lab_factory, version, os, tmp_path)
    before = drive.pids(lab), drive.certificates(lab), wire(lab)
    with clients.writing(lab, tmp_path) as found:
        drive.must(lab, "rotate-certs", "--force", "-y")
    after = drive.pids(lab), drive.certificates(lab), wire(lab)
    assert after[0] == before[0], "no process was restarted"
    assert not set(after[1].values()) & set(before[1].values()), "every leaf on every disk is new"
    assert not set(after[2].values()) & set(before[2].values()), "every port shows a new one"
    for mode, seen in found.items():
        assert seen.failed == [], mode
        assert seen.retried == [], mode
        assert len(seen.acked) > 30, mode
    assert found["fresh"].connections == len(found["fresh"].acked)
    assert found["kept"].connections == len(lab.nodes)
    assert clients.lost(lab, found) == []
    drive.settle_nothing(lab)


@pytest.mark.parametrize(("version", "os"), RELEASES)
def test_a_ca_is_replaced_under_traffic(lab_factory: Factory, tmp_path: Path, version: str, os: str) -> None:
    """Two restarts each; a client that holds the bundle never fails; the old CA is refused at the very end."""
    lab = deployed(lab_factory, version, os, tmp_path)
    old = tmp_path / "old"
    clients.equip(lab, old)
    starts = drive.started(lab)
    with clients.writing(lab, tmp_path, retry=True) as found:
        drive.must(lab, "rotate-certs", "--ca", "--pause-before-leaves", "-y")
        for folder in (tmp_path, old):
            (folder / "ca.crt").write_bytes(_store(lab, "ca.crt"))
        drive.must(lab, "rotate-certs", "--pause-before-drop", "-y")
        leader = drive.document(lab, "status")["leader"]
        other = next(node for node in lab.nodes if node.name != leader)
        assert all(accepted(lab, old).values()), "the old CA's client is welcome until the last state"
        clients.equip(lab, tmp_path)
        drive.must(lab, "etcdctl", "-c", f"move-leader {_id(lab, other.name)}", "--node", leader)
        drive.must(lab, "rotate-certs", "--ca", "-y")
    assert not any(accepted(lab, old).values()), "after it nobody takes it"
    assert all(accepted(lab, tmp_path).values())
    assert {name: count - starts[name] for name, count in drive.started(lab).items()} == dict.fromkeys(
        starts, 2
    )
    for mode, seen in found.items():
        assert seen.failed == [], mode
        assert len(seen.acked) > 100, mode
        print(
            f"{version} {mode}: {len(seen.acked)} writes, {len(seen.retried)} tried again, gap {seen.longest_gap:.2f} s"
        )
    assert clients.lost(lab, found) == []
    drive.settle_nothing(lab)


def accepted(lab: Lab, folder: Path) -> dict[str, bool]:
    """Tell which members take the client in a folder."""
    found = {}
    for node in lab.nodes:
        client = clients.Client(folder, "fresh", [])
        try:
            client.put(f"https://{node.address}:2379", "probe", "1")
        except OSError:
            found[node.name] = False
        else:
            found[node.name] = True
    return found


def _store(lab: Lab, name: str) -> bytes:
    return (lab.inventory.parent / "certs" / lab.name / "current" / name).read_bytes()


def _id(lab: Lab, node: str) -> str:
    members = drive.document(lab, "status")["members"]
    found: str = next(member["id"] for member in members if member["node"] == node)
    return found
