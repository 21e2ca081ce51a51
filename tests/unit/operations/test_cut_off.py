"""Who is cut off: only a member that ran all along, in silence, beside ports that are closed."""

from __future__ import annotations

import pytest

from etcdctl_remote.observed.findings import Finding, Result
from etcdctl_remote.observed.state import ClusterState, Endpoint, HostState, Member, UnitState
from etcdctl_remote.operations.cut_off import judge, refuse_cut_off
from tests.unit.operations.here import Canned, session
from tests.unit.preflight.wish import certificates

CLOSED = [
    Finding("n1", "network", Result.FAIL, "port 2380 of n1 cannot be reached from n2"),
    Finding("n2", "network", Result.FAIL, "port 2380 of n2 cannot be reached from n1"),
    Finding("n1", "network", Result.FAIL, "port 2380 of n1 cannot be reached from n3"),
]


def cluster(*silent: HostState) -> ClusterState:
    """Three members that serve, but for those given."""
    members = (Member(1, "n1", ("p",), ("c",)),)
    serving = Endpoint(7, 1, "3.6.14", 1, 2, 9, 9, 1, 1, False, 1)
    hosts = {
        name: HostState(name, unit=UnitState(active="active", pid=5), endpoint=serving, members=members)
        for name in ("n1", "n2", "n3")
    }
    return ClusterState(hosts | {host.node: host for host in silent})


def running(active: str = "active", pid: int = 5) -> HostState:
    """n1, which runs and does not serve."""
    return HostState("n1", unit=UnitState(active=active, pid=pid))


@pytest.mark.parametrize("active", ["active", "activating"])
def test_the_member_the_ports_and_the_way_out_are_named(active: str) -> None:
    """Ready once and now alone, or never ready since it was restarted alone."""
    refusal = judge(cluster(running(active)), CLOSED, cluster(running(active)))
    assert refusal is not None
    assert refusal.exit_code == 4
    assert refusal.message.startswith("n1 runs and does not serve: cut off from its peers")
    assert refusal.hosts["n1"].count("port 2380 of n1") == 2
    assert "from n1" in refusal.hosts["n2"]


@pytest.mark.parametrize(
    "after",
    [running(pid=6), running(pid=0), running("deactivating"), None],
    ids=["restarted", "gone", "being stopped", "serves by now"],
)
def test_a_port_that_its_process_closed_is_no_firewall(after: HostState | None) -> None:
    """What a former run's restart, or a crash, looks like for a moment."""
    assert judge(cluster(running()), CLOSED, cluster(*([after] if after else []))) is None


def test_nobody_is_asked_while_all_running_members_serve() -> None:
    """A deploy of a healthy cluster, or of one with a member down, costs no probe."""
    host = Canned("n1")
    for state in (cluster(), cluster(running(pid=0)), cluster(running("deactivating"))):
        refuse_cut_off(session(host), certificates(), state)
    assert host.asked == []
