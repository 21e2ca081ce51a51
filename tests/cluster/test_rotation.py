"""Certificates are renewed and CAs replaced while applications write: nobody notices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from cryptography import x509

from etcdctl_remote.lab.model import Lab
from etcdctl_remote.lab.writer import Seen
from tests.conftest import TOLD

from . import clients, drive
from .drive import Factory
from .pairs import Pair

pytestmark = pytest.mark.cluster

MEMORY = {"/var/lib/etcd": 400}
"""What is measured is TLS: data in memory does not wait for a disk that other tests keep busy."""
SHARE = 20480
"""Of the CPU, twenty times what any other container gets: 200 ms are for etcd, not for its neighbours."""
Tell = Callable[[str, object], None]
"""The fixture `record_property`."""


def deployed(lab_factory: Factory, pair: Pair) -> Lab:
    lab = lab_factory(3, version=pair.version, os=pair.os, disks=MEMORY)
    for node in lab.nodes:
        node.handle().update(cpu_shares=SHARE)
    drive.deploy(lab)
    return lab


def wire(lab: Lab) -> dict[str, int]:
    """Return the serial that each port shows to a new connection, as openssl's library sees it."""
    return {
        f"{node.name}:{port}": drive.served(node, port).serial_number
        for node in lab.nodes
        for port in (2379, 2380)
    }


def test_applications_write_on(
    lab_factory: Factory, tmp_path: Path, record_property: Tell, pair: Pair
) -> None:
    """New leaves cost nobody a thing; a new CA costs whoever holds the bundle no request."""
    lab = deployed(lab_factory, pair)
    record_property(TOLD, f"leaves: {new_leaves(lab, tmp_path / 'leaves')}")
    record_property(TOLD, f"CA: {new_ca(lab, tmp_path / 'ca', tmp_path / 'old')}")


def new_leaves(lab: Lab, folder: Path) -> str:
    """No request fails, none is repeated, no process ends, and every port shows a new certificate."""
    clients.equip(lab, folder)
    before = drive.pids(lab), drive.certificates(lab), wire(lab)
    with clients.writing(lab, folder) as found:
        drive.must(lab, "rotate-certs", "--force", "-y")
    after = drive.pids(lab), drive.certificates(lab), wire(lab)
    assert after[0] == before[0], "no process was restarted"
    assert not set(after[1].values()) & set(before[1].values()), "every leaf on every disk is new"
    assert not set(after[2].values()) & set(before[2].values()), "every port shows a new one"
    unnoticed(lab, found)
    drive.settle_nothing(lab)
    return clients.told(found)


def unnoticed(lab: Lab, found: Mapping[str, Seen]) -> None:
    """Every request was answered the first time, over the connections of the first one."""
    for mode, seen in found.items():
        assert (seen.failed, seen.retried) == ([], []), mode
        assert len(seen.acked) > 30, mode
    assert found["fresh"].connections == len(found["fresh"].acked)
    assert found["kept"].connections == len(lab.nodes)
    assert clients.lost(lab, found) == []


def new_ca(lab: Lab, folder: Path, old: Path) -> str:
    """Two restarts each; who holds the bundle never fails; the old CA's client is refused at the very end."""
    clients.equip(lab, folder)
    clients.equip(lab, old)
    starts = drive.started(lab)
    with clients.writing(lab, folder, retry=True) as found:
        drive.must(lab, "rotate-certs", "--ca", "--pause-before-leaves", "-y")
        for each in (folder, old):
            clients.trust(lab, each)
        drive.must(lab, "rotate-certs", "--ca", "--pause-before-drop", "-y")
        assert all(clients.accepted(lab, old).values()), "the old CA's client is welcome until the last state"
        clients.equip(lab, folder)
        move_leader(lab)
        drive.must(lab, "rotate-certs", "--ca", "-y")
    survived(lab, found, starts)
    changed_sides(lab, folder, old)
    return clients.told(found)


def survived(lab: Lab, found: Mapping[str, Seen], starts: Mapping[str, int]) -> None:
    """No request failed for good, nothing is lost, and each member has restarted twice."""
    for mode, seen in found.items():
        assert seen.failed == [], mode
        assert len(seen.acked) > 100, mode
    done = {name: count - starts[name] for name, count in drive.started(lab).items()}
    assert done == dict.fromkeys(starts, 2), "two restarts in all"
    assert clients.lost(lab, found) == []
    drive.settle_nothing(lab)


def changed_sides(lab: Lab, folder: Path, old: Path) -> None:
    """Members take the new CA's client, and the old one's no more."""
    for each in (folder, old):
        clients.trust(lab, each)
    assert all(clients.accepted(lab, folder).values())
    assert not any(clients.accepted(lab, old).values())


def move_leader(lab: Lab) -> None:
    """Have another member lead, in the middle of it all."""
    seen = drive.document(lab, "status")
    other = next(member["id"] for member in seen["members"] if member["node"] != seen["leader"])
    drive.must(lab, "etcdctl", "-c", f"move-leader {other}", "--node", seen["leader"])


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
