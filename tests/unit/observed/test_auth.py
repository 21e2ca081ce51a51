"""A cluster with etcd's own auth: what is denied is told as that, and is no lost quorum.

The answers are what etcd 3.5.30 gave: it denies `endpoint status` to whoever is no root user.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, Version
from etcdctl_remote.observed import auth
from etcdctl_remote.observed.observe import parse
from etcdctl_remote.observed.report import status
from etcdctl_remote.observed.state import ClusterState, HostState, Member
from etcdctl_remote.pki.profiles import Kind, node_profiles

DATA = Path(__file__).parent / "data"
NODES = ("n1", "n2", "n3")


def seen(name: str) -> HostState:
    """Return what a stored answer means."""
    return parse("n1", (DATA / f"{name}.txt").read_text("utf-8"))


def cluster() -> ClusterSpec:
    """The inventory of the lab where the answers were given."""
    nodes = tuple(NodeSpec(name, name, address=f"10.230.244.1{name[1:]}") for name in NODES)
    return ClusterSpec("auth", Version(3, 5, 30), nodes, Path("inventory.yaml"))


def denied_everywhere(name: str = "denied") -> ClusterState:
    """The same answer from all three, each as the member it is."""
    found = seen(name)
    ids = {member.name: member.id for member in seen("denied").members or ()}
    hosts = {
        node: replace(found, node=node, listed_by=found.listed_by and (found.listed_by[0], ids[node]))
        for node in NODES
    }
    return ClusterState(hosts)


def test_a_denied_status_beside_a_read() -> None:
    """The member list went through a quorum, so it serves; ids are those of the list's header."""
    found = seen("denied")
    assert found.endpoint is None
    assert found.denied == {"endpoint status": "user name not found"}
    assert found.serving
    assert found.marker
    assert (found.cluster_id, found.member_id) == (found.marker.cluster_id, found.marker.member_id)


def test_a_denied_status_without_a_quorum() -> None:
    """Here the user was there, without a role, and the read did not go through."""
    found = seen("denied-no-quorum")
    assert (found.denied, found.serving) == ({"endpoint status": "permission denied"}, False)
    assert auth.denial("n1", found).endswith(
        "etcdctl-n1 (permission denied); a read through it failed: context deadline exceeded"
    )
    assert (found.members, found.members_error) == (None, "context deadline exceeded")
    assert (found.cluster_id, found.member_id) == (None, None)


def test_denied_is_not_lost() -> None:
    """What the reads prove is said; where they fail, nobody can tell."""
    now = denied_everywhere()
    assert (now.has_quorum, now.tolerates, now.uncertain, now.denied) == (True, 1, (), NODES)
    assert len(now.cluster_ids) == 1
    assert all(now.node_of(member) == member.name for member in now.members)
    silent = denied_everywhere("denied-no-quorum")
    assert (silent.has_quorum, silent.tolerates, silent.uncertain) == (False, None, NODES)


def test_status_names_the_way_out() -> None:
    """Nobody is called down, nobody is told to look into logs: what is denied, to whom, what helps."""
    report = status(cluster(), denied_everywhere(), {})
    assert (report.tolerates, report.leader, report.version) == (1, None, None)
    for row in report.members:
        assert (row.role, row.down, row.denied, row.raft_term) == ("voter", False, True, None)
        assert row.error == (
            "etcd's auth is enabled and denies `endpoint status` to the certificate "
            f"etcdctl-{row.node} (user name not found)"
        )
    (advice,) = report.advice
    assert "n1, n2, n3" in advice
    assert "etcdctl.sh --user root user add etcdctl-n1 --no-password`" in advice
    assert "etcdctl.sh --user root user grant-role etcdctl-n1 root`" in advice
    assert advice.endswith("; the same for etcdctl-n2, etcdctl-n3")


def test_a_denied_list_is_named_too() -> None:
    """Releases that deny both prove nothing."""
    error = "etcdserver: user name is empty"
    host = replace(seen("denied"), members=None, listed_by=None, members_error=error, endpoint_error=error)
    assert not host.serving
    told = auth.denial("n1", host)
    assert "denies `endpoint status` and `member list` to the certificate etcdctl-n1" in told
    assert ClusterState({"n1": host}).tolerates is None


@pytest.mark.parametrize("node", ["n1", "db." + "x" * 60])
def test_the_user_is_the_certificates_common_name(node: str) -> None:
    """Whatever is shortened there is shortened here."""
    spec = NodeSpec(node, "h", address="10.0.0.1")
    want = ClusterSpec("demo", Version(3, 6, 14), (spec,), Path("i.yaml"))
    assert auth.user(node) == node_profiles(want, spec)[Kind.CLIENT].common_name


def test_other_errors_are_no_denial() -> None:
    """A list alone is no service where the status failed for another reason."""
    listed = (Member(2, "n1", ("p",), ("c",)),)
    for error in ("context deadline exceeded", "etcdserver: no leader", "dial tcp: connection refused", ""):
        host = HostState("n1", endpoint_error=error, members=listed, listed_by=(1, 2))
        assert (host.denied, host.serving) == ({}, False)
