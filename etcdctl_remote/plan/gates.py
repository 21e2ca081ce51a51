"""Statements that must be true before or after a stage. Pure functions of one observation.

Quorum is counted over *all* listed members: dead and unstarted ones too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from ..observed.auth import denial
from ..observed.state import ClusterState, UnitState, quorum
from .step import Gate

CORRUPT = "CORRUPT"

LAG = 5000
"""Entries that a member may be behind; from there on etcd itself refuses writes until it has
applied more (`maxGapBetweenApplyAndCommitIndex` in server/etcdserver/v3_server.go)."""


def all_serve(nodes: Collection[str]) -> Gate:
    """Every one of `nodes` answers a linearizable read itself, all in one cluster with a leader."""

    def gate(now: ClusterState) -> str | None:
        waiting = [why_silent(now, node) for node in sorted(nodes)]
        silent = [reason for reason in waiting if reason]
        if silent:
            return "; ".join(silent)
        if len(now.cluster_ids) > 1:
            ids = ", ".join(f"{id:x} on {' '.join(on)}" for id, on in now.cluster_ids.items())
            return f"more than one cluster answers: {ids}"
        return None

    return gate


def caught_up(nodes: Collection[str], lag: int = LAG) -> Gate:
    """Every one of `nodes` serves and has applied to within `lag` entries of the furthest one.

    That it serves proves the most: for a linearizable read it had applied all that was
    committed by then. Hosts are not asked at one instant: under load some are always behind.
    """
    serve = all_serve(nodes)

    def gate(now: ClusterState) -> str | None:
        reason = serve(now) or _denials(now)
        if reason:
            return reason
        applied = {node: host.endpoint.raft_applied for node, host in now.hosts.items() if host.endpoint}
        ahead = max(applied.values(), default=0)
        late = [
            f"{node} is {ahead - applied[node]} entries behind"
            for node in nodes
            if applied[node] < ahead - lag
        ]
        return "; ".join(late) or None

    return gate


def may_stop(node: str) -> Gate:
    """The cluster keeps its quorum while `node` is down, counting every listed voter.

    Where etcd's auth denies us the status, nobody sees who has caught up: then nobody may stop.
    Nor where a member's data is corrupt: it counts for nothing, and a healthy one that compares
    its data with it as it starts may refuse to.

    A cluster of one or two voters has no member to spare: it may restart one only while
    all of them serve, and the plan says that it stops answering meanwhile.
    """

    def gate(now: ClusterState) -> str | None:
        voters = now.voters
        if now.denied:
            return _denials(now)
        if corrupt := _corrupt(now):
            return corrupt
        if not voters:
            return "no member answers a linearizable read: the quorum is lost"
        if len(now.cluster_ids) > 1:
            return f"{len(now.cluster_ids)} different clusters answer"
        alive = {host.member_id for host in now.hosts.values() if host.serving} & {
            voter.id for voter in voters
        }
        if node not in now.hosts:
            return f"{node}: {now.unreachable.get(node, 'not observed')}"
        left = alive - {now.hosts[node].member_id}
        need = quorum(len(voters)) if len(voters) > 2 else len(voters) - 1
        if len(left) < need:
            dead = [f"{voter.name or hex(voter.id)[2:]}" for voter in voters if voter.id not in alive]
            missing = f" ({', '.join(dead)} not serving)" if dead else ""
            return f"without {node} only {len(left)} of {len(voters)} voters would serve, {need} are needed{missing}"
        return None

    return gate


def no_quorum(now: ClusterState) -> str | None:
    """Nobody serves, as far as everybody says: restarting all at once interrupts nobody."""
    if now.has_quorum:
        return "the members have elected a leader since the plan was made"
    if now.unreachable:
        return "; ".join(f"{node}: {why}" for node, why in sorted(now.unreachable.items()))
    if now.uncertain:
        return f"{', '.join(now.uncertain)} runs, and does not tell whether there is a quorum"
    return None


def nobody_runs(nodes: Collection[str]) -> Gate:
    """No etcd process is left on any of `nodes`."""

    def gate(now: ClusterState) -> str | None:
        up = [f"{node}: {now.unreachable[node]}" for node in sorted(nodes) if node in now.unreachable]
        up += [
            f"{node}: etcd runs"
            for node in sorted(nodes)
            if node in now.hosts and now.hosts[node].unit.running
        ]
        return "; ".join(up) or None

    return gate


def restarted(node: str, outdated: Callable[[UnitState], bool]) -> Gate:
    """`node` runs with what is wanted, serves, and has caught up.

    Without the first of them the old process, which ends in a moment, would do.
    """
    ready = caught_up([node])

    def gate(now: ClusterState) -> str | None:
        host = now.hosts.get(node)
        if host and host.unit.running and outdated(host.unit):
            return f"{node}: the process still runs with the old configuration"
        return ready(now)

    return gate


def linked(node: str) -> Gate:
    """The links of `node` to all others that serve stand, as far as its metrics tell.

    A member that has lost the way to one of its peers stays healthy while it has one to another.
    """

    def gate(now: ClusterState) -> str | None:
        host = now.hosts.get(node)
        if host is None or host.wire is None or host.wire.links is None:
            return None
        others = {
            name: other.member_id for name, other in now.hosts.items() if other.serving and name != node
        }
        cut = [name for name, id in sorted(others.items()) if id is not None and id not in host.wire.links]
        return f"{node}: it has no link to {', '.join(cut)} (etcd_network_active_peers)" if cut else None

    return gate


def shows(node: str, client: str, peer: str) -> Gate:
    """New connections to both ports of `node` see these certificates, and it has its links.

    `client` and `peer` are fingerprints. Nothing that was not seen passes.
    """
    ports, links = {"client": client, "peer": peer}, linked(node)

    def gate(now: ClusterState) -> str | None:
        host = now.hosts.get(node)
        if host is None or host.wire is None:
            return f"{node}: {now.unreachable.get(node, 'nobody has dialled it')}"
        for port, wanted in ports.items():
            served = host.wire.client if port == "client" else host.wire.peer
            if not served.certificate:
                return f"{node}: what its {port} port shows was not seen: {served.error}"
            if served.fingerprint != wanted:
                return f"{node}: its {port} port still shows another certificate"
            if not served.accepted:
                return f"{node}: its {port} port does not take our certificate: {served.error}"
        return links(now)

    return gate


def every(*gates: Gate) -> Gate:
    """All of these hold; the first that does not says why."""
    return lambda now: next((reason for gate in gates if (reason := gate(now))), None)


def _corrupt(now: ClusterState) -> str | None:
    raised = {
        id
        for host in now.hosts.values()
        if host.endpoint
        for id, kind in host.endpoint.alarms
        if kind == CORRUPT
    }
    names = {member.id: member.name for member in now.members}
    who = ", ".join(sorted(names.get(id) or f"{id:x}" for id in raised))
    return f"{who} raised the alarm {CORRUPT}: see `status` first" if raised else None


def _denials(now: ClusterState) -> str:
    return "; ".join(f"{node}: {denial(node, now.hosts[node])}" for node in now.denied)


def why_silent(now: ClusterState, node: str) -> str | None:
    """Say why a node does not serve, or None if it does."""
    host = now.hosts.get(node)
    if host is None:
        return f"{node}: {now.unreachable.get(node, 'not observed')}"
    if host.serving:
        return None
    if not host.unit.running:
        return f"{node}: etcd is {host.unit.active} ({host.unit.sub}, {host.unit.result})"
    if host.denied:
        return f"{node}: {denial(node, host)}"
    return f"{node}: {host.endpoint_error or host.members_error or 'etcd does not answer yet'}"
