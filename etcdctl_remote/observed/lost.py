"""Whose data is gone, and what brings a silent member back: as `deploy` and `start` see it. Pure."""

from __future__ import annotations

from ..desired.identity import member_id
from ..desired.model import ClusterSpec
from .rows import StatusRow
from .state import ClusterState, Data, HostState, quorum

GUIDE = 'docs/operations.md, "A member whose data is gone"'
BLANK = (
    'its data is lost or not mounted, and must not be begun anew: docs/operations.md, "All hosts are blank"'
)

CHECK = "`check`"
"""The way back where all members run: there is nobody to start."""

HOLDS = {
    Data.ABSENT: "is absent",
    Data.EMPTY: "is empty",
    Data.BEGUN: "holds a first start that was cut off, and no log",
    Data.STUCK: "holds a first start that was cut off, and nothing in its log",
    Data.TORN: "holds a database with data in it, and no log of etcd's",
    Data.OTHER: "holds files, but no log of etcd's",
    Data.UNKNOWN: "cannot be read",
}
"""What to say of a directory that shows no member."""


def data_paths(cluster: ClusterSpec, host: HostState) -> tuple[tuple[str, Data], ...]:
    """Name the directories the host's data states are about: the installed etcd's, else the wanted."""
    data, wal = (
        (host.told.data, host.told.wal) if host.told else (cluster.paths.data, cluster.paths.wal or "")
    )
    return ((data, host.data), (wal, host.wal)) if wal else ((data, host.data),)


def gone(cluster: ClusterSpec, host: HostState) -> str:
    """Name the directories that are proven to hold no member; empty if none is.

    A host that does not tell proves nothing.
    """
    known = (Data.MEMBER, Data.UNKNOWN)
    return " and ".join(
        f"{path} {HOLDS[what]}" for path, what in data_paths(cluster, host) if what not in known
    )


def hollow(cluster: ClusterSpec, host: HostState) -> bool:
    """Whether a member of ours runs on although its data was removed: it votes until it restarts.

    One that was never ready is starting, and has no data yet.
    """
    was_ready = host.endpoint is not None or host.serving or host.marker is not None
    return host.unit.running and was_ready and host.told is not None and bool(gone(cluster, host))


def doomed(what: str) -> str:
    """Say of a member that is hollow, by what `gone` told, what becomes of it and what to do."""
    return (
        f"runs, but {what}: it will not come back after a restart: do not restart it, save a "
        f"snapshot, and replace it now, while the cluster serves: {GUIDE}"
    )


def lost(cluster: ClusterSpec, now: ClusterState, row: StatusRow) -> str:
    """Say what is gone of a host that was a member, by its own marker or by the member list."""
    host = now.hosts.get(row.node or "")
    if host is None or row.role == "not a member":
        return ""
    marked = host.marker is not None and (row.role != "unstarted" or row.id == host.marker.member_id)
    listed = any(member.id == row.id and member.started for member in now.members)
    proven = hollow(cluster, host) if host.unit.running else marked or listed
    return gone(cluster, host) if proven else ""


def bare(now: ClusterState) -> tuple[str, ...]:
    """Name the hosts where no etcd is installed, and none ever was a member."""
    return tuple(
        name
        for name, host in now.hosts.items()
        if host.told is None
        and host.marker is None
        and not host.unit.running
        and host.data is not Data.MEMBER
    )


def founding(cluster: ClusterSpec, now: ClusterState, row: StatusRow) -> bool | None:
    """Whether a listed member is one of the first: its id comes from its URL and the token. None: untold."""
    node = cluster.node(row.node or "")
    token = next((host.told.token for host in now.hosts.values() if host.told and host.told.token), "")
    if not token or not (node.address or node.advertise):
        return None
    return row.id == member_id([cluster.peer_url(node)], token)


def silent(now: ClusterState) -> tuple[str, ...]:
    """Name the members that run, are not being stopped, and do not serve, as far as they may tell."""
    return tuple(
        name
        for name, host in sorted(now.hosts.items())
        if host.unit.running
        and host.unit.active in ("active", "activating")
        and not host.serving
        and "member list" not in host.denied
        and not (host.endpoint and host.endpoint.learner)
    )


def silence(now: ClusterState, node: str) -> str:
    """Say of a silent member what was seen and what to do: no task restarts what runs as wanted.

    Where the others are a quorum, restarting it by hand costs nothing.
    """
    host = now.hosts[node]
    if host.missing:
        return (
            f"runs and cannot be asked: {short(host)}; do not restart it, it would not come back: {PUT_BACK}"
        )
    why = host.endpoint_error or host.members_error or f"etcd gives no answer ({host.unit.active})"
    if host.unit.active == "activating":
        return (
            f"has been started and is not ready: {why}; loading a large database takes minutes, and without a "
            f"quorum it waits: see `logs --node {node}` and `check`, and do not restart it"
        )
    spare = now.has_quorum and (now.tolerates or 0) >= 0
    way = "the others keep the quorum" if spare else "one node at a time, as it may be needed for a quorum"
    return (
        f"runs and does not serve: {why}; see `logs --node {node}` and `check`, then "
        f"`sudo systemctl restart --no-block etcd` there ({way}): no task restarts what runs as wanted"
    )


PUT_BACK = "`deploy` puts back what is missing"


def short(host: HostState) -> str:
    """Say what an installed etcd lacks to start, or for us to ask it."""
    more = f" and {len(host.missing) - 2} more" if len(host.missing) > 2 else ""
    return f"{', '.join(host.missing[:2])}{more} {'is' if len(host.missing) == 1 else 'are'} gone"


def way_back(cluster: ClusterSpec, now: ClusterState) -> str:
    """Say which task brings back members that are down."""
    if now.has_quorum:
        return "`start`" if now.unreachable or now.denied else "`deploy` or `start`"
    alive = sum(
        hollow(cluster, host) or (host.data is Data.MEMBER and not gone(cluster, host))
        for host in now.hosts.values()
    )
    task = "`start`" if now.formed or now.unreachable else "`deploy`"
    waiting = [name for name, host in now.hosts.items() if host.unit.running and not host.serving]
    if alive >= quorum(len(cluster.nodes)) and len(waiting) == len(cluster.nodes):
        return CHECK
    if alive >= quorum(len(cluster.nodes)) or not (now.formed or now.unreachable):
        return task
    if now.unreachable:
        return f"make {' '.join(sorted(now.unreachable))} reachable, then {task}"
    return "restore from a backup (restore: coming)"
