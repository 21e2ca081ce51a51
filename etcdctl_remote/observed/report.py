"""What `status` and `health` tell, computed from one observation. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..desired.model import ClusterSpec
from .advice import advise, order
from .rows import StatusRow, endpoints, rows
from .state import ClusterState

__all__ = ["EndpointHealth", "Health", "Status", "StatusRow", "status"]


@dataclass(frozen=True)
class Status:
    """The whole cluster at one glance."""

    cluster: str
    cluster_id: int | None
    version: str | None
    """The lowest version that answers: the cluster can do no more than that one."""
    leader: str | None
    tolerates: int | None
    """How many more voters may be lost; -1 if writes have stopped, None if nobody may tell."""
    members: tuple[StatusRow, ...]
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class EndpointHealth:
    """One linearizable read through one member. `took_ms` None: it did not come to that."""

    node: str
    endpoint: str
    healthy: bool
    took_ms: float | None = None
    error: str = ""
    asked: bool = True
    """False where its host let nobody ask: of the member nothing is known."""


@dataclass(frozen=True)
class Health:
    """The health of every endpoint of the inventory."""

    cluster: str
    endpoints: tuple[EndpointHealth, ...]

    @property
    def healthy(self) -> bool:
        """Whether every endpoint is; a cluster of none is not."""
        return bool(self.endpoints) and all(endpoint.healthy for endpoint in self.endpoints)


def status(
    cluster: ClusterSpec, now: ClusterState, cert_days: Mapping[str, int | None], served: str = ""
) -> Status:
    """Compute the whole report. `cert_days` is by node; None or absent means not seen. `served`: see `advise`."""
    members = rows(cluster, now, cert_days)
    return Status(
        cluster=cluster.name,
        cluster_id=next(iter(now.cluster_ids), None),
        version=_lowest(now),
        leader=_leader(now),
        tolerates=now.tolerates,
        members=members,
        advice=advise(cluster, now, members, served),
    )


def _leader(now: ClusterState) -> str | None:
    """Name the leader: the node, else the stranger by its member name or id."""
    if now.leader:
        return now.leader
    ids = {endpoint.leader for endpoint in endpoints(now).values() if endpoint.leader}
    by_id = {member.id: member.name for member in now.members}
    return next((by_id.get(id) or f"{id:x}" for id in sorted(ids)), None)


def _lowest(now: ClusterState) -> str | None:
    seen = {endpoint.version for endpoint in endpoints(now).values() if endpoint.version}
    return min(seen, key=order, default=None)
