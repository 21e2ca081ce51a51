"""`certs` as it is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

from syrupy.assertion import SnapshotAssertion

from etcdctl_remote.console.certificates import CertificatesView, document
from etcdctl_remote.console.style import ansi, plain
from etcdctl_remote.observed.state import Served, Wire
from etcdctl_remote.observed.verdicts import Fault, Report, Row, Sight, Verdict
from etcdctl_remote.pki.inspect import Leaf, read_leaf
from etcdctl_remote.pki.profiles import Kind
from tests.unit.observed.sights import BORN, changed, generation, healthy

DAY = timedelta(days=1)


def leaf(subject: str, digest: str, days: int = 365) -> Leaf:
    """A certificate whose numbers are the same in every run."""
    real = read_leaf(generation().credential("n1", Kind.SERVER).certificate_pem)
    return replace(
        real,
        subject=subject,
        issuer="demo etcd CA",
        serial=digest[:4],
        fingerprint=digest * 8,
        not_after=BORN + days * DAY,
    )


def row(node: str, role: str, place: str, what: Leaf | None, *faults: Fault, signs: bool = False) -> Row:
    return Row(node, role, place, what, what.not_after - BORN if what else None, faults, signs)


CLIENT_CA, PEER_CA = (
    leaf("demo etcd CA 1f2e3d4c", "aa11bb22", 3650),
    leaf("demo etcd peer CA 5a6b7c8d", "cc33dd44", 3650),
)
PEER = leaf("etcd-peer-n2", "33334444", 100)
OTHER = leaf("etcd-peer-n2", "55556666", 20)
AUTHORITIES = tuple(
    row(node, role, place, ca, signs=True)
    for role, ca in (("client CA", CLIENT_CA), ("peer CA", PEER_CA))
    for node, place in (("-", "laptop"), ("n1", "disk"), ("n2", "disk"))
)
NAMES = Fault(Verdict.WRONG_NAMES, "it lacks 10.0.0.2, n2.example.net", "`deploy` puts the laptop's there")
DIFFERS = Fault(Verdict.DIFFERS_FROM_LAPTOP, "not the laptop's", "`deploy` puts the laptop's there")
CLOSED = Fault(Verdict.NOT_SEEN, "Connection refused", "`logs --node n2`, then `start`")
GONE = Fault(Verdict.NOT_SEEN, "no route to host", "make n3 reachable")
ROWS = (
    *AUTHORITIES,
    row("n3", "client CA", "disk", None, GONE),
    row("n3", "peer CA", "disk", None, GONE),
    *(
        row("n1", "server", place, leaf("etcd-server-n1", "11112222"))
        for place in ("laptop", "disk", "wire:2379")
    ),
    row(
        "n2",
        "peer",
        "laptop",
        PEER,
        Fault(Verdict.EXPIRING, "ends on 2030-08-25, in 100 days", "`rotate-certs`"),
    ),
    row("n2", "peer", "disk", OTHER, NAMES, DIFFERS),
    row("n2", "peer", "wire:2380", None, CLOSED),
    row("n3", "server", "disk", None, GONE),
    row("n3", "server", "wire:2379", None, GONE),
    row("billing", "application", "laptop", leaf("billing", "77778888", 500)),
)
REPORT = Report("demo", BORN, ROWS, ("there is a note",), {"n3": "no route to host"})


def test_the_table(snapshot: SnapshotAssertion) -> None:
    """CAs above; one row where places agree, else a row for each; what to do; what ends first."""
    assert CertificatesView(REPORT, 30 * DAY).text(plain) == snapshot


def test_the_table_on_a_terminal(snapshot: SnapshotAssertion) -> None:
    """100 columns are enough."""
    assert CertificatesView(REPORT).text(plain, 100) == snapshot
    assert "\x1b[31mwrong names" in CertificatesView(REPORT).text(ansi)


def test_nothing_is_deployed_yet() -> None:
    """One line, and the next task."""
    gone = Fault(Verdict.MISSING, "etcd is not installed on n1", "`deploy`")
    text = CertificatesView(Report("demo", BORN, (row("n1", "server", "disk", None, gone),))).text(plain)
    assert text == "demo is not deployed yet: there is no certificate anywhere. Next: `deploy`"


def test_what_has_expired_is_said_so() -> None:
    """No "in -3 days"."""
    old = Row("n1", "server", "disk", leaf("x", "11112222", 1), -3 * DAY)
    text = CertificatesView(Report("demo", BORN, (old,))).text(plain)
    assert "on 2030-05-18, and has expired: `rotate-certs` renews it" in text


def test_what_fails_by_its_date_alone_is_said_so() -> None:
    """Nothing else is wrong with it: how long, and what renews it before it is due."""
    rows = (row("n1", "server", "disk", leaf("x", "11112222", 365)), AUTHORITIES[0])
    text = CertificatesView(Report("demo", BORN, rows), 4000 * DAY).text(plain)
    assert "fails: n1 (server): ends within 4000d: `rotate-certs --within 4000d`" in text
    assert "fails: laptop (client CA): ends within 4000d: `rotate-certs --ca`" in text


def test_no_renewal_is_advised_that_would_not_last() -> None:
    """A new one would live no longer than the limit: monitoring would go on calling."""
    rows = (row("n1", "server", "disk", leaf("x", "11112222", 365)), AUTHORITIES[0])
    report = Report("demo", BORN, rows, leaf_days=365, ca_days=3650)
    for limit, none in ((365, ["pki.leaf_days"]), (4000, ["pki.leaf_days", "pki.ca_days"])):
        text = CertificatesView(report, limit * DAY).text(plain)
        fails = [line for line in text.splitlines() if line.startswith("fails: ")]
        assert len(fails) == len(none)
        assert all("no new one lasts so long" in line and "`rotate-certs" not in line for line in fails)
        assert [key for key in ("pki.leaf_days", "pki.ca_days") if key in text] == none
    short = Report("demo", BORN, (row("n1", "server", "disk", leaf("x", "11112222", 20)),), leaf_days=365)
    assert "ends within 363d: `rotate-certs --within 363d`" in CertificatesView(short, 363 * DAY).text(plain)


def test_a_renewal_is_advised_once_it_would_happen() -> None:
    """Before the last third of its life `rotate-certs` does nothing: from which day on is said."""
    fresh = leaf("x", "11112222", 365)
    for left, said in (
        (300, "in 300 days: `rotate-certs` renews it after "),
        (100, "`rotate-certs` renews it\n"),
    ):
        one = Row("n1", "server", "disk", fresh, left * DAY)
        text = CertificatesView(Report("demo", fresh.not_after - left * DAY, (one,))).text(plain) + "\n"
        assert said in text
    due = fresh.not_after - (fresh.not_after - fresh.not_before) / 3
    assert f"renews it after {due:%Y-%m-%d}" in CertificatesView(
        Report("demo", BORN, (row("n1", "server", "disk", fresh),))
    ).text(plain)


def test_the_document(snapshot: SnapshotAssertion) -> None:
    """Every certificate at every place, with all that is known."""
    found = document(REPORT, 30 * DAY)
    assert json.loads(json.dumps(found)) == found
    assert found["certificates"] == snapshot
    assert [found[key] for key in ("cluster", "verdict", "unreachable", "notes")] == [
        "demo",
        "wrong names",
        {"n3": "no route to host"},
        ["there is a note"],
    ]


def test_no_key_is_shown() -> None:
    """Neither a key nor its digest."""
    from etcdctl_remote.observed.judging import judge

    sight: Sight = changed(healthy(), "n1", wire=Wire(Served(error="x"), Served(error="y")))
    report = Report("demo", BORN, judge(sight))
    text = json.dumps(document(report)) + CertificatesView(report).text(plain)
    assert "PRIVATE" not in text
    for name, file in sight.nodes["n1"].files.items():
        assert not (name.endswith(".key") and file.sha256 in text)
