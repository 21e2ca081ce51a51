"""What `certs` says of what differs: between the places, from the inventory, from what belongs together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from etcdctl_remote.observed.judging import judge
from etcdctl_remote.observed.state import Served, Wire
from etcdctl_remote.observed.verdicts import Verdict
from etcdctl_remote.pki.authority import Credential
from etcdctl_remote.pki.profiles import Kind

from .sights import (
    BORN,
    bad,
    changed,
    file,
    generation,
    healthy,
    holding,
    issued,
    placed,
    rows,
    with_files,
)
from .test_judging import DAY, STRANGER, said


def test_a_node_with_something_newer() -> None:
    """Somebody else rotated: putting the older one back would be wrong."""
    sight = placed(healthy(now=BORN + 60 * DAY), Kind.SERVER, issued(Kind.SERVER, at=BORN + 30 * DAY))
    row = rows(sight)["n1", "server", "disk"]
    assert said(row).startswith(
        "differs from laptop: not the laptop's, which ends on 2031-05-17 → somebody else"
    )
    assert not rows(sight)["n1", "server", "laptop"].faults


def test_nothing_older_is_to_be_put_beside_something_newer() -> None:
    """One way out for all that was found: get the newer certificates."""
    sight = placed(healthy(now=BORN + 60 * DAY), Kind.SERVER, issued(Kind.SERVER, at=BORN + 30 * DAY))
    found = judge(with_files(sight, "n2", {"peer.crt": None}))
    told = {fault.do for row in found for fault in row.faults if fault.verdict is not Verdict.NOT_SEEN}
    assert told == {"somebody else changed it: get their certs/demo; else `deploy` puts the laptop's there"}


def test_a_process_that_serves_another_file() -> None:
    """etcd reads them at each handshake: then it is another process, or another file."""
    held = holding(Kind.SERVER, other := issued(Kind.SERVER))
    sight = healthy(held)
    old = Wire(Served(generation().credential("n1", Kind.SERVER).certificate_pem, True), Served())
    found = rows(changed(sight, "n1", wire=old))
    assert [str(f.verdict) for f in found["n1", "server", "wire:2379"].faults] == [
        "differs from disk",
        "differs from laptop",
    ]
    assert other.certificate_pem not in old.client.certificate


def test_a_swapped_key() -> None:
    """The certificate is the laptop's, its key is not: etcd fails at each handshake."""
    key = file(issued(Kind.SERVER).key_pem)
    sight = with_files(healthy(), "n1", {"server.key": key})
    sight = changed(
        sight,
        "n1",
        wire=replace(sight.nodes["n1"].wire or Wire(Served(), Served()), client=Served(error="alert")),
    )
    assert bad(sight) == {("n1", "server", "disk"): "wrong key", ("n1", "server", "wire:2379"): "not seen"}
    assert (
        said(rows(sight)["n1", "server", "wire:2379"]) == "not seen: alert → `deploy` puts the laptop's there"
    )
    assert said(rows(sight)["n1", "server", "disk"]) == (
        "wrong key: server.key is not the key of this certificate → `deploy` puts the laptop's there"
    )


def test_a_swapped_key_on_the_laptop() -> None:
    """Nothing on the nodes is wrong, but the next write of these files would break a member."""
    pair = Credential(generation().credential("n1", Kind.PEER).certificate_pem, issued(Kind.PEER).key_pem)
    found = rows(replace(healthy(), held=holding(Kind.PEER, pair)))
    assert "belongs to another certificate → `rotate-certs`" in said(found["n1", "peer", "laptop"])


def test_a_key_that_everybody_can_read() -> None:
    """The certificate serves on, and is to be replaced."""
    key = replace(healthy().nodes["n1"].files["peer.key"], mode=0o644)
    row = rows(with_files(healthy(), "n1", {"peer.key": key}))["n1", "peer", "disk"]
    assert said(row).startswith("open key: peer.key has mode 0644")


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("server.crt", ("n1", "server", "disk")),
        ("etcdctl.key", ("n1", "client", "disk")),
        ("peer-ca.crt", ("n1", "peer CA", "disk")),
    ],
)
def test_a_lost_file(name: str, where: tuple[str, str, str]) -> None:
    """Only it is missing; the process serves on."""
    sight = with_files(healthy(), "n1", {name: None})
    assert bad(sight) == {where: "missing"}
    assert said(rows(sight)[where]) == f"missing: {name} is not there → `deploy` puts the laptop's there"


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"]
)
@pytest.mark.parametrize(("name", "role"), [("server.crt", "server"), ("ca.crt", "client CA")])
def test_a_file_that_is_no_certificate(content: bytes, name: str, role: str) -> None:
    """Said of this file alone."""
    assert bad(with_files(healthy(), "n1", {name: file(content)})) == {("n1", role, "disk"): "unreadable"}


def test_bundles_that_differ() -> None:
    """A CA too many, and one too few: the states of a CA rotation that did not end."""
    held = generation()
    foreign = file(held.ca_bundle + STRANGER.certificate)
    more = [r for r in judge(with_files(healthy(), "n2", {"ca.crt": foreign})) if r.faults]
    assert [(r.node, r.role, str(r.verdict)) for r in more] == [("n2", "client CA", "differs from laptop")]
    wider = replace(held, ca_bundle=held.ca_bundle + STRANGER.certificate)
    less = [r for r in judge(replace(healthy(), held=wider)) if r.faults]
    assert {(r.node, r.role, str(r.verdict)) for r in less} == {
        (n, "client CA", "missing") for n in ("n1", "n2", "n3")
    }
    assert "lacks this CA, which the laptop trusts" in said(less[0])


def test_a_leaf_in_place_of_a_ca() -> None:
    """It may sign nothing."""
    leaf = file(generation().ca_bundle + issued(Kind.SERVER).certificate_pem)
    found = [r for r in judge(with_files(healthy(), "n2", {"ca.crt": leaf})) if r.faults]
    assert [str(r.verdict) for r in found] == ["wrong usages"]


def test_a_process_older_than_its_unit() -> None:
    """CA files are read once, at the start: what lies there now may not be what it trusts."""
    sight = changed(healthy(), "n3", stale=True)
    assert bad(sight) == {("n3", role, "disk"): "not loaded" for role in ("client CA", "peer CA")}
    assert bad(changed(sight, "n3", running=False, wire=None)).keys().isdisjoint({("n3", "peer CA", "disk")})
