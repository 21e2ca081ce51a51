"""CAs between the root and the leaves are accounted for at every place, and judged as the others are."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from etcdctl_remote.console.certificates import CertificatesView, document
from etcdctl_remote.console.style import plain
from etcdctl_remote.observed.judging import judge
from etcdctl_remote.observed.state import Served
from etcdctl_remote.observed.verdicts import CLIENT_BETWEEN, PEER_BETWEEN, Report, Row, Sight, Verdict
from etcdctl_remote.operations import metrics
from etcdctl_remote.pki import chain
from etcdctl_remote.pki.authority import Authority
from etcdctl_remote.pki.generation import Generation, renewed
from etcdctl_remote.pki.profiles import Kind

from .sights import BORN, CLUSTER, changed, generation, healthy, intermediate, with_files
from .sights import file as on_disk

DAY = timedelta(days=1)


def held(days: int = 1000, *, outside: bool = False) -> Generation:
    """A cluster whose client CA signs through an intermediate; or whose keys are elsewhere."""
    root = generation().authorities.client
    inner, _ = intermediate(root, days)
    signed = replace(generation(), authorities=replace(generation().authorities, client=inner))
    found = renewed(replace(signed, credentials={}, leaves={}), CLUSTER, BORN)
    if outside:
        trusted = Authority(root.certificate, None, outside=True)
        found = replace(found, authorities=replace(found.authorities, client=trusted))
    return found


def seen(kept: Generation, now: timedelta = timedelta()) -> Sight:
    """As deployed, with what each port shows behind its leaf."""
    sight = healthy(kept, BORN + now)
    for node in CLUSTER.nodes:
        wire = sight.nodes[node.name].wire
        assert wire
        wire = replace(wire, client=split(wire.client), peer=split(wire.peer))
        sight = changed(sight, node.name, wire=wire)
    return sight


def split(served: Served) -> Served:
    first, *rest = chain.load(served.certificate)
    return replace(served, certificate=chain.pem([first]), carried=chain.pem(rest))


def between(sight: Sight) -> list[Row]:
    return [row for row in judge(sight) if row.role in (CLIENT_BETWEEN, PEER_BETWEEN)]


def report(sight: Sight) -> Report:
    return Report("demo", sight.now, judge(sight))


@pytest.mark.parametrize("outside", [False, True])
def test_every_place_has_a_row(outside: bool) -> None:
    """The laptop, each disk, each port that shows it; of the peers' CA, which signs itself, nothing."""
    found = between(seen(held(outside=outside)))
    assert [(row.node, row.place) for row in found] == [
        ("-", "laptop"),
        *((node.name, place) for node in CLUSTER.nodes for place in ("disk", "wire:2379")),
    ]
    assert {row.role for row in found} == {CLIENT_BETWEEN}
    assert {row.leaf.subject.split()[0] for row in found if row.leaf} == {"inner"}
    assert {(row.verdict, row.days) for row in found} == {(Verdict.OK, 1000)}
    assert {row.signs for row in found} == {not outside}
    roots = [row for row in judge(seen(held(outside=outside))) if row.role == "client CA"]
    assert {row.signs for row in roots} == {outside}


def test_a_root_alone_has_none() -> None:
    """Nor has one that a leaf carries to no purpose."""
    assert between(seen(generation())) == []


@pytest.mark.parametrize(
    ("outside", "do"),
    [
        (False, "`rotate-certs --ca`"),
        (True, "have its owner make another, then `rotate-certs --force`"),
    ],
)
def test_its_end_is_told_and_fails(outside: bool, do: str) -> None:
    """At every place, with what to do, in time: whoever watches is called."""
    sight = seen(held(outside=outside), 990 * DAY)
    found = between(sight)
    assert {(row.verdict, row.faults[0].do) for row in found} == {(Verdict.EXPIRING, do)}
    told = report(seen(held(outside=outside), 600 * DAY))
    assert {row.role for row in told.failing(500 * DAY)} >= {CLIENT_BETWEEN}
    late = between(seen(held(outside=outside), 1001 * DAY))
    assert {row.verdict for row in late} == {Verdict.EXPIRED}
    assert all(row.failing(timedelta()) for row in late)


def test_it_ends_before_what_it_has_signed() -> None:
    """It is named as the first to expire, by its name, with what to do."""
    told = report(seen(held(days=200)))
    assert told.first
    assert told.first.role == CLIENT_BETWEEN
    text = CertificatesView(told).text(plain)
    assert "first to expire: the client intermediate CA inner" in text
    assert "client intermediate  laptop, all nodes" in text


def test_metrics_and_document_have_it() -> None:
    """As a CA: its end by place, and whether it is as it should be."""
    told = report(seen(held()))
    text = metrics.exposition(told)
    end = int((BORN + 1000 * DAY).timestamp())
    lines = [line for line in text.splitlines() if 'role="client intermediate CA"' in line]
    ends = [line for line in lines if line.startswith("etcdctl_remote_ca_not_after_timestamp_seconds{")]
    assert len(ends) == 1 + 3 * 2
    assert all(line.endswith(f" {end}") for line in ends)
    assert len([line for line in lines if line.startswith("etcdctl_remote_ca_ok{")]) == len(ends)
    authorities = document(told)["authorities"]
    assert isinstance(authorities, list)
    assert sum(one["role"] == CLIENT_BETWEEN for one in authorities) == len(ends)


def test_a_file_without_it() -> None:
    """The leaf is the laptop's, but nobody can verify it: told for that file, and for the port that shows it."""
    sight = seen(held())
    kept = sight.held
    assert kept
    bare = chain.pem(chain.load(kept.credential("n2", Kind.SERVER).certificate_pem)[:1])
    wire = sight.nodes["n2"].wire
    assert wire
    sight = with_files(sight, "n2", {"server.crt": on_disk(bare)})
    sight = changed(sight, "n2", wire=replace(wire, client=Served(bare, True, carried=b"")))
    found = {(row.node, row.place, row.verdict): row for row in between(sight) if row.faults}
    assert set(found) == {("n2", "disk", Verdict.MISSING), ("n2", "wire:2379", Verdict.MISSING)}
    disk, shown = found.values()
    assert "server.crt lacks it" in disk.faults[0].seen
    assert "does not show it on 2379" in shown.faults[0].seen
    assert {row.faults[0].do for row in found.values()} == {"`deploy` puts the laptop's there"}


def test_what_cannot_be_told_is_not_missing() -> None:
    """A Python that tells the leaf only; a port that shows nothing; a host out of reach."""
    sight = healthy(held())
    wire = sight.nodes["n1"].wire
    assert wire
    sight = changed(sight, "n1", wire=replace(wire, client=Served(error="Connection refused")))
    sight = replace(sight, nodes={name: node for name, node in sight.nodes.items() if name != "n3"})
    found = between(sight)
    assert {(row.node, row.place) for row in found} == {("-", "laptop"), ("n1", "disk"), ("n2", "disk")}
    assert not any(row.faults for row in found)


def test_without_the_laptops_certificates() -> None:
    """A machine that only watches: what lies and what is shown is judged all the same."""
    found = between(replace(seen(held()), held=None))
    assert len(found) == 3 * 2
    assert not any(row.faults for row in found)
