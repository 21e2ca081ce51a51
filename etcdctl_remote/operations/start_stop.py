"""Start or stop all members. Stopping all stops whatever depends on etcd: it is asked for."""

from __future__ import annotations

from ..desired.model import ClusterSpec
from ..errors import Refused
from ..observed.lost import GUIDE, PUT_BACK, bare, gone, hollow, short, silence, silent
from ..observed.state import ClusterState, Data, HostState, quorum
from ..plan import gates
from ..plan.step import Plan, Stage
from ..plan.steps import StartEtcd, StopEtcd
from .consent import Consent
from .ownership import identity_path, ours, refuse_other_store
from .refusals import MASKED, refuse_unseen
from .session import Session
from .settle import settled

DEADLINE = 300.0
"""Seconds for all members to serve again: large databases take their time to load."""


def start(session: Session, consent: Consent) -> Plan:
    """Start every member that has its data and does not run."""
    todo = plan_start(session.cluster, *_seen(session, settle=True))
    if todo and consent.given(todo):
        session.execute(todo)
    return todo


def stop(session: Session, consent: Consent) -> Plan:
    """Stop every member that runs. Nothing is lost; nothing is answered until `start`.

    The question may have stood unanswered for an hour, so what would be lost is looked for again.
    """
    todo = plan_stop(session.cluster, *_seen(session))
    if todo and consent.given(todo):
        todo = plan_stop(session.cluster, *_seen(session))
        session.execute(todo)
    return todo


def _seen(session: Session, *, settle: bool = False) -> tuple[ClusterState, str | None]:
    """Observe, and read the token that says whose a host is; None without certificates here."""
    held, nodes = session.held(), session.cluster.nodes
    paths = {node.name: (identity_path(session.cluster),) for node in nodes}
    now = settled(lambda: session.observe(paths), len(nodes)) if settle else session.observe(paths)
    refuse_other_store(session.cluster, held, now)
    return now, held.token if held else None


MAJORITY = (
    'each line names what to do; a majority of the data lost for good: docs/operations.md, "A lost quorum"'
)


def plan_start(cluster: ClusterSpec, now: ClusterState, token: str | None = None) -> Plan:
    """Start who can be: a majority is enough, and a host that cannot be reached must not prevent it.

    A member without its data is never started: it could bootstrap, or join having forgotten.
    """
    if not now.hosts:
        refuse_unseen(now)
    unsafe = {name: why for name, host in now.hosts.items() if (why := _unsafe(cluster, host, token))}
    able = {name: host for name, host in now.hosts.items() if name not in unsafe}
    unseen = {name: why.removeprefix(f"{name}: ") for name, why in now.unreachable.items()}
    left_out = unsafe | unseen
    voting = {
        name for name in unsafe if hollow(cluster, now.hosts[name]) and ours(cluster, now.hosts[name], token)
    }
    if not able and not voting:
        fresh = len(bare(now)) == len(now.hosts)
        hint = "`deploy`" if fresh else "each line names what to do"
        raise Refused(f"no node of {cluster.name} has a member to start", hint, left_out)
    count = len(able) + len(voting)
    if count < quorum(len(cluster.nodes)):
        raise Refused(
            f"only {count} of {len(cluster.nodes)} members of {cluster.name} could run: that is no quorum",
            f"make {' and '.join(unseen)} reachable" if unseen else MAJORITY,
            left_out,
        )
    down = [name for name, host in sorted(able.items()) if not host.unit.running]
    stage = Stage(
        "Start all members together",
        tuple(StartEtcd(name) for name in down),
        until=gates.all_serve(tuple(able)),
        deadline=DEADLINE,
    )
    missing = sorted(left_out.keys() - voting)
    mute = [] if down else [name for name in silent(now) if name in able]
    notes = [_left_out(name, why, now, runs=name in voting) for name, why in sorted(left_out.items())]
    return Plan(
        f"start {cluster.name}",
        (stage,) if down else (),
        (*notes, *(f"{name} {silence(now, name)}" for name in mute)),
        left_out=tuple(missing),
        incomplete=bool(mute) or any(name in unsafe for name in missing),
    )


def _left_out(name: str, why: str, now: ClusterState, *, runs: bool) -> str:
    """Say of a node why it is not started, and what to do."""
    if runs:
        return f"{name} runs, but {why}; it will not come back after a restart"
    if name in now.unreachable:
        why += "; whether it runs is not known: mend the way there, then `start` again"
    return f"{name} is not started: {why}"


def _unsafe(cluster: ClusterSpec, host: HostState, token: str | None) -> str:
    if host.unit.enabled == "masked":
        return MASKED
    if what := gone(cluster, host):
        if host.marker is None:
            return (
                f"etcd {'was never ready' if host.told else 'is not installed'} there, and {what}: `deploy`"
            )
        return f"{what}: a member without its data must be replaced, never started ({GUIDE})"
    if host.data is not Data.MEMBER:
        return f"what its data directory holds is {host.data}: look there, then `start` again"
    if host.missing and not host.unit.running:
        return f"it would not start: {short(host)}; {PUT_BACK}"
    return "" if ours(cluster, host, token) else f"the etcd that is installed there is not {cluster.name}'s"


def plan_stop(cluster: ClusterSpec, now: ClusterState, token: str | None = None) -> Plan:
    """Stop all at once: no order keeps a quorum when everybody goes."""
    refuse_unseen(now)
    up = {
        name: host
        for name, host in sorted(now.hosts.items())
        if host.unit.active not in ("inactive", "failed")
    }
    strangers = {
        name: f"runs an etcd that is not {cluster.name}'s ({host.unit.fragment})"
        for name, host in up.items()
        if not ours(cluster, host, token)
    }
    if strangers:
        raise Refused(
            "this inventory does not own every etcd it names", "take those nodes out of it", strangers
        )
    _refuse_hollow(cluster, now)
    stage = Stage(
        "Stop all members", tuple(StopEtcd(name) for name in up), until=gates.nobody_runs(tuple(up))
    )
    note = (
        f"every client of {cluster.name} stops working: a Kubernetes control plane turns read-only "
        "or dead, Patroni demotes its primary; nothing is lost, and `start` brings it back"
    )
    return Plan(f"stop {cluster.name}", (stage,) if up else (), (note,) if up else ())


def _refuse_hollow(cluster: ClusterSpec, now: ClusterState) -> None:
    """Stop nobody for good: a member whose data was removed under it does not come back."""
    found = {name: gone(cluster, host) for name, host in now.hosts.items() if hollow(cluster, host)}
    if not found:
        return
    size = len(cluster.nodes)
    left = sum(host.data is Data.MEMBER and name not in found for name, host in now.hosts.items())
    lost = f": only {left} of {size} could, which is no quorum" if left < quorum(size) else ""
    raise Refused(
        f"stopped, {', '.join(sorted(found))} would not start again{lost}; nothing was changed",
        f'save a snapshot through it (`etcdctl --node N -c "snapshot save FILE"`), then replace it while the cluster '
        f"serves: {GUIDE}; to stop all the same: `sudo systemctl stop etcd` on each host",
        {name: f"runs, but {what}" for name, what in found.items()},
    )
