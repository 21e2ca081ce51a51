"""Renew leaf certificates under a running cluster: no restart, one member at a time.

What is different in a rescue: members that do not serve get their certificates first and all at
once, for nothing that answers is touched; those whose process is gone are started. Where a CA has
expired nobody can make a new connection: see `rescue`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from ..desired.model import ClusterSpec
from ..errors import Failed, Refused, UsageError, none_reached
from ..observed.state import ClusterState, HostState
from ..pki import chain, rotation
from ..pki.authority import plain_name
from ..pki.generation import Due, Generation, State
from ..pki.store import BACK
from ..plan import gates
from ..plan.step import Plan, Stage
from ..plan.steps import StartEtcd, WriteFiles
from . import converge, leaves
from .consent import Consent
from .converge import RESTART_DEADLINE, data_stayed
from .fitting import refuse_misfit
from .notes import with_unsigned
from .proof import paths, prove, seen
from .refusals import refuse_strange
from .rescue import replace_at_once
from .session import Session, resolved
from .wish import Wish


def rotate_certs(
    session: Session, consent: Consent, due: Due, *, back: bool = False, confirm: str = ""
) -> Plan:
    """Renew what is due, or take the state before; return the plan that was carried out."""
    cluster = resolved(session.cluster)
    refuse_unknown(due.only or (), cluster)
    if not session.fleet.hosts:
        raise none_reached(session.unreachable)
    held, clock = kept(session), datetime.now(UTC)
    if rotation.expired(held.authorities, clock) and not back:
        return replace_at_once(session, consent, held, confirm)
    generation = session.store().former() if back else session.prepare(due)
    want = Wish(cluster, generation, {})
    now = seen(want, session)
    if cut_off(want, now):
        return replace_at_once(session, consent, held, confirm)
    restarts = back and bool(left_behind(want, now))
    todo = with_unsigned(converge.plan(want, now) if restarts else plan(want, now, clock), want)
    if not (consent.dry_run or generation.pending):
        refuse_misfit(session, want, now, tuple(todo.hosts))
    if back:
        title = f"go back to the former certificates of {cluster.name}"
        todo = replace(todo, title=title, notes=(*todo.notes, *_trusted(held, generation)))
    if (todo and not consent.given(todo)) or consent.dry_run:
        return todo
    if todo:
        if generation.pending:
            generation = session.signed(generation)
            want = replace(want, generation=generation)
            todo = replace(todo, stages=plan(want, now, clock).stages)
            refuse_misfit(session, want, now, tuple(todo.hosts))
        session.save(generation)
        session.execute(todo)
        if restarts:
            prove(want, session)
        else:
            _prove(session, want, clock)
    return todo


def _trusted(held: Generation, former: Generation) -> Iterator[str]:
    """Name the CAs that going back brings back (dropped for a reason, maybe), and those that it drops."""
    for now, then in ((held.ca_bundle, former.ca_bundle), (held.peer_ca_bundle, former.peer_ca_bundle)):
        for ca in set(chain.load(then)) - set(chain.load(now)):
            yield (
                f"the CA {plain_name(ca.subject)!r}, which was dropped, is trusted again: every member restarts; "
                "if its key may be in wrong hands, do not go back"
            )
        for ca in set(chain.load(now)) - set(chain.load(then)):
            yield (
                f"the CA {plain_name(ca.subject)!r} is trusted no longer: every member restarts, and whoever shows a "
                "certificate of it is refused from then on"
            )


def kept(session: Session) -> Generation:
    """Return the certificates this laptop has; Refused if it has none."""
    held = session.held()
    if held is None:
        raise Refused(
            f"there are no certificates of {session.cluster.name} here",
            f"`certs.restore --from FILE` puts a backup in place, or copy the folder certs/{session.cluster.name} "
            "beside the inventory; for a new cluster `deploy` makes them",
        )
    return held


def refuse_unknown(nodes: Collection[str], cluster: ClusterSpec) -> None:
    """Refuse names of nodes that the inventory does not have."""
    known = [node.name for node in cluster.nodes]
    if unknown := sorted(set(nodes) - set(known)):
        raise UsageError(
            f"--node {', '.join(unknown)}: no such node in the inventory", f"one of: {', '.join(known)}"
        )


def cut_off(want: Wish, now: ClusterState) -> bool:
    """Whether the new CA is all that is to be trusted, nobody serves, and somebody runs with another one.

    So it is after a rescue that was cut off: members that trust different CAs never find each other.
    """
    under_way = want.generation.rotation
    last = under_way is not None and under_way.state is State.TRUST_NEW
    return last and not now.has_quorum and bool(left_behind(want, now))


def left_behind(want: Wish, now: ClusterState) -> tuple[str, ...]:
    """Name the members that run with other CA bundles than are wanted: they would have to restart.

    While a CA is replaced that is everybody who was started with something else than is wanted now.
    """
    return tuple(
        name
        for name, host in now.hosts.items()
        if host.unit.running
        and host.unit.digest != want.spec(want.cluster.node(name), host, formed=True).digest
        and (want.generation.rotation is not None or leaves.other_bundle(want, name, host))
    )


def plan(want: Wish, now: ClusterState, clock: datetime) -> Plan:
    """Compute who gets which certificates in which order, or refuse and say what was seen."""
    refuse_strange(want, now)
    leaves.refuse_unlisted(want, now)
    if behind := left_behind(want, now):
        raise _others(want, behind)
    nodes = [node for node in want.cluster.nodes if node.name in now.hosts]
    specs = {node.name: want.spec(node, now.hosts[node.name], formed=True) for node in nodes}
    found = {name: leaves.writing(want, spec, now.hosts[name]) for name, spec in specs.items()}
    todo = {name: steps for name, steps in found.items() if steps}
    fallen = _fallen(now, todo)
    mend = [name for name in todo if not now.hosts[name].serving]
    serve = [name for name in specs if now.hosts[name].serving]
    awaited = [*serve, *(name for name in mend if not _resting(now.hosts[name]))]
    _refuse_sick(want, now, [name for name in specs if name not in awaited], todo)
    stages = [
        *_mending(
            want, now, {name: todo.get(name, ()) for name in (*mend, *(() if now.has_quorum else fallen))}
        ),
        *(
            leaves.switch(want, want.cluster.node(name), todo[name], awaited)
            for name in sorted(serve, key=lambda name: (name == now.leader, name))
            if name in todo
        ),
    ]
    return Plan(
        f"rotate the certificates of {want.cluster.name}",
        tuple(stage for stage in stages if stage.steps),
        (*_notes(want, now, mend, clock), *(_left_down(name) for name in fallen if now.has_quorum)),
        left_out=tuple(now.unreachable),
        incomplete=bool(now.unreachable),
    )


def _others(want: Wish, behind: Collection[str]) -> Refused:
    """Say why members may run with other CAs than the store has."""
    names = ", ".join(behind)
    if want.generation.rotation:
        return Refused(
            f"{names}: not restarted yet with the CAs of this store, or with settings that were edited since: "
            "a replacement is under way or paused",
            "`rotate-certs --ca` finishes it, and renews the leaves as well; to renew them and leave it where it stands, "
            "`deploy` first: that restarts them",
        )
    folder = f"certs/{want.cluster.name}"
    return Refused(
        f"{names}: they run with other CAs than those of {folder}; nothing was changed",
        f"is {folder} an older copy? Then put the newer one here. If a run was cut off that went back by --back, "
        "`deploy` finishes that",
    )


def _refuse_sick(want: Wish, now: ClusterState, others: list[str], todo: Collection[str]) -> None:
    """Refuse to go from one member to the next while another is sick, and its certificates are not why.

    Where some have expired they may be why, also of a member whose own are new.
    """
    expired = any("expired on" in line for line in want.generation.issued)
    sick = {
        name: (gates.why_silent(now, name) or "").removeprefix(f"{name}: ")
        for name in others
        if now.hosts[name].unit.running
    }
    if sick and now.has_quorum and todo and not expired:
        raise Refused(
            f"{', '.join(sick)} runs and does not serve, and its certificates are right: no other member is touched "
            "before it does; nothing was changed",
            "`health`, `certs` and `logs` say why; mend that first",
            sick,
        )


def _mending(want: Wish, now: ClusterState, todo: Mapping[str, tuple[WriteFiles, ...]]) -> tuple[Stage, ...]:
    """Give members that do not serve their certificates, and start those whose process fell."""
    awaited = [name for name in todo if not _resting(now.hosts[name])]
    dead = [name for name in awaited if not now.hosts[name].unit.running]
    ready = gates.every(*(leaves.shows(want, name) for name in awaited), gates.all_serve(awaited))
    write = Stage(
        "Put certificates where members do not serve",
        tuple(step for steps in todo.values() for step in steps),
    )
    start = Stage(
        "Start the members that are down",
        tuple(StartEtcd(name) for name in dead),
        gate=data_stayed(want, now, dead),
        until=ready,
        deadline=RESTART_DEADLINE,
        dials=tuple(awaited),
    )
    if dead:
        return write, start
    return (replace(write, until=ready, deadline=RESTART_DEADLINE, dials=tuple(awaited)),)


def _fallen(now: ClusterState, todo: Collection[str]) -> tuple[str, ...]:
    """Name the members that fell and whose certificates are right: a rescue was cut off before the start."""
    return tuple(
        name for name, host in now.hosts.items() if not (host.unit.running or _resting(host) or name in todo)
    )


def _resting(host: HostState) -> bool:
    """Whether somebody stopped this member: it is given its certificates, and not started."""
    return not host.unit.running and host.unit.active == "inactive" and host.unit.result in ("", "success")


def _notes(want: Wish, now: ClusterState, mend: list[str], clock: datetime) -> Iterator[str]:
    """Say why each certificate is renewed or put right, and what is done differently from usual."""
    yield from want.generation.issued
    for name, host in now.hosts.items():
        spec = want.spec(want.cluster.node(name), host, formed=True)
        issued = any(line.startswith(BACK) or f"for {name} " in line for line in want.generation.issued)
        if bad := list(leaves.damaged(want, spec, host)):
            yield f"{name}: {', '.join(bad)}"
        elif not issued and not leaves.linked_to(want, spec, host):
            yield f"{name} has other certificates than this store: an earlier run was cut off, or somebody changed them"
    if mend:
        one = len(mend) == 1
        yield (
            f"{', '.join(mend)} {'does not serve: it gets its' if one else 'do not serve: they get their'} "
            "certificates at once, before the others"
        )
    for name in mend:
        if _resting(now.hosts[name]):
            yield f"{name} was stopped: it gets its certificates and is not started"
    for name, why in now.unreachable.items():
        yield f"{name} is left out: {why.removeprefix(f'{name}: ')}"
    yield from _cas(want.generation, clock)


def _left_down(name: str) -> str:
    return (
        f"{name} fell and is not started: its certificates are right; see `logs --node {name}`, then `start`"
    )


def _cas(generation: Generation, clock: datetime) -> Iterator[str]:
    """Tell of CAs in the last third of their life, and of a replacement that waits to be finished."""
    if generation.rotation:
        state = rotation.title(generation.rotation.state)
        yield f"a CA is being replaced ({state}): `rotate-certs --ca` finishes it"
        return
    for ca in dict.fromkeys((generation.authorities.client, generation.authorities.peer)):
        life = ca.not_after - ca.parsed.not_valid_before_utc
        if ca.not_after - clock < life / 3:
            yield f"the CA {ca.common_name!r} ends on {ca.not_after:%Y-%m-%d}: `rotate-certs --ca` replaces it"


def _prove(session: Session, want: Wish, clock: datetime) -> None:
    """Observe again: nothing may be left to do, and every member that runs shows what it was given."""
    asked = paths(want)
    now = session.observe(asked, dials=tuple(session.fleet.hosts))
    left = plan(replace(want, generation=session.prepare()), now, clock)
    wrong = {
        name: reason.removeprefix(f"{name}: ")
        for name, host in now.hosts.items()
        if host.unit.running and (reason := leaves.shows(want, name)(now))
    }
    if left or wrong:
        steps = {step.host: str(step) for stage in left.stages for step in stage.steps}
        raise Failed(
            "certificates were renewed, but not everything is as wanted",
            "run it again; it goes on from here",
            steps | wrong,
        )
