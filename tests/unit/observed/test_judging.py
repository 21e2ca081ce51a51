"""Every verdict on certificates: what leads to it, what it says, and what is advised."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from etcdctl_remote.observed.judging import judge
from etcdctl_remote.observed.state import Served, Wire
from etcdctl_remote.observed.verdicts import GRAVITY, MILD, Report, Row, Verdict
from etcdctl_remote.pki.authority import Authority, Credential
from etcdctl_remote.pki.inspect import read_leaf
from etcdctl_remote.pki.issued import Used
from etcdctl_remote.pki.profiles import Kind

from .sights import (
    BORN,
    CLUSTER,
    bad,
    changed,
    generation,
    healthy,
    holding,
    intermediate,
    issued,
    placed,
    rows,
    with_files,
)

DAY = timedelta(days=1)
STRANGER = Authority.create("another CA", "ecdsa-p256", 3650, BORN)


def said(row: Row) -> str:
    return " | ".join(f"{fault.verdict}: {fault.seen} → {fault.do}" for fault in row.faults)


def test_a_healthy_cluster() -> None:
    """Two CAs in four places each; nine leaves on laptop and disk, six of them on the wire; nothing to say."""
    found = judge(healthy())
    assert [row for row in found if row.faults] == []
    assert len([row for row in found if row.authority]) == 2 * (1 + 3)
    assert len([row for row in found if not row.authority]) == 9 + 9 + 6
    assert {row.role for row in found if row.signs} == {"client CA", "peer CA"}
    assert {row.days for row in found if not row.authority} == {365}
    assert [row.authority for row in found] == sorted((row.authority for row in found), reverse=True)


# -- dates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "within", "verdict"),
    [
        (200, None, "ok"),
        (250, None, "expiring"),
        (250, 100, "ok"),
        (250, 120, "expiring"),
        (365, None, "expired"),
        (400, 10, "expired"),
    ],
)
def test_the_end(days: int, within: int | None, verdict: str) -> None:
    """A third of its life, or what was asked for; the day itself is over."""
    sight = replace(healthy(now=BORN + days * DAY), within=None if within is None else within * DAY)
    for place in ("laptop", "disk", "wire:2380"):
        row = rows(sight)["n2", "peer", place]
        assert str(row.verdict) == verdict
        assert row.days == 365 - days
        assert [fault.do for fault in row.faults] == ["`rotate-certs`"] * (verdict != "ok")


def test_a_ca_is_due_when_its_leaves_would_be_cut_short() -> None:
    """Not years before, a third of ten years; then leaves that end with it need the new CA, too."""
    assert not any(row.faults for row in judge(healthy(now=BORN + 200 * DAY)))
    late = BORN + 3300 * DAY
    young = placed(
        healthy(holding(Kind.SERVER, c := issued(Kind.SERVER, at=late, days=900)), late), Kind.SERVER, c
    )
    row = rows(young)["n1", "server", "disk"]
    assert str(row.verdict) == "ok"
    ending = rows(replace(young, now=late + 250 * DAY))
    assert said(ending["n1", "server", "disk"]).endswith("in 100 days → `rotate-certs --ca`")
    assert said(ending["-", "client CA", "laptop"]).endswith("→ `rotate-certs --ca`")
    assert said(rows(young)["n1", "client CA", "disk"]).startswith("expiring")


def test_the_clock_of_a_node_that_lags() -> None:
    """By its clock nothing has begun: all it verifies is refused. Only the clock is to be set."""
    found = rows(changed(healthy(), "n2", ahead=-DAY))
    for role, place in (("server", "disk"), ("peer", "wire:2380"), ("client CA", "disk")):
        assert str(found["n2", role, place].verdict) == "not yet valid"
        assert "by the clock of n2, which says 2030-05-16 12:00 UTC → set the clock of n2" in said(
            found["n2", role, place]
        )
    assert not found["n2", "server", "laptop"].faults
    assert not found["n1", "server", "disk"].faults


def test_the_clock_of_a_node_that_is_ahead() -> None:
    """Expired there, and only there."""
    found = rows(changed(healthy(), "n2", ahead=366 * DAY))
    assert "expired by the clock of n2" in said(found["n2", "server", "wire:2379"])
    assert found["n2", "server", "wire:2379"].faults[0].do == "set the clock of n2"
    assert not found["n2", "server", "laptop"].faults


def test_small_differences_of_clocks_are_none() -> None:
    """A round trip is no lag; a clock that was not told is not judged."""
    assert bad(changed(healthy(), "n1", ahead=timedelta(seconds=-200))) == {}
    assert bad(changed(healthy(), "n1", ahead=None)) == {}


def test_what_begins_in_the_future() -> None:
    """No clock of a node is to blame."""
    sight = placed(healthy(), Kind.SERVER, issued(Kind.SERVER, at=BORN + 2 * DAY))
    row = rows(sight)["n1", "server", "disk"]
    assert str(row.verdict) == "not yet valid"
    assert "clocks are right" in row.faults[0].do


# -- what it says ----------------------------------------------------------------------------


def test_names_that_the_inventory_asks_for() -> None:
    """What lacks one is named with it; names beyond that are no harm."""
    sight = placed(healthy(), Kind.PEER, issued(Kind.PEER, dns=("n1", "more"), addresses=()))
    row = rows(sight)["n1", "peer", "wire:2380"]
    assert "wrong names: it lacks 10.0.0.1 → `deploy` puts the laptop's there" in said(row)
    assert [str(fault.verdict) for fault in row.faults] == ["wrong names", "differs from laptop"]
    assert "more" not in said(row)
    node = replace(CLUSTER.nodes[0], names=("new.example",))
    wider = replace(healthy(), cluster=replace(CLUSTER, nodes=(node, *CLUSTER.nodes[1:])))
    assert said(rows(wider)["n1", "server", "disk"]) == "wrong names: it lacks new.example → `rotate-certs`"
    nameless = replace(CLUSTER.nodes[0], address=None, interface="eth0")
    unknown = replace(healthy(), cluster=replace(CLUSTER, nodes=(nameless, *CLUSTER.nodes[1:])))
    assert bad(unknown) == {}, "an address that is not known cannot be missed"


def test_usages() -> None:
    """A peer certificate for servers only: the cluster would never form."""
    sight = placed(healthy(), Kind.PEER, issued(Kind.PEER, usages=("server",)))
    assert "wrong usages: it is not for use as client" in said(rows(sight)["n1", "peer", "disk"])


def test_an_issuer_whom_nobody_trusts() -> None:
    """By the bundle here, and by the node's own."""
    sight = placed(healthy(), Kind.SERVER, issued(Kind.SERVER, ca=STRANGER))
    row = rows(sight)["n1", "server", "wire:2379"]
    assert row.verdict is Verdict.WRONG_ISSUER
    assert f"{STRANGER.common_name} is not in the laptop's bundle nor in ca.crt of n1" in said(row)


def test_a_ca_that_signs_no_longer() -> None:
    """Trusted while both are in the bundle; its leaves are to be replaced before it is dropped."""
    held = generation()
    new = replace(held.authorities, client=STRANGER)
    both = held.ca_bundle + STRANGER.certificate
    sight = healthy(replace(held, authorities=new, ca_bundle=both))
    found = rows(sight)
    assert f"signed it, {STRANGER.common_name} signs now → `rotate-certs`" in said(
        found["n1", "server", "disk"]
    )
    assert not found["n1", "peer", "disk"].faults
    signing = {row.leaf.subject for row in judge(sight) if row.signs and row.role == "client CA" and row.leaf}
    assert signing == {STRANGER.common_name}


def test_an_intermediate_in_the_file_leads_to_the_ca() -> None:
    """What stands behind it in the file counts."""
    sight = healthy()
    inner, chain = intermediate(generation().authorities.client)
    leaf = issued(Kind.SERVER, ca=inner)
    whole = Credential(leaf.certificate_pem + chain, leaf.key_pem)
    held = holding(Kind.SERVER, whole)
    held = replace(held, authorities=replace(held.authorities, client=inner))
    found = rows(placed(healthy(held), Kind.SERVER, whole))
    for place in ("laptop", "disk"):
        assert not found["n1", "server", place].faults, said(found["n1", "server", place])
    bare = changed(
        placed(sight, Kind.SERVER, leaf), "n1", wire=Wire(Served(leaf.certificate_pem, True), Served())
    )
    assert rows(bare)["n1", "server", "disk"].verdict is Verdict.WRONG_ISSUER


# -- what was not seen -----------------------------------------------------------------------


def test_a_host_out_of_reach() -> None:
    """The laptop's own are judged; all else says why it was not seen."""
    sight = healthy()
    nodes = {name: seen for name, seen in sight.nodes.items() if name != "n3"}
    found = rows(replace(sight, nodes=nodes, unreachable={"n3": "no route to host"}))
    gone = [row for (node, _, place), row in found.items() if node == "n3" and place != "laptop"]
    assert len(gone) == 2 + 3 + 2
    assert {said(row) for row in gone} == {"not seen: no route to host → make n3 reachable"}
    assert not found["n3", "server", "laptop"].faults


def test_a_member_that_is_down() -> None:
    """Its disk is judged, its ports are closed."""
    closed = Wire(Served(error="Connection refused"), Served(error="Connection refused"))
    found = rows(changed(healthy(), "n1", running=False, wire=closed))
    assert said(found["n1", "peer", "wire:2380"]) == (
        "not seen: etcd does not run → `logs --node n1`, then `start`"
    )
    assert not found["n1", "peer", "disk"].faults


def test_a_host_where_nothing_is_installed() -> None:
    """A new node, say: what to do is deploy."""
    closed = Wire(Served(error="Connection refused"), Served(error="Connection refused"))
    found = rows(changed(healthy(), "n1", files={}, running=False, wire=closed))
    for role, place in (("server", "disk"), ("client CA", "disk"), ("peer", "wire:2380")):
        assert "etcd is not installed on n1 → `deploy`" in said(found["n1", role, place])


@pytest.mark.parametrize("error", ["tlsv1 alert unknown ca", "it closed the connection"])
def test_a_certificate_that_is_refused(error: str) -> None:
    """It is told of the one that was shown, not of the port's; without its list etcd sends no alert."""
    wire = healthy().nodes["n1"].wire
    assert wire
    refusing = replace(wire.client, accepted=False, error=error)
    sight = changed(healthy(), "n1", wire=replace(wire, client=refusing))
    assert bad(sight) == {("n1", "client", "laptop"): "refused"}
    assert f"n1 refuses it on 2379: {error}" in said(rows(sight)["n1", "client", "laptop"])


def test_no_certificates_on_the_laptop() -> None:
    """Nothing is compared with it, and nothing is missing there; issuers are held against the disk's bundle."""
    sight = replace(healthy(), held=None)
    assert bad(sight) == {}
    assert "laptop" not in {place for _, _, place in rows(sight)}
    strange = placed(sight, Kind.SERVER, issued(Kind.SERVER, ca=STRANGER))
    assert rows(strange)["n1", "server", "disk"].verdict is Verdict.WRONG_ISSUER


def test_a_leaf_that_was_never_issued() -> None:
    """A node that is new in the inventory."""
    held = generation()
    fewer = {slot: leaf for slot, leaf in held.leaves.items() if slot != ("n2", Kind.PEER)}
    row = rows(replace(healthy(), held=replace(held, leaves=fewer)))["n2", "peer", "laptop"]
    assert said(row) == "missing: it was never issued → `deploy` issues it"


# -- the whole -------------------------------------------------------------------------------


def test_the_gravest_comes_first() -> None:
    """Expired, of another CA and without its names: all are told, the worst is the verdict."""
    pair = issued(Kind.SERVER, ca=STRANGER, at=BORN, dns=("x",), addresses=(), days=10)
    row = rows(replace(placed(healthy(), Kind.SERVER, pair), now=BORN + 20 * DAY))["n1", "server", "disk"]
    assert [str(fault.verdict) for fault in row.faults] == [
        "expired",
        "wrong issuer",
        "wrong names",
        "differs from laptop",
    ]
    assert GRAVITY[Verdict.EXPIRED] == max(GRAVITY.values())


def test_applications() -> None:
    """Judged by its dates; of a CA that was replaced it is shown until it ends, and calls nobody."""
    good = issued(Kind.CLIENT, days=30)
    strange = issued(Kind.CLIENT, ca=STRANGER)
    named = [
        Used("billing", read_leaf(good.certificate_pem)),
        Used("old", read_leaf(strange.certificate_pem)),
    ]
    sight = replace(healthy(now=BORN + 25 * DAY), applications=tuple(named))
    found = rows(sight)
    assert said(found["billing", "application", "laptop"]).endswith("→ `certs.issue --name billing`")
    old = found["old", "application", "laptop"]
    assert (old.verdict, old.gone, old.failing(4000 * DAY)) == (Verdict.RETIRED, True, False)
    ended = rows(replace(sight, now=BORN + 4000 * DAY))
    assert ("billing", "application", "laptop") in ended
    assert ("old", "application", "laptop") not in ended


def test_what_ends_within_a_span_that_was_asked_for() -> None:
    """Not due yet: the cure has the same span."""
    (fault,) = rows(replace(healthy(), within=400 * DAY))["n1", "server", "disk"].faults
    assert (fault.verdict, fault.do) == (Verdict.EXPIRING, "`rotate-certs --within 400d`")


def test_what_ends_first_and_what_fails() -> None:
    """A CA before the leaves that end with it; mild verdicts fail only by their date."""
    sight = healthy(now=BORN + 300 * DAY)
    report = Report("demo", sight.now, judge(sight))
    assert report.first
    assert (report.first.role, report.first.days) == ("server", 65)
    assert report.failing(64 * DAY) == ()
    assert len(report.failing(65 * DAY)) == 24
    assert report.verdict is Verdict.EXPIRING
    assert report.verdict in MILD
    broken = judge(with_files(sight, "n1", {"server.crt": None}))
    assert len(Report("demo", sight.now, broken).failing(timedelta())) == 1
    assert not Report("demo", sight.now, ()).deployed
