"""How tasks hold the laptop's certificates against what they see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from etcdctl_remote.desired.model import ClusterSpec
from etcdctl_remote.errors import Refused, UsageError
from etcdctl_remote.observed.state import ClusterState, HostState, Told
from etcdctl_remote.operations.consent import Consent
from etcdctl_remote.operations.destroy import destroy
from etcdctl_remote.operations.ownership import refuse_other_store
from etcdctl_remote.operations.start_stop import start, stop
from etcdctl_remote.pki.generation import Generation
from etcdctl_remote.pki.store import Store
from etcdctl_remote.plan.step import Plan
from tests.unit.operations.here import Canned, cluster, said, session
from tests.unit.operations.test_deploy import bare, deployed, wish

NOW = datetime(2030, 5, 17, 12, tzinfo=UTC)
BLANK = {"observe": said("@@data\nabsent\n\n@@end\n")}


@pytest.fixture
def spec(tmp_path: Path) -> ClusterSpec:
    """Three nodes, whose store holds certificates."""
    spec = replace(cluster(), source=tmp_path / "inventory.yaml")
    store = Store.beside(spec)
    store.save(store.prepare(spec, NOW))
    return spec


def elsewhere(spec: ClusterSpec) -> ClusterSpec:
    """Another inventory in the same folder: the same names, other hosts."""
    return replace(spec, nodes=tuple(replace(node, address=f"10.7.0.{node.name[1]}") for node in spec.nodes))


def held(spec: ClusterSpec) -> Generation:
    found = Store.beside(spec).load()
    assert found is not None
    return found


class Nobody:
    """There is no terminal."""

    def confirm(self, question: str) -> bool:
        raise UsageError("there is nobody to ask")

    def typed(self, cluster: str, cost: str) -> bool:
        raise UsageError("there is nobody to ask")


def consent(shown: list[Plan], *, dry_run: bool = False) -> Consent:
    return Consent(shown.append, Nobody(), yes=True, dry_run=dry_run)


def destroyed(opened: Any, consent: Consent) -> Plan:
    return destroy(opened, consent, confirm="demo", delete_data=True)


@pytest.mark.parametrize("task", [start, stop, destroyed])
def test_certificates_of_other_nodes_say_nothing_about_these(
    spec: ClusterSpec, task: Callable[..., Plan]
) -> None:
    """Neither is anything of theirs touched, nor does our token go when theirs is destroyed."""
    other, before = elsewhere(spec), held(spec).token
    hosts = [Canned(node.name, BLANK) for node in other.nodes]
    with pytest.raises(Refused, match="belongs to a cluster on n1"):
        task(session(*hosts, spec=other), consent([]))
    assert held(spec).token == before
    assert {command.writes for host in hosts for command in host.asked} == {False}


def test_hosts_that_carry_our_token_are_ours_wherever_they_are(spec: ClusterSpec) -> None:
    """Their addresses changed under them: they can still be stopped, and destroyed."""
    other = elsewhere(spec)
    told = Told("/var/lib/etcd", "", "/etc/etcd", "etcdctl", "https://10.0.0.1:2379", held(spec).token)
    with pytest.raises(Refused):
        refuse_other_store(other, held(spec), ClusterState({"n1": HostState("n1")}))
    refuse_other_store(other, held(spec), ClusterState({"n1": HostState("n1", told=told)}))
    refuse_other_store(other, None, ClusterState({"n1": HostState("n1")}))


def test_destroy_of_what_is_gone_already_forgets_it(spec: ClusterSpec) -> None:
    """The hosts were reinstalled, or a destroy was cut off at its end: a new deploy then begins anew."""
    blank = session(*(Canned(node.name, BLANK) for node in spec.nodes), spec=spec)
    before, shown = held(spec).token, list[Plan]()
    assert not destroyed(blank, consent(shown, dry_run=True))
    with pytest.raises(UsageError):
        destroy(blank, consent(shown), confirm="", delete_data=False)
    assert held(spec).token == before
    shown.clear()
    assert not destroyed(blank, consent(shown))
    assert "certs/demo forgets it" in shown[0].notes[0]
    assert held(spec).token != before
    shown.clear()
    after = held(spec).token
    assert not destroyed(blank, consent(shown))
    assert (shown, held(spec).token) == ([], after), "twice is once"


def test_only_a_cluster_that_serves_is_remembered(tmp_path: Path) -> None:
    """By its own answer: not while it is being installed, nor while nobody answers for it."""
    want = wish(tmp_path)
    spec = replace(want.cluster, source=tmp_path / "inventory.yaml")
    store = Store.beside(spec)
    store.save(store.prepare(spec, NOW))
    opened, generation = session(spec=spec), held(spec)
    opened.remember(generation, bare(want).observe())
    world = deployed(want)
    now = world.observe()
    for name in world.machines:
        world.stop(name)
    opened.remember(generation, world.observe())
    assert held(spec).formed is None
    opened.remember(generation, now)
    formed = held(spec).formed
    assert formed is not None
    assert [formed.cluster_id] == list(now.cluster_ids)
