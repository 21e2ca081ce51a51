"""The plan that brings every host to what is wanted, from one observation. Pure.

The first start is together: etcd is ready only once a quorum is, so a serial start would
hang. Every later restart is rolling, one member at a time, the leader last. Dangers, and
what is done about them:

- A data directory that is not this cluster's: refused, never touched.
- A member whose data is gone: refused. Started again under its old id it would have
  forgotten its votes and what it acknowledged; it must be replaced.
- A first start that was cut off, in which nothing can have been acknowledged: etcd goes on
  from it, or it is set aside, never deleted.
- An empty host beside a cluster that has already elected a leader is never "new" unless
  the cluster itself still waits for its first start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from ..desired.model import NodeSpec
from ..desired.spec import HostSpec
from ..observed.state import ClusterState, Data, HostState
from ..plan import gates
from ..plan.reconcile import files
from ..plan.step import Gate, Plan, Stage, Step
from ..plan.steps import (
    CreateUser,
    InstallRelease,
    InstallUnit,
    MoveLeader,
    RestartEtcd,
    StartEtcd,
    WriteFiles,
)
from . import leaves
from .notes import notes, with_silent
from .refusals import denied, lost_quorum, refuse_unsafe
from .unfinished import clearing, failing, halted, halting, still_unformed, went_on
from .wish import Wish, as_paths, formed, stale

START_DEADLINE = 60.0
"""Seconds for a first election among members that all started: it takes one or two."""

RESTART_DEADLINE = 300.0
"""Seconds for one member to come back: a large database takes its time to load."""


def plan(want: Wish, now: ClusterState) -> Plan:
    """Compute the steps of a deploy, or refuse and say what was seen."""
    refuse_unsafe(want, now)
    if not formed(now):
        return together(want, now)
    if now.has_quorum:
        return rolling(want, now)
    return revive(want, now)


def together(want: Wish, now: ClusterState) -> Plan:
    """Install everywhere, start all at once, then make sure nobody can ever be new again."""
    stopping, seen = halting(now), now
    now = halted(now, stopping)
    before = {node.name: want.spec(node, now.hosts[node.name], formed=False) for node in want.cluster.nodes}
    install = [step for node in want.cluster.nodes for step in _install(want, before[node.name], now)]
    start = [step for name, spec in before.items() for step in _start(spec, now.hosts[name])]
    record = [
        _said_shortly(step)
        for node in want.cluster.nodes
        for step in _record(want, node, before[node.name], now)
    ]
    names = [node.name for node in want.cluster.nodes]
    stages = (
        *clearing(want.cluster, seen, stopping, still_unformed),
        Stage("Install on all hosts", tuple(install)),
        Stage(
            "Start all members together",
            tuple(start),
            gate=_may_begin(want, seen, start),
            until=gates.all_serve(names),
            deadline=START_DEADLINE,
        ),
        Stage("Record the membership on all hosts", tuple(record)),
    )
    return Plan(_title(want), tuple(stage for stage in stages if stage.steps), want.cluster.warnings)


def rolling(want: Wish, now: ClusterState) -> Plan:
    """Write what needs no restart side by side; restart what does one by one, leader last.

    Who runs and does not serve comes first: that costs no quorum, and while it is silent the
    gate lets nobody else go.
    """
    waiting = [node for node in want.cluster.nodes if _awaits_first_start(now, node, want)]
    settled = [node for node in want.cluster.nodes if node not in waiting]
    specs = {
        node.name: want.spec(node, now.hosts[node.name], formed=node in settled)
        for node in want.cluster.nodes
    }
    names = [node.name for node in want.cluster.nodes]
    stopping = failing(now, [node.name for node in waiting])
    down = [node for node in want.cluster.nodes if not now.hosts[node.name].unit.running]
    restart = [
        node for node in settled if node not in down and stale(specs[node.name], now.hosts[node.name].unit)
    ]
    if restart and now.denied:
        raise denied(want, now)
    quiet = [node for node in want.cluster.nodes if node not in restart]
    turning = {node.name: _turn(want, specs[node.name], now) for node in quiet}
    stages = [
        *clearing(want.cluster, now, stopping, _still_awaited(want, stopping)),
        Stage("Write files", tuple(_side_by_side(want, specs, turning, now))),
        Stage(
            "Start the members that are down",
            tuple(StartEtcd(node.name) for node in down),
            gate=data_stayed(want, now, [node.name for node in down]),
            until=gates.all_serve([node.name for node in down]),
            deadline=RESTART_DEADLINE,
        ),
    ]
    for node in sorted(
        restart, key=lambda node: (now.hosts[node.name].serving, node.name == now.leader, node.name)
    ):
        stages += _restart(want, node, _install(want, specs[node.name], now), now)
    serve = [name for name, host in now.hosts.items() if host.serving]
    stages += [
        leaves.switch(want, want.cluster.node(name), steps, serve) for name, steps in turning.items() if steps
    ]
    record = [step for node in waiting for step in _record(want, node, specs[node.name], now)]
    stages.append(Stage("Record the membership", tuple(record), gate=gates.all_serve(names)))
    todo = Plan(_title(want), tuple(stage for stage in stages if stage.steps), notes(want, restart, now))
    return with_silent(todo, now)


def revive(want: Wish, now: ClusterState) -> Plan:
    """Repair members that cannot serve because of what deploy itself writes.

    Without a quorum there is nothing to keep alive; data directories stay as they are. When
    no file is to be mended this is not deploy's business, and it says whose it is.
    """
    specs = {node.name: want.spec(node, now.hosts[node.name], formed=True) for node in want.cluster.nodes}
    install = [step for node in want.cluster.nodes for step in _install(want, specs[node.name], now)]
    outdated = [
        name
        for name, spec in specs.items()
        if now.hosts[name].unit.running and stale(spec, now.hosts[name].unit)
    ]
    gone = any(host.data is not Data.MEMBER for host in now.hosts.values())
    if gone or not (install or outdated) or (outdated and now.uncertain):
        raise lost_quorum(want, now)
    start = [step for name, spec in specs.items() for step in _start(spec, now.hosts[name])]
    stages = (
        Stage("Write files", tuple(install)),
        Stage(
            "Start the members",
            tuple(start),
            gate=data_stayed(want, now, specs, gates.no_quorum if outdated else None),
            until=gates.all_serve([node.name for node in want.cluster.nodes]),
            deadline=RESTART_DEADLINE,
        ),
    )
    note = "no quorum was seen: nothing that answers is interrupted"
    return Plan(_title(want), tuple(stage for stage in stages if stage.steps), (*want.cluster.warnings, note))


def _side_by_side(
    want: Wish,
    specs: Mapping[str, HostSpec],
    turning: Mapping[str, tuple[WriteFiles, ...]],
    now: ClusterState,
) -> Iterator[Step]:
    """Write what needs no restart on those that have none, but for leaves that change under clients."""
    for name, turn in turning.items():
        yield from _install(want, _unturned(want, specs[name], turn), now)


def _turn(want: Wish, spec: HostSpec, now: ClusterState) -> tuple[WriteFiles, ...]:
    """Return what changes the leaves of a member that serves: that is not done to all at once."""
    host = now.hosts[spec.node]
    return leaves.writing(want, spec, host) if host.serving else ()


def _unturned(want: Wish, spec: HostSpec, turn: tuple[WriteFiles, ...]) -> HostSpec:
    return leaves.parted(want, spec)[1] if turn else spec


def _install(want: Wish, spec: HostSpec, now: ClusterState) -> list[Step]:
    host = now.hosts[spec.node]
    steps: list[Step] = []
    if not host.user_exists:
        steps.append(CreateUser(spec.node, want.cluster.user, want.cluster.paths.data))
    version = str(want.cluster.version)
    if version not in host.releases:
        archive = want.archives[host.arch]
        steps.append(InstallRelease(spec.node, version, archive.path, archive.sha256, archive.size))
    return steps + files(spec, host)


def _record(want: Wish, node: NodeSpec, written: HostSpec, now: ClusterState) -> list[Step]:
    """What is left to write once a member of a new cluster serves: from then on it is nobody new."""
    host = now.hosts[node.name]
    return files(want.spec(node, host, formed=True), as_written(host, written))


def _start(spec: HostSpec, host: HostState) -> list[Step]:
    """Start what does not run; restart what runs with something else than we wrote."""
    if not host.unit.running:
        return [StartEtcd(spec.node)]
    return [RestartEtcd(spec.node)] if stale(spec, host.unit) else []


def _restart(want: Wish, node: NodeSpec, install: Iterable[Step], now: ClusterState) -> list[Stage]:
    """Write one member's files and hand leadership over, then restart it: the gate is asked anew.

    Writing and moving take their time, and moving makes an election of its own. A member whose
    data was removed meanwhile serves until it restarts, and never again.
    """
    may_stop = data_stayed(want, now, [node.name], gates.may_stop(node.name))
    able = {name for name, host in now.hosts.items() if host.serving} - {node.name}
    others = [voter for voter in now.voters if voter.started and now.node_of(voter) in able]
    told = now.hosts[node.name].told
    prepare = [*install]
    if others and told and now.hosts[node.name].endpoint:
        prepare.append(MoveLeader(node.name, others[0].name, others[0].id, told.argv))
    spec = want.spec(node, now.hosts[node.name], formed=True)
    return [
        Stage(f"Prepare {node.name}", tuple(prepare), gate=may_stop),
        Stage(
            f"Restart {node.name}",
            (RestartEtcd(node.name),),
            gate=may_stop,
            until=gates.every(gates.restarted(node.name, partial(stale, spec)), gates.linked(node.name)),
            deadline=RESTART_DEADLINE,
            dials=(node.name,),
        ),
    ]


def _awaits_first_start(now: ClusterState, node: NodeSpec, want: Wish) -> bool:
    """A founding member that never started: listed under the id bootstrap gave it, no data, no marker."""
    host = now.hosts[node.name]
    if host.data is Data.MEMBER or host.marker:
        return False
    founding = want.bootstrap_ids(node)[1]
    return any(member.id == founding and not member.started for member in now.members)


def _still_awaited(want: Wish, nodes: Collection[str]) -> Gate:
    """The members still wait for the first start of every one of `nodes`, and none is marked."""

    def gate(later: ClusterState) -> str | None:
        unseen = [
            f"{name}: {later.unreachable.get(name, 'not observed')}"
            for name in nodes
            if name not in later.hosts
        ]
        begun = [
            f"{name}: the members no longer say that they wait for its first start"
            for name in nodes
            if name in later.hosts and not _awaits_first_start(later, want.cluster.node(name), want)
        ]
        return "; ".join(unseen + begun) or None

    return gate


def _may_begin(want: Wish, now: ClusterState, start: Iterable[Step]) -> Gate:
    """Nobody would begin anew beside members that don't wait for it, and no data has come or gone.

    What systemd, or a start that a killed run left behind, began meanwhile is what we were about to do.
    """
    stayed = data_stayed(want, now, tuple(now.hosts))

    def gate(later: ClusterState) -> str | None:
        if changed := stayed(later):
            return changed
        late = [step.host for step in start if formed(later) and not _joins(want, step, later)]
        if late:
            return f"the members have elected a leader since the plan was made, and don't wait for {' '.join(late)}"
        return None

    return gate


def data_stayed(want: Wish, now: ClusterState, nodes: Collection[str], also: Gate | None = None) -> Gate:
    """No data of `nodes` has come or gone since the plan was made, and `also` holds.

    The question may have stood unanswered for an hour: what is there is proven when it is acted on.
    """

    def gate(later: ClusterState) -> str | None:
        changed = [what for name in nodes if (what := _changed(want, name, now, later))]
        return "; ".join(changed) or (also(later) if also else None)

    return gate


def _joins(want: Wish, step: Step, later: ClusterState) -> bool:
    """Whether a start does no harm beside members that have a leader: a restart needs its own gate."""
    host = later.hosts[step.host]
    begun = host.data is Data.MEMBER or host.unit.running
    node = want.cluster.node(step.host)
    return isinstance(step, StartEtcd) and (begun or _awaits_first_start(later, node, want))


def _changed(want: Wish, name: str, now: ClusterState, later: ClusterState) -> str | None:
    """Say what became of a host's data directories, unless its own etcd made or went on with them."""
    if name not in later.hosts:
        return f"{name}: {later.unreachable.get(name, 'not observed')}"
    before, after = now.hosts[name], later.hosts[name]
    began = went_on(before, after, want.generation.token)
    for was, is_ in ((before.data, after.data), (before.wal, after.wal)):
        if is_ is Data.STUCK and not after.unit.running:
            return f"{name}: a first start was cut off there once more: the next run sets aside what it left"
        grown = is_.blank or is_.unfinished or (is_ is Data.MEMBER and began)
        fresh = (was.blank or was.unfinished) and grown
        if not (was is is_ or fresh):
            return f"{name}: its data directory was {was} and is {is_} now"
    return None


def as_written(host: HostState, spec: HostSpec) -> HostState:
    """Imagine the host after its files were written: what the next stage starts from."""
    unit = replace(host.unit, enabled="enabled", needs_reload=False)
    return replace(host, paths={**host.paths, **as_paths(spec)}, user_exists=True, unit=unit)


def _said_shortly(step: Step) -> Step:
    """Replace the diff of a unit that is not there yet by what will change in it."""
    if isinstance(step, InstallUnit):
        return replace(step, diff=f"{step.unit.path}: --initial-cluster-state=new → existing")
    return step


def _title(want: Wish) -> str:
    return f"deploy {want.cluster.name}: etcd {want.cluster.version} on {len(want.cluster.nodes)} nodes"
