"""Observations of clusters in any state, for tests of what is decided from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from etcdctl_remote.observed.state import ClusterState, Data, Endpoint, HostState, Member, UnitState, quorum

CLUSTER = 0xC1


@dataclass(frozen=True)
class Voter:
    """One member of the list, and what its host shows of it."""

    alive: bool = True
    started: bool = True
    """A member that never started has no name and cannot be alive."""
    learner: bool = False
    host: bool = True
    """Whether the inventory has its host: without, it is a ghost in the list."""
    cluster: int = CLUSTER
    applied: int = 100
    digest: str = "new"


def observed(members: Sequence[Voter], leader: int = 0) -> ClusterState:
    """Observe them: a live member serves only if a majority of all voters lives."""
    voters = [member for member in members if not member.learner]
    living = sum(voter.alive and voter.started for voter in voters)
    listed = tuple(_listed(number, member) for number, member in enumerate(members, 1))
    found = listed if living >= quorum(len(voters)) else None
    hosts = {
        f"n{number}": _host(number, member, found, leader + 1)
        for number, member in enumerate(members, 1)
        if member.host
    }
    return ClusterState(hosts)


def _listed(number: int, member: Voter) -> Member:
    started = member.started
    client = (f"https://10.0.0.{number}:2379",) if started else ()
    peer = (f"https://10.0.0.{number}:2380",)
    return Member(number, f"n{number}" if started else "", peer, client, member.learner)


def _host(number: int, member: Voter, listed: tuple[Member, ...] | None, leader: int) -> HostState:
    node = f"n{number}"
    if not (member.alive and member.started):
        return HostState(node, unit=UnitState("failed", "failed", result="exit-code"), data=Data.MEMBER)
    endpoint = Endpoint(
        member.cluster, number, "3.6.14", leader if listed else 0, 2, member.applied, member.applied, 1, 1,
        member.learner, 1,
    )  # fmt: skip
    unit = UnitState("active", "running", pid=7, digest=member.digest)
    return HostState(node, unit=unit, data=Data.MEMBER, endpoint=endpoint, members=listed)


def lost(now: ClusterState, node: str, why: str = "timed out") -> ClusterState:
    """The same, but one host gave no observation."""
    hosts = {name: host for name, host in now.hosts.items() if name != node}
    return replace(now, hosts=hosts, unreachable={**now.unreachable, node: why})
