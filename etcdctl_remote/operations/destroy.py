"""Take a cluster down for good: stop it and remove what deploy installed.

Data directories are moved aside with a date, so that a mistake can be undone by a rename;
only `delete_data` deletes them. The CAs on the laptop stay; the cluster token does not, so
that no member left over can ever join what is deployed next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from ..desired.hostspec import INSTALL_ROOT, UNIT_PATH
from ..desired.model import ClusterSpec
from ..errors import Failed, Refused
from ..observed.lost import data_paths, gone, hollow
from ..observed.state import ClusterState, Data, HostState
from ..pki.generation import Generation
from ..plan import gates
from ..plan.step import Plan, Stage, Step
from ..plan.steps import ForgetUnit, MoveAside, Remove, StopEtcd
from .consent import Consent
from .ownership import identity_path, ours, refuse_other_store
from .refusals import moved, refuse_unseen
from .session import Session

OURS = (Data.MEMBER, Data.BEGUN, Data.STUCK, Data.EMPTY)
"""What deploy and etcd put into a data directory; anything else stays where it is."""

STRANGE = {Data.OTHER: "files that are not etcd", Data.TORN: "a database with data in it, and no log"}


def destroy(session: Session, consent: Consent, *, confirm: str, delete_data: bool) -> Plan:
    """Destroy, after the operator has named the cluster; look again before saying that it is gone."""
    cluster, held = session.cluster, session.held()
    if held is None:
        raise Refused(
            f"there is no certs/{cluster.name} folder beside the inventory: this laptop did not deploy the cluster",
            "put the folder there that it was deployed with; a name alone does not say whose data it is",
        )

    def planned(now: ClusterState) -> Plan:
        return plan(cluster, now, datetime.now(UTC), token=held.token, delete_data=delete_data)

    now = session.observe(_paths(cluster))
    refuse_other_store(cluster, held, now)
    todo = planned(now)
    if not todo and held.credentials:
        todo = replace(todo, notes=(_forgotten(cluster, held),))
    elif not todo:
        return todo
    cost = f"this stops {cluster.name} for good and removes it from {len(cluster.nodes)} hosts"
    if not consent.confirmed(todo, confirm, cluster.name, cost):
        return todo
    if todo:
        session.execute(todo)
    if left := planned(session.observe(_paths(cluster))):
        steps = {step.host: str(step) for stage in left.stages for step in stage.steps}
        raise Failed("not everything is gone", "run it again; it goes on from here", steps)
    session.save(held.with_new_token())
    return todo


def _forgotten(cluster: ClusterSpec, held: Generation) -> str:
    """Say what is left to do where no host has anything: the laptop still takes the cluster for alive."""
    formed = f" ({held.formed})" if held.formed else ""
    return f"no host has anything of it; certs/{cluster.name} forgets it{formed}: the next deploy makes a new one"


def plan(cluster: ClusterSpec, now: ClusterState, at: datetime, *, token: str, delete_data: bool) -> Plan:
    """Stop first, everywhere; then take away: data first, what says whose it is last."""
    refuse_unseen(now)
    mine = {name: host for name, host in sorted(now.hosts.items()) if ours(cluster, host, token)}
    strangers = {
        name: f"runs or keeps an etcd that is not of this {cluster.name} ({host.unit.fragment or cluster.paths.data})"
        for name, host in now.hosts.items()
        if name not in mine and (host.unit.running or host.data in (Data.MEMBER, Data.TORN, Data.OTHER))
    }
    if strangers:
        raise Refused(
            "this inventory does not own every etcd it names", "take those nodes out of it", strangers
        )
    _refuse_moved(cluster, mine)
    stamp = f"{at:%Y%m%dT%H%M%S}"
    take = tuple(step for host in mine.values() for step in _take(cluster, host, stamp, delete_data))
    up = tuple(
        StopEtcd(name) for name, host in mine.items() if host.unit.active not in ("inactive", "failed")
    )
    stages = (
        Stage("Stop all members", up),
        Stage("Remove what was installed", take, gate=gates.nobody_runs(tuple(mine))),
    )
    note = (
        "data directories are DELETED"
        if delete_data
        else "data directories are moved aside with a date; the CAs on this laptop stay"
    )
    notes = (note, *(line for host in mine.values() for line in _kept(cluster, host)))
    return Plan(
        f"destroy {cluster.name}",
        tuple(stage for stage in stages if stage.steps),
        notes if up or take else (),
    )


def _refuse_moved(cluster: ClusterSpec, mine: Mapping[str, HostState]) -> None:
    """What lies elsewhere than the inventory says would stay: private keys, and whose member the host is."""
    if elsewhere := {name: what for name, host in mine.items() if (what := moved(cluster, host, links=True))}:
        raise Refused(
            f"destroy would not find all there is of {cluster.name}; nothing was changed",
            "each line names what to do; where only some hosts moved yet, `deploy` first",
            elsewhere,
        )


def _kept(cluster: ClusterSpec, host: HostState) -> list[str]:
    """Name what stays because it may be somebody else's, and what cannot be kept."""
    kept = [
        f"{host.node}: {path} stays: it holds {STRANGE.get(data, data)}"
        for path, data in data_paths(cluster, host)
        if data not in (Data.ABSENT, *OURS)
    ]
    if hollow(cluster, host):
        kept.append(f"{host.node} runs, but {gone(cluster, host)}: its data ends with it, none of it is kept")
    return kept


def _take(cluster: ClusterSpec, host: HostState, stamp: str, delete_data: bool) -> list[Step]:
    """Data first, what says whose it is last: cut off anywhere, the next run knows what is ours."""
    steps: list[Step] = []
    for path, data in data_paths(cluster, host):
        if data in OURS:
            aside = MoveAside(host.node, path, stamp, identity_path(cluster))
            steps.append(Remove(host.node, f"delete {path}", (path,)) if delete_data else aside)
    releases = tuple(f"/opt/etcd/v{version}" for version in sorted(host.releases))
    files = tuple(path for path in _paths(cluster)[host.node] if path in host.paths and path != UNIT_PATH)
    if files or releases:
        taken, parents = (*releases, *files), (cluster.paths.config, INSTALL_ROOT)
        steps.append(Remove(host.node, f"remove {', '.join(taken)}", taken, parents))
    if UNIT_PATH in host.paths:
        steps.append(ForgetUnit(host.node))
    return steps


def _paths(cluster: ClusterSpec) -> dict[str, tuple[str, ...]]:
    """Name what deploy puts on a host, besides the unit, the release and the data."""
    bin, config = cluster.paths.bin, cluster.paths.config
    names = ("etcd", "etcdctl", "etcdutl", "etcdctl.sh")
    paths = (
        *(f"{bin}/{name}" for name in names),
        f"{config}/pki",
        f"{config}/etcdctl.env",
        UNIT_PATH,
        f"{config}/member",
        identity_path(cluster),
    )
    return {node.name: paths for node in cluster.nodes}
