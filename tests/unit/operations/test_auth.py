"""Deploy and start where etcd's own auth denies us the status of members."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from etcdctl_remote.errors import Refused
from etcdctl_remote.observed.state import ClusterState
from etcdctl_remote.operations.converge import plan
from etcdctl_remote.operations.start_stop import plan_start
from etcdctl_remote.plan import gates
from tests.unit.operations.test_deploy import deployed, wish

ALL = ("n1", "n2", "n3")
DENIAL = "etcd's auth is enabled and denies `endpoint status` to the certificate etcdctl-"


def denied(now: ClusterState, nodes: Collection[str] = ALL) -> ClusterState:
    """The same, as those see it who are no root user of etcd's: 3.5.30 still gives the member list."""
    hosts = dict(now.hosts)
    for node in nodes:
        host = hosts[node]
        if host.endpoint:
            ids = host.endpoint.cluster_id, host.endpoint.member_id
            error = "etcdserver: user name not found"
            hosts[node] = replace(
                host, endpoint=None, endpoint_error=error, listed_by=ids if host.members else None
            )
    return replace(now, hosts=hosts)


def test_nothing_to_do_is_nothing_to_do(tmp_path: Path) -> None:
    """Every file is as wanted, and every member answers a read: the status adds nothing to that."""
    want = wish(tmp_path)
    assert not plan(want, denied(deployed(want).observe()))


def test_the_ids_are_those_of_the_list(tmp_path: Path) -> None:
    """A member that was replaced by hand is recorded under its new id, though its status is denied."""
    want = wish(tmp_path)
    now = denied(deployed(want).observe())
    host = now.hosts["n2"]
    assert host.marker
    other = replace(host, listed_by=(host.marker.cluster_id, 0xBEEF))
    todo = plan(want, replace(now, hosts={**now.hosts, "n2": other}))
    (step,) = [step for stage in todo.stages for step in stage.steps]
    assert (step.host, "beef" in step.diff) == ("n2", True)


@pytest.mark.parametrize("nodes", [ALL, ("n2",)])
def test_a_restart_is_refused(tmp_path: Path, nodes: tuple[str, ...]) -> None:
    """Nobody would see who has caught up; the users that help are named."""
    world = deployed(wish(tmp_path))
    want = wish(tmp_path, settings="snapshot-count: 5000")
    with pytest.raises(Refused) as caught:
        plan(want, denied(world.observe(), nodes))
    told = caught.value
    assert "nothing was changed" in told.message
    assert told.hosts == {node: f"{DENIAL}{node} (user name not found)" for node in nodes}
    assert f"user add etcdctl-{nodes[0]} --no-password" in told.hint
    assert f"user grant-role etcdctl-{nodes[0]} root" in told.hint
    assert plan(want, world.observe())


def test_auth_that_comes_amid_a_deploy_closes_the_gates(tmp_path: Path) -> None:
    """Neither does the next member stop, nor has the last one caught up."""
    want = wish(tmp_path)
    now = denied(deployed(want).observe(), ["n3"])
    for gate in (gates.may_stop("n1"), gates.caught_up(["n1"])):
        assert gate(now) == f"n3: {DENIAL}n3 (user name not found)"


def test_a_start_is_done_when_reads_go_through(tmp_path: Path) -> None:
    """It does not wait for a status that it will never be given."""
    want = wish(tmp_path)
    world = deployed(want)
    world.stop_all()
    todo = plan_start(want.cluster, denied(world.observe()), want.generation.token)
    (stage,) = todo.stages
    assert stage.until
    assert stage.until(denied(world.observe())) is not None
    for step in stage.steps:
        world.apply(step)
    assert stage.until(denied(world.observe())) is None


def test_a_lost_quorum_that_nobody_can_tell(tmp_path: Path) -> None:
    """One denied member left: `start` first, since no user can be made without a quorum."""
    want = wish(tmp_path)
    world = deployed(want)
    world.stop("n2")
    world.stop("n3")
    with pytest.raises(Refused) as caught:
        plan(want, denied(world.observe()))
    told = caught.value
    assert "it cannot be told whether there is a quorum" in told.message
    assert told.hosts["n1"] == f"{DENIAL}n1 (user name not found)"
    assert told.hint.startswith("`start` starts who is down; ")
