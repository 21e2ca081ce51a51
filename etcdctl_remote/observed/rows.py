"""One row for each member, and for each node that should be one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..desired.model import ClusterSpec, NodeSpec
from .auth import denial
from .state import ClusterState, Endpoint, HostState, Member

Role = Literal["leader", "voter", "learner", "unstarted", "not a member", "unreachable", "unknown"]
"""`unknown`: the host answers, but no member list says what it is."""


@dataclass(frozen=True)
class StatusRow:
    """One member, or one node that should be one. Sizes in bytes; None means not seen."""

    node: str | None
    """None for a member that no node of the inventory runs."""
    id: int | None
    role: Role
    version: str | None = None
    db_size: int | None = None
    db_in_use: int | None = None
    raft_term: int | None = None
    raft_index: int | None = None
    applied_lag: int | None = None
    """Entries between the furthest raft index anybody reports and what this member applied."""
    alarms: tuple[str, ...] = ()
    cert_days: int | None = None
    """Whole days to the first expiry of the node's certificates."""
    error: str = ""
    denied: bool = False
    """Whether etcd answers, but its own auth denies us the status."""

    @property
    def down(self) -> bool:
        """Whether etcd on a reachable host gives no answer, though it should."""
        silent = self.raft_term is None and not self.denied
        return silent and self.role in ("leader", "voter", "learner", "unknown")


def rows(
    cluster: ClusterSpec, now: ClusterState, cert_days: Mapping[str, int | None]
) -> tuple[StatusRow, ...]:
    """Compute the rows: the inventory's nodes in its order, then members that no node runs."""
    alarms = raised(now)
    found = [_row(cluster, node, now, alarms, cert_days.get(node.name)) for node in cluster.nodes]
    shown = {row.id for row in found}
    return (*found, *(_stranger(member, alarms) for member in now.members if member.id not in shown))


def raised(now: ClusterState) -> dict[int, tuple[str, ...]]:
    """Return every alarm by the member that raised it, from whoever answers."""
    found: dict[int, tuple[str, ...]] = {}
    for endpoint in endpoints(now).values():
        for member, alarm in endpoint.alarms:
            found[member] = tuple(sorted({*found.get(member, ()), alarm}))
    return found


def endpoints(now: ClusterState) -> dict[str, Endpoint]:
    """Return who answers, by node."""
    return {node: host.endpoint for node, host in now.hosts.items() if host.endpoint}


def member_of(cluster: ClusterSpec, node: NodeSpec, now: ClusterState) -> Member | None:
    """Find a node's entry in the member list: by the id it reports, its marker, URL or name."""
    host = now.hosts.get(node.name)
    if host and host.member_id is not None:
        return next((m for m in now.members if m.id == host.member_id), None)
    if host and host.marker:
        marked = next((m for m in now.members if m.id == host.marker.member_id), None)
        if marked:
            return marked
    peer = cluster.peer_url(node) if node.address or node.advertise else None
    by_url = next((m for m in now.members if peer in m.peer_urls), None)
    return by_url or next((m for m in now.members if m.name == node.name), None)


def why_down(node: str, now: ClusterState) -> str:
    """Say why a node's member gives no answer."""
    host = now.hosts.get(node)
    if host is None:
        return now.unreachable.get(node, "not observed")
    if not host.unit.running:
        result = host.unit.result if host.unit.result not in ("", "success") else host.unit.sub
        return f"etcd is {host.unit.active} ({result})"
    if host.denied:
        return denial(node, host)
    return host.endpoint_error or "etcd gives no answer"


# -- rows ------------------------------------------------------------------------------------


def _row(
    cluster: ClusterSpec,
    node: NodeSpec,
    now: ClusterState,
    alarms: Mapping[int, tuple[str, ...]],
    cert_days: int | None,
) -> StatusRow:
    host = now.hosts.get(node.name)
    endpoint = host.endpoint if host else None
    member = member_of(cluster, node, now)
    role = _role(host, member, listed=bool(now.members))
    if endpoint is None:
        marker = host.marker if host else None
        id = member.id if member else marker.member_id if marker else None
        error = why_down(node.name, now)
        return StatusRow(
            node.name,
            id,
            role,
            alarms=alarms.get(id or 0, ()),
            cert_days=cert_days,
            error=error,
            denied=bool(host and host.denied),
        )
    furthest = max(other.raft_index for other in endpoints(now).values())
    return StatusRow(
        node=node.name,
        id=endpoint.member_id,
        role=role,
        version=endpoint.version,
        db_size=endpoint.db_size,
        db_in_use=endpoint.db_in_use,
        raft_term=endpoint.raft_term,
        raft_index=endpoint.raft_index,
        applied_lag=max(0, furthest - endpoint.raft_applied),
        alarms=alarms.get(endpoint.member_id, ()),
        cert_days=cert_days,
        error=_complaint(host),
    )


def _role(host: HostState | None, member: Member | None, *, listed: bool) -> Role:
    if host is None:
        return "unreachable"
    endpoint = host.endpoint
    if listed and member is None:
        return "not a member"
    if member and not member.started and endpoint is None:
        return "unstarted"
    if endpoint and endpoint.leader and endpoint.leader == endpoint.member_id:
        return "leader"
    if (member and member.learner) or (endpoint and endpoint.learner):
        return "learner"
    return "voter" if member or endpoint else "unknown"


def _complaint(host: HostState | None) -> str:
    """What a member that answers says of itself, alarms apart: they have their own column."""
    if host is None or host.endpoint is None:
        return ""
    said = [*host.endpoint.complaints]
    if host.members is None and host.members_error:
        said.append(denial(host.node, host) if host.denied else host.members_error)
    return "; ".join(said)


def _stranger(member: Member, alarms: Mapping[int, tuple[str, ...]]) -> StatusRow:
    role: Role = "learner" if member.learner else "voter"
    error = (
        f"{member.name or 'a member without a name'} at {' '.join(member.peer_urls)} is not in the inventory"
    )
    return StatusRow(
        None,
        member.id,
        role if member.started else "unstarted",
        alarms=alarms.get(member.id, ()),
        error=error,
    )
