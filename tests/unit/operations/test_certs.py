"""`certs` as an operation: all hosts at once, whatever state the laptop and they are in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etcdctl_remote.console.certificates import CertificatesView
from etcdctl_remote.desired.model import CaKeySpec, ClusterSpec
from etcdctl_remote.errors import LoginFailed, Problem, TimedOut, Unreachable
from etcdctl_remote.observed.certificates import NodeCertificates
from etcdctl_remote.observed.state import Served, Wire
from etcdctl_remote.observed.verdicts import Report, Verdict
from etcdctl_remote.operations.certs import certs
from etcdctl_remote.operations.certs_issue import issue
from etcdctl_remote.operations.metrics import exposition
from etcdctl_remote.operations.session import Session
from etcdctl_remote.pki.applications import Asked
from etcdctl_remote.pki.crl import Revoked, revoke
from etcdctl_remote.pki.issued import Used
from etcdctl_remote.pki.profiles import Kind
from etcdctl_remote.pki.rotation import advanced, trust_both
from etcdctl_remote.pki.store import Store
from etcdctl_remote.remote.host import Host, Tunnel
from tests.unit.memory import in_memory
from tests.unit.observed.sights import CLUSTER, generation, issued, on_node
from tests.unit.operations.here import Answer, Canned, said, session

GONE = Unreachable("n3: no route to host", "is it up?")
BLANK = said("\n@@facts\nMainPID=0\n@@end\n")


@dataclass
class Closed(Canned):
    """A host on which nobody listens."""

    def dial(self, address: str, port: int, timeout: float) -> Tunnel:
        raise ConnectionRefusedError(111, "Connection refused")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with in_memory(tmp_path) as made:
        yield made


def stored(folder: Path) -> None:
    """Put certificates beside the inventory."""
    store = Store(folder / "certs" / "demo")
    store.save(store.prepare(CLUSTER, datetime.now(UTC)))


def opened(folder: Path, answer: Answer = BLANK, unreachable: Problem | None = None) -> Session:
    """Two hosts that answer alike, and perhaps a third one that does not."""
    hosts = [Closed(name, {"read certificates": answer}) for name in ("n1", "n2")]
    spec = replace(CLUSTER, source=folder / "inventory.yaml")
    return session(*hosts, unreachable={"n3": unreachable} if unreachable else {}, spec=spec)


def verdicts(report: Report, node: str) -> set[tuple[str, Verdict]]:
    return {(row.place, row.verdict) for row in report.rows if row.node == node}


def test_nothing_anywhere(folder: Path) -> None:
    """Before the first deploy: rows, no traceback, and a note that there is nothing to compare with."""
    report = certs(opened(folder))
    assert not report.deployed
    assert {row.verdict for row in report.rows} == {Verdict.MISSING, Verdict.NOT_SEEN}
    assert report.notes == ("there is no certs/demo beside the inventory, so nothing is compared with it",)


def test_hosts_out_of_reach(folder: Path) -> None:
    """One that was never reached, and two that do not answer: each with its reason; the laptop's are judged."""
    stored(folder)
    for answer in (LoginFailed("n1: sudo asks for a password"), TimedOut("n1: read certificates: 30 s")):
        report = certs(opened(folder, answer, GONE))
        assert set(report.unreachable) == {"n1", "n2", "n3"}
        assert report.unreachable["n3"] == "no route to host"
        assert {fault.do for row in report.rows if row.node == "n3" for fault in row.faults} == {"is it up?"}
        assert ("disk", Verdict.NOT_SEEN) in verdicts(report, "n2")
        assert sum(row.place == "laptop" for row in report.rows) == 2 + 9
        assert report.deployed


def test_a_damaged_store_hides_nothing_of_the_nodes(folder: Path) -> None:
    """It is told, with the way out; nothing is compared."""
    stored(folder)
    (folder / "certs/demo/generations/0001/generation.json").write_text("{")
    report = certs(opened(folder))
    assert "generation.json is damaged" in report.damaged
    assert "cannot be read, so nothing is compared" in report.notes[0]
    assert "laptop" not in {row.place for row in report.rows}
    assert report.deployed


def test_a_key_that_should_be_sealed(folder: Path) -> None:
    """It is told what the inventory says, and what brings the key to it."""
    stored(folder)
    here = opened(folder)
    wanted = replace(here.cluster.pki, ca_key=CaKeySpec("passphrase"))
    (note,) = certs(replace(here, cluster=replace(here.cluster, pki=wanted))).notes
    assert "lies in the clear" in note
    assert "`certs.init` seals it so" in note


def test_a_ca_that_is_being_replaced(folder: Path) -> None:
    """How far it has come, and how to go on; the CA to come is trusted, the old one signs."""
    stored(folder)
    store, now = Store(folder / "certs" / "demo"), datetime.now(UTC)
    store.save(trust_both(store.prepare(CLUSTER, now), CLUSTER, now))
    report = certs(opened(folder))
    assert report.notes == (
        "a CA is being replaced (state 1 of 3, trust both): `rotate-certs --ca` goes on with it",
    )
    assert [row.signs for row in report.rows if row.authority and row.place == "laptop"] == [True, False] * 2
    held = store.load()
    assert held
    store.save(advanced(held))
    assert "(state 2 of 3, leaves from the new)" in certs(opened(folder)).notes[0]


def test_a_mistake_of_ours_is_not_hidden(folder: Path) -> None:
    """What is no Problem ends the task."""
    with pytest.raises(Problem, match="ZeroDivisionError"):
        certs(opened(folder, ZeroDivisionError("x")))


def test_a_rotation_while_it_looks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disk and wire are read one after the other: what differs then is looked at once more."""
    held = generation()
    looks: list[str] = []

    def between(cluster: ClusterSpec, held_here: object, host: Host) -> NodeCertificates:
        looks.append(host.name)
        node = on_node(held, host.name)
        old = Wire(Served(issued(Kind.SERVER, host.name).certificate_pem, True), Served())
        return node if looks.count(host.name) > 1 else replace(node, wire=old)

    monkeypatch.setattr("etcdctl_remote.operations.certs.look", between)
    report = certs(opened(folder))
    assert sorted(looks) == ["n1", "n1", "n2", "n2"]
    assert "differs from disk" not in {str(f.verdict) for row in report.rows for f in row.faults}


def test_it_only_reads(folder: Path) -> None:
    """So it works on a connection that refuses everything else; applications come from who keeps them."""
    found = opened(folder)
    leaf = next(iter(generation().leaves.values()))
    report = certs(found, applications=[Used("billing", leaf)])
    assert report.rows[-1].role == "application"
    for host in found.fleet.hosts.values():
        assert isinstance(host, Closed)
        assert [asked.writes for asked in host.asked] == [False]


def test_what_applications_use_is_in_the_list(folder: Path) -> None:
    """The newest of each name, and what is revoked, marked so; a damaged register hides nothing else, and is told."""
    stored(folder)
    found = opened(folder)
    store = Store.beside(found.cluster)
    made = {
        name: [issue(found.cluster, Asked(name), datetime.now(UTC)).certificate.leaf for _ in range(2)]
        for name in ("app", "gone")
    }
    held = store.load()
    assert held is not None
    entries = [Revoked(leaf.serial, "gone", datetime.now(UTC), None, ("client",)) for leaf in made["gone"]]
    lists = revoke(
        held.revocations,
        entries,
        {"client": held.authorities.client, "peer": held.authorities.peer},
        datetime.now(UTC),
    )
    store.save(replace(held, revocations=lists, issued=("revoked",)))
    report = certs(found)
    listed = [row for row in report.rows if row.role == "application"]
    assert [(row.node, row.leaf and row.leaf.serial, row.verdict) for row in listed] == [
        ("app", made["app"][1].serial, Verdict.OK),
        *(("gone", leaf.serial, Verdict.REVOKED) for leaf in made["gone"]),
    ]
    assert not report.damaged
    ca, text = held.authorities.client.common_name, CertificatesView(report).text(lambda text, style: text)
    app, *gone = [line for line in text.splitlines() if " application " in line]
    assert app.split()[3:5] == [f"{made['app'][1].not_after:%Y-%m-%d}", str(listed[0].days)]
    assert app.endswith(f"ok, by {ca}")
    assert all(line.endswith(f"revoked: issued by {ca}") for line in gone)
    assert not [row for row in listed[1:] if row.failing(timedelta(days=10000))]
    assert listed[0].failing(timedelta(days=10000))
    assert 'node="app"' in exposition(report)
    assert 'node="gone"' not in exposition(report)

    (store.root / "issued" / "0001" / "issued.json").write_text("{")
    damaged = certs(found)
    assert len(damaged.rows) == len(report.rows) - len(listed)
    assert "0001/issued.json is damaged" in damaged.damaged
    assert any("the register cannot be read" in note for note in damaged.notes)
