"""Certificates are renewed and CAs replaced while applications write: nobody notices."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from etcdctl_remote.lab.model import Lab

from . import clients, drive
from .drive import Factory

pytestmark = pytest.mark.cluster

MEMORY = {"/var/lib/etcd": 400}
"""What is measured is TLS: data in memory does not wait for a disk that other tests keep busy."""
SHARE = 20480
"""Of the CPU, twenty times what any other container gets: 200 ms are for etcd, not for its neighbours."""
RELEASES = (("3.5.33", "debian12"), ("3.6.14", "debian13"), ("3.7.1", "debian12"))


def deployed(lab_factory: Factory, version: str, os: str, folder: Path) -> Lab:
    lab = lab_factory(3, version=version, os=os, disks=MEMORY)
    for node in lab.nodes:
        node.handle().update(cpu_shares=SHARE)
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
def test_applications_write_on(lab_factory: Factory, tmp_path: Path, version: str, os: str) -> None:
    """New leaves cost nobody a thing; a new CA costs whoever holds the bundle no request."""
    lab = deployed(lab_factory, version, os, tmp_path / "leaves")
    new_leaves(lab, tmp_path / "leaves")
    new_ca(lab, tmp_path / "ca", tmp_path / "old")


def new_leaves(lab: Lab, folder: Path) -> None:
    """No request fails, none is repeated, no process ends, and every port shows a new certificate."""
    before = drive.pids(lab), drive.certificates(lab), wire(lab)
    with clients.writing(lab, folder) as found:
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


def new_ca(lab: Lab, folder: Path, old: Path) -> None:
    """Two restarts each; who holds the bundle never fails; the old CA's client is refused at the very end."""
    clients.equip(lab, folder)
    clients.equip(lab, old)
    starts = drive.started(lab)
    with clients.writing(lab, folder, retry=True) as found:
        drive.must(lab, "rotate-certs", "--ca", "--pause-before-leaves", "-y")
        for each in (folder, old):
            (each / "ca.crt").write_bytes(_store(lab, "ca.crt"))
        drive.must(lab, "rotate-certs", "--ca", "--pause-before-drop", "-y")
        assert all(accepted(lab, old).values()), "the old CA's client is welcome until the last state"
        clients.equip(lab, folder)
        move_leader(lab)
        drive.must(lab, "rotate-certs", "--ca", "-y")
    assert not any(accepted(lab, old).values()), "after it nobody takes it"
    assert all(accepted(lab, folder).values())
    done = {name: count - starts[name] for name, count in drive.started(lab).items()}
    assert done == dict.fromkeys(starts, 2), "two restarts in all"
    for mode, seen in found.items():
        assert seen.failed == [], mode
        assert len(seen.acked) > 100, mode
        print(
            f"{mode}: {len(seen.acked)} writes, {len(seen.retried)} tried again, gap {seen.longest_gap:.2f} s"
        )
    assert clients.lost(lab, found) == []
    drive.settle_nothing(lab)


def move_leader(lab: Lab) -> None:
    """Have another member lead, in the middle of it all."""
    seen = drive.document(lab, "status")
    other = next(member["id"] for member in seen["members"] if member["node"] != seen["leader"])
    drive.must(lab, "etcdctl", "-c", f"move-leader {other}", "--node", seen["leader"])


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


def test_new_names_renew_the_leaves_concerned_and_no_other(lab3: Lab) -> None:
    """`plan`, `rotate-certs` and `deploy` agree on which, and nobody restarts; `--back` undoes it."""
    drive.deploy(lab3)
    before, pids = drive.certificates(lab3), drive.pids(lab3)
    drive.edit_node(lab3, "n2", f'{{address: "{lab3.nodes[1].address}", names: [etcd.example.org]}}')
    planned = drive.run(lab3, "plan", "-o", "json").json()
    alone = drive.document(lab3, "rotate-certs", "--dry-run")
    for found in (planned, alone):
        assert [(step["host"], stage["title"]) for stage in found["stages"] for step in stage["steps"]] == [
            ("n2", "Switch n2 to its new certificates")
        ]
    assert {note for note in alone["notes"] if "names changed" in note} == {
        f"{kind} certificate for n2 (names changed: +etcd.example.org)" for kind in ("server", "peer")
    }
    drive.deploy(lab3)
    changed = {name for name, serial in drive.certificates(lab3).items() if before[name] != serial}
    assert changed == {"n2/server", "n2/peer"}
    for port in (2379, 2380):
        names = drive.served(lab3.nodes[1], port).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        assert "etcd.example.org" in names.value.get_values_for_type(x509.DNSName)
    drive.settle_nothing(lab3)
    refused = drive.run(lab3, "rotate-certs", "--back", "-y")
    assert refused.code == 4, refused
    drive.tells(refused, "n2", "it does not name etcd.example.org")
    drive.edit_node(lab3, "n2", lab3.nodes[1].address)
    drive.must(lab3, "rotate-certs", "--back", "-y")
    assert drive.certificates(lab3) == before
    assert drive.pids(lab3) == pids
