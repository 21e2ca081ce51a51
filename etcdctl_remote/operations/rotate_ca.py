"""Replace CAs without an outage: trust both, leaves from the new, trust the new only.

Each state is a desired state as any other: deploy's plan brings the cluster there (two rolling
restarts, and none for leaves), and the next one begins only when nothing is left to do for it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from ..desired.model import ClusterSpec
from ..errors import Failed, Refused, UsageError
from ..observed.state import ClusterState
from ..pki import rotation
from ..pki.generation import Generation, Rotation, State, renewed
from ..pki.issued import applications_of
from ..pki.rotation import Which
from ..plan.step import Plan, Step
from ..plan.steps import InstallUnit
from . import converge, leaves
from .consent import Consent
from .fitting import refuse_misfit
from .notes import DIGEST, with_unsigned
from .proof import prove, refuse_silent, seen
from .refusals import refuse_unsafe
from .rescue import replace_at_once
from .rotate_certs import cut_off, kept
from .session import Session, resolved
from .wish import Wish

Pause = Literal["", "before-leaves", "before-drop"]
_LEAF = re.compile(r"(\w+) certificate for (\S+) (\(.*\))")
PAUSES: dict[State, Pause] = {State.TRUST_BOTH: "before-leaves", State.NEW_LEAVES: "before-drop"}


@dataclass(frozen=True)
class Task:
    """What is asked for."""

    which: Collection[Which] = rotation.BOTH
    pause: Pause = ""
    confirm: str = ""
    """The cluster's name, where the CA has expired and all have to restart together."""


def rotate_ca(session: Session, consent: Consent, task: Task) -> Plan:
    """Replace the CAs, or go on where a former run stopped; return all that was planned."""
    cluster, clock = resolved(session.cluster), datetime.now(UTC)
    held = kept(session)
    _refuse_which(cluster, held, task.which)
    if rotation.expired(held.authorities, clock):
        return replace_at_once(session, consent, held, task.confirm)
    present = Wish(cluster, session.prepare(replacing=True), {})
    now = seen(present, session)
    if cut_off(present, now):
        return replace_at_once(session, consent, held, task.confirm)
    states = up_to(task.pause, course(session, held, task.which, clock))
    _refuse_unready(Wish(cluster, states[0], {}), now)
    todo = whole(cluster, states, now)
    todo = with_unsigned(todo, Wish(cluster, states[0], {}), *states[1:])
    if todo:
        todo = replace(todo, notes=(*todo.notes, *clients(states, session.store().root, clock)))
    if (todo and not consent.given(todo)) or consent.dry_run:
        return todo
    for number, state in enumerate(states):
        _bring(session, Wish(cluster, state if number == 0 else _next(session, clock), {}))
    if task.pause:
        session.ways.tell(f"paused after {_named(states[-1])}: `rotate-certs --ca` goes on")
    else:
        session.save(rotation.advanced(kept(session)))
    return todo


def up_to(pause: Pause, states: tuple[Generation, ...]) -> tuple[Generation, ...]:
    """Keep the states up to a pause; UsageError where that is past."""
    if not pause:
        return states
    for number, state in enumerate(states, 1):
        if PAUSES.get(_state(state)) == pause:
            return states[:number]
    raise UsageError(f"--pause-{pause}: the replacement is past that, at {_named(states[0])}", "leave it out")


def _named(generation: Generation) -> str:
    return rotation.title(_state(generation))


def _state(generation: Generation) -> State:
    return _rotation(generation).state


def _rotation(generation: Generation) -> Rotation:
    if generation.rotation is None:
        raise ValueError("no CA is being replaced")
    return generation.rotation


def _refuse_which(cluster: ClusterSpec, held: Generation, which: Collection[Which]) -> None:
    """Refuse a choice where there is none, or where another was made that is under way still."""
    refuse_shared(cluster, which)
    begun = rotation.under_way(held)
    if begun and set(which) not in (rotation.BOTH, begun):
        raise Refused(
            f"--ca-only {' '.join(sorted(which))}: a replacement of {' and '.join(sorted(begun))} CA is under way; "
            "nothing was changed",
            "`rotate-certs --ca` finishes that one first",
        )


def refuse_shared(cluster: ClusterSpec, which: Collection[Which]) -> None:
    """Refuse to choose one of two CAs where there is one."""
    if cluster.pki.peer_ca == "same" and set(which) != rotation.BOTH:
        raise UsageError("--ca-only: clients and peers share one CA (`pki.peer_ca: same`)", "leave it out")


def _refuse_unready(want: Wish, now: ClusterState) -> None:
    """Refuse where a release is missing: that is deploy's to bring."""
    lacking = {
        name: f"etcd {want.cluster.version} is not installed there"
        for name, host in now.hosts.items()
        if str(want.cluster.version) not in host.releases
    }
    if lacking:
        raise Refused("a CA is replaced on hosts that are as the inventory says", "`deploy` first", lacking)


def course(
    session: Session, held: Generation, which: Collection[Which], clock: datetime
) -> tuple[Generation, ...]:
    """List the states from here to the end."""
    cluster = session.cluster
    current = session.prepare(replacing=True)
    if held.rotation is None:
        current = rotation.trust_both(current, cluster, clock, which)
    states = [current]
    while _state(states[-1]) is not State.TRUST_NEW:
        states.append(renewed(rotation.advanced(replace(states[-1], issued=())), cluster, clock))
    return tuple(states)


def _next(session: Session, clock: datetime) -> Generation:
    """Advance what is in the store: the state before is done there."""
    return renewed(rotation.advanced(kept(session)), session.cluster, clock)


def whole(cluster: ClusterSpec, states: tuple[Generation, ...], now: ClusterState) -> Plan:
    """Plan all states: the first from what is seen, each further one as if those before were done."""
    stages = []
    for state in states:
        want, named = Wish(cluster, state, {}), _named(state).capitalize()
        for stage in _plan(want, now).stages:
            steps = tuple(map(_said_shortly, stage.steps))
            stages.append(replace(stage, title=f"{named}: {stage.title}", steps=steps))
        now = imagined(want, now)
    end = "" if _state(states[-1]) is State.TRUST_NEW else f", up to {_named(states[-1])}"
    return Plan(f"replace the CA of {cluster.name}{end}", tuple(stages), (*cluster.warnings, *notes(states)))


def _said_shortly(step: Step) -> Step:
    """Leave out the diff of a unit in which only the digest changes: its CAs are what it is a digest of."""
    if not isinstance(step, InstallUnit):
        return step
    lines = [line for line in step.diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return replace(step, diff="") if all(DIGEST in line for line in lines) else step


def imagined(want: Wish, now: ClusterState) -> ClusterState:
    """Imagine every host as wanted, its member restarted."""
    hosts = {}
    for name, host in now.hosts.items():
        spec = want.spec(want.cluster.node(name), host, formed=True)
        written = converge.as_written(host, spec)
        hosts[name] = replace(
            written, unit=replace(written.unit, digest=spec.digest, flags=tuple(spec.flags))
        )
    return replace(now, hosts=hosts)


def notes(states: tuple[Generation, ...]) -> Iterator[str]:
    """Say what is issued, and what is decided later."""
    for state in states:
        yield from _folded(state.issued)
    yield "who leads, and so restarts last, is looked at anew in each state"


def _folded(lines: Iterable[str]) -> Iterator[str]:
    """Tell in one line of leaves that are issued for one reason, where each of those nodes gets each of them."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        if leaf := _LEAF.fullmatch(line):
            found.setdefault(leaf[3], []).append((leaf[1], leaf[2]))
        else:
            yield line
    for why, same in found.items():
        kinds, nodes = (dict.fromkeys(names) for names in zip(*same, strict=True))
        if len(same) == len(kinds) * len(nodes):
            yield f"{' and '.join(kinds)} certificates for {', '.join(nodes)} {why}"
        else:
            yield from (f"{kind} certificate for {node} {why}" for kind, node in same)


def clients(states: tuple[Generation, ...], store: Path, clock: datetime) -> Iterator[str]:
    """Say what becomes of applications, and from which day on. Of the peer CA they know nothing."""
    first, last = states[0], _state(states[-1])
    if "client" not in rotation.under_way(first):
        return
    before = _state(first) is State.TRUST_BOTH
    old = first.authorities.client if before else _rotation(first).other.client
    if before:
        waits = "" if last is State.TRUST_BOTH else "; --pause-before-leaves waits for you"
        yield (
            f"clients have to trust the new CA beside {old.common_name!r} before the leaves change "
            f"(`certs.export` writes the bundle of both{waits})"
        )
    when, waits = "from the day on that you finish this, when only the new CA is trusted", ""
    if last is State.TRUST_NEW:
        when = f"after {clock:%Y-%m-%d}, today, when only the new CA is trusted"
        waits = "" if _state(first) is last else " (--pause-before-drop waits for you)"
    yield (
        f"clients with certificates of {old.common_name!r} are refused {when}{waits}; "
        f"after {old.not_after:%Y-%m-%d} in any case"
    )
    if concerned := [str(each) for each in applications_of(store, [old], clock)]:
        yield f"to be issued anew before that: {', '.join(concerned)}"


def _plan(want: Wish, now: ClusterState) -> Plan:
    refuse_unsafe(want, now)
    leaves.refuse_unlisted(want, now)
    if not now.has_quorum:
        raise Refused(
            f"{want.cluster.name} has no quorum: a CA is replaced under a cluster that serves",
            "`health` and `logs` say why; where leaves have expired, `rotate-certs` comes first",
        )
    return converge.plan(want, now)


def _bring(session: Session, want: Wish) -> None:
    """Save a state that fits, bring the cluster there, and prove it: nothing left to do, nothing old shown."""
    want = replace(want, generation=session.signed(want.generation))
    now = seen(want, session)
    todo = _plan(want, now)
    refuse_misfit(session, want, now, leaves.turning(todo), leaves.restarting(todo))
    session.save(want.generation)
    if todo:
        session.execute(todo)
    refuse_silent(prove(want, session))
    shown = session.observe(dials=tuple(session.fleet.hosts))
    wrong = {name: reason for name in shown.hosts if (reason := leaves.shows(want, name)(shown))}
    if wrong:
        hosts = {name: reason.removeprefix(f"{name}: ") for name, reason in wrong.items()}
        raise Failed("not every member shows what it was given", "`certs`; then run it again", hosts)
