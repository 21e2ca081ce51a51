"""First starts that were cut off: nothing was acknowledged in them, and etcd goes on from some only. Pure.

A unit that fails is started again every few seconds, and gets a little further or not: so it is
stopped before what it left is judged, on the host, and set aside if etcd would not come up from it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ..desired.model import ClusterSpec
from ..observed.lost import data_paths
from ..observed.state import ClusterState, Data, HostState
from ..plan.step import Gate, Stage
from ..plan.steps import SetAside, StopEtcd
from .ownership import token_of


def idle(host: HostState) -> bool:
    """Whether systemd neither runs etcd nor is about to."""
    return host.unit.active in ("inactive", "failed") and not host.unit.running


def halting(now: ClusterState) -> tuple[str, ...]:
    """Name the hosts of a cluster that never formed where etcd is started and has nothing in its log."""
    return tuple(
        name
        for name, host in now.hosts.items()
        if not idle(host) and host.data is not Data.MEMBER and host.told is not None
    )


def failing(now: ClusterState, waiting: Collection[str]) -> tuple[str, ...]:
    """Name those of `waiting` that end at each start, a quorum elsewhere or not: the others it would bring up."""
    hosts = {name: now.hosts[name] for name in waiting}
    return tuple(
        name
        for name, host in hosts.items()
        if not idle(host) and not host.unit.running and Data.STUCK in (host.data, host.wal)
    )


def clearing(
    cluster: ClusterSpec, now: ClusterState, stopping: Collection[str], may_stop: Gate
) -> tuple[Stage, ...]:
    """Stop `stopping`, and set aside there and on idle hosts what etcd would not come up from."""
    names = [
        name
        for name, host in now.hosts.items()
        if name in stopping or (idle(host) and Data.STUCK in (host.data, host.wal))
    ]
    aside = tuple(
        SetAside(name, *(path for path, _ in data_paths(cluster, now.hosts[name]))) for name in names
    )
    return (
        Stage("Stop first starts that do not get on", tuple(map(StopEtcd, stopping)), gate=may_stop),
        Stage("Set unfinished first starts aside", aside, gate=_all_idle(names)),
    )


def _all_idle(nodes: Collection[str]) -> Gate:
    """systemd neither runs etcd on any of `nodes` nor is about to."""

    def gate(later: ClusterState) -> str | None:
        seen = [(name, later.hosts.get(name)) for name in sorted(nodes)]
        up = [
            f"{name}: {_at_work(host) if host else later.unreachable.get(name, 'not observed')}"
            for name, host in seen
            if host is None or not idle(host)
        ]
        return "; ".join(up) or None

    return gate


def _at_work(host: HostState) -> str:
    return "etcd runs" if host.unit.running else f"etcd is {host.unit.active} ({host.unit.sub})"


def still_unformed(later: ClusterState) -> str | None:
    return "the members have elected a leader since the plan was made" if later.formed else None


def halted(now: ClusterState, nodes: Collection[str]) -> ClusterState:
    """Imagine `nodes` stopped: what the stages after it start from."""
    hosts = {
        name: replace(host, unit=replace(host.unit, active="inactive", sub="dead", pid=0, digest=None))
        if name in nodes
        else host
        for name, host in now.hosts.items()
    }
    return replace(now, hosts=hosts)


def went_on(before: HostState, after: HostState, token: str) -> bool:
    """Whether what is new in a data directory is its own etcd's, in a first start."""
    return token_of(after) == token and (after.unit.running or not idle(before))
