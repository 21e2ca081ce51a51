"""What one observation says of the whole cluster."""

from __future__ import annotations

import pytest

from etcdctl_remote.observed.state import ClusterState, Endpoint, HostState, Marker, Member, UnitState, quorum
from tests.unit.plan.clusters import Voter, observed


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_quorum(voters: int, needed: int) -> None:
    """The smallest majority; two of it always share a member."""
    assert quorum(voters) == needed
    assert 2 * needed > voters


@pytest.mark.parametrize(("alive", "total", "spare"), [(1, 1, 0), (2, 3, 0), (3, 3, 1), (5, 5, 2), (3, 5, 0)])
def test_tolerates(alive: int, total: int, spare: int) -> None:
    """How many more voters may go; the dead ones have gone already."""
    now = observed([Voter(alive=number < alive) for number in range(total)])
    assert now.tolerates == spare
    assert now.has_quorum


def test_tolerates_nothing_without_a_quorum() -> None:
    """Writes have stopped: not zero but minus one."""
    now = observed([Voter(alive=False)] * 3)
    assert (now.tolerates, now.has_quorum, now.members, now.voters, now.leader) == (-1, False, (), (), None)


def test_learners_do_not_vote() -> None:
    """They are members; they count for nothing else."""
    now = observed([Voter(), Voter(), Voter(alive=False), Voter(learner=True)])
    assert len(now.members) == 4
    assert len(now.voters) == 3
    assert now.tolerates == 0


def test_the_leader_says_so_of_itself() -> None:
    """Not what others believe: a member that follows a dead leader makes nobody lead."""
    now = observed([Voter(), Voter(), Voter()], leader=1)
    assert now.leader == "n2"
    others = {name: host for name, host in now.hosts.items() if name != "n2"}
    assert ClusterState(others).leader is None


def test_cluster_ids_name_who_gave_them() -> None:
    """Two ids mean two clusters."""
    now = observed([Voter(), Voter(cluster=0xC2), Voter()])
    assert now.cluster_ids == {0xC1: ("n1", "n3"), 0xC2: ("n2",)}


def test_serving_needs_both_answers() -> None:
    """A status without a quorum is not service, nor is a list without a status."""
    endpoint = Endpoint(1, 2, "3.6.14", 2, 1, 1, 1, 1, 1, False, 1)
    listed = (Member(2, "n1", ("p",), ("c",)),)
    assert HostState("n1", endpoint=endpoint, members=listed).serving
    assert not HostState("n1", endpoint=endpoint).serving
    assert not HostState("n1", members=listed).serving


def test_node_of_a_member() -> None:
    """By the id the process reports, whatever the member is called."""
    now = observed([Voter(), Voter(alive=False), Voter()])
    assert [now.node_of(member) for member in now.members] == ["n1", None, "n3"]


def test_words_of_state() -> None:
    """A started member has a name and client URLs; a running unit has a process."""
    assert Member(1, "n1", ("p",), ("c",)).started
    assert not Member(1, "n1", ("p",), ()).started
    assert not Member(1, "", ("p",), ("c",)).started
    assert UnitState("activating", "start", pid=7).running
    assert not UnitState("active", "exited").running
    assert Marker("demo", 1, 2, "n1") == Marker("demo", 1, 2, "n1")
