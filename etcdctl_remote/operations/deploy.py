"""Bring every host to what the inventory says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ..acquire import Archive, acquire
from ..observed.state import ClusterState
from ..pki.generation import Generation
from ..plan.step import Plan
from ..plan.steps import InstallUnit
from .consent import Consent
from .converge import plan
from .fitting import refuse_misfit
from .leaves import refuse_unlisted, restarting, turning
from .notes import with_unsigned
from .proof import prove, refuse_silent, seen
from .refusals import refuse_unsafe
from .session import Session, cache_dir, resolved
from .wish import Wish, formed


def deploy(session: Session, consent: Consent) -> Plan:
    """Deploy, and return the plan that was carried out (or would be, in a dry run)."""
    return carried_out(session, consent, Wish(resolved(session.cluster), session.prepare(), {}), plan)


def carried_out(
    session: Session,
    consent: Consent,
    want: Wish,
    plan: Callable[[Wish, ClusterState], Plan],
    before: Wish | None = None,
    sign: Callable[[Generation], Generation] | None = None,
) -> Plan:
    """Bring the hosts to `want` by what `plan` plans, and prove that nothing is left to do.

    `before` is what else `plan` compares the hosts with. What others sign, or a sealed key, is signed (by
    `sign`, if more than leaves is) after the plan was agreed to: one that is declined leaves nothing behind.
    """
    generation = want.generation
    if generation.pending and sign is None:
        sign = session.signed
    now = seen(want, session, before)
    refuse_unsafe(want, now)
    refuse_unlisted(want, now)
    want = replace(want, archives=_archives(session, want, now, consent.dry_run))
    todo = with_unsigned(plan(want, now), want)
    if todo and not consent.dry_run:
        if not sign:
            refuse_misfit(session, want, now, turning(todo), restarting(todo))
        _refuse_unready(session, want, now, todo)
    if (todo and not consent.given(todo)) or consent.dry_run:
        return todo
    session.remember(generation, now)
    if todo and sign:
        generation = sign(generation)
        want = replace(want, generation=generation)
        todo = plan(want, now)
        refuse_misfit(session, want, now, turning(todo), restarting(todo))
    if todo:
        session.save(generation)
        session.execute(todo)
        now = prove(want, session)
        session.remember(generation, now)
        refuse_silent(now)
    return todo


def _refuse_unready(session: Session, want: Wish, now: ClusterState, todo: Plan) -> None:
    """Refuse hosts, units and networks on which the plan would not succeed."""
    from ..preflight import checks, unit
    from .cut_off import refuse_cut_off

    written = {step.host for stage in todo.stages for step in stage.steps if isinstance(step, InstallUnit)}
    scope = checks.Scope(network=not formed(now), units=unit.customised(want.cluster, written))
    checks.refuse_failing(want.cluster, want.generation, session.fleet, scope)
    if formed(now):
        refuse_cut_off(session, want.generation, now)


def _archives(session: Session, want: Wish, now: ClusterState, dry_run: bool) -> Mapping[str, Archive]:
    """Get the release for every architecture that some host still lacks it for."""
    version = want.cluster.version
    lacking = {host.arch for host in now.hosts.values() if str(version) not in host.releases}
    if dry_run:
        return {arch: Archive(Path(f"etcd-v{version}-linux-{arch}.tar.gz"), "", 0) for arch in lacking}
    return {
        arch: acquire(want.cluster.release, version, arch, cache_dir(), session.ways.tell)
        for arch in sorted(lacking)
    }
