"""Account for every certificate: on this laptop, on the nodes' disks, as served. Only observes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ..errors import Problem, bare, gather
from ..observed.certificates import NodeCertificates, look
from ..observed.judging import judge
from ..observed.verdicts import Report, Sight, Verdict
from ..pki.resealing import kept_otherwise
from .session import Session

if TYPE_CHECKING:
    from ..pki.generation import Generation
    from ..pki.issued import Used


def certs(
    session: Session, within: timedelta | None = None, applications: Iterable[Used] | None = None
) -> Report:
    """Look at every place at once, and judge. Hosts that cannot be reached are in it, with the reason.

    `within`: what counts as expiring; None: when a third of a life is left. `applications`: what was
    issued to others than the cluster; None: what the register says they use.
    """
    used, lost = (tuple(applications), "") if applications is not None else _applications(session)
    sight, damaged = _sight(session, within, used)
    rows = judge(sight)
    if any(fault.verdict is Verdict.DIFFERS_FROM_DISK for row in rows for fault in row.faults):
        # Somebody may have rotated just then: disk and wire are not read in the same moment.
        sight, damaged = _sight(session, within, sight.applications)
        rows = judge(sight)
    kept = () if damaged else kept_otherwise(session.store())
    notes = (*_notes(sight, damaged), *kept, *((f"the register cannot be read: {lost}",) if lost else ()))
    pki = session.cluster.pki
    return Report(
        session.cluster.name,
        sight.now,
        rows,
        notes,
        sight.unreachable,
        damaged or lost,
        leaf_days=0 if pki.external else pki.leaf_days,
        ca_days=0 if pki.external else pki.ca_days,
    )


def _applications(session: Session) -> tuple[tuple[Used, ...], str]:
    """Read what applications use, and what of it was revoked; and why it can't be read."""
    from ..pki.issued import accounted
    from ..pki.store import Store

    try:
        return accounted(Store.beside(session.cluster).root, _revoked(session), datetime.now(UTC)), ""
    except Problem as problem:
        return (), f"{problem.message}: {problem.hint}" if problem.hint else problem.message


def _revoked(session: Session) -> frozenset[str]:
    held, _ = _held(session)
    return held.revocations.serials if held else frozenset()


def _sight(session: Session, within: timedelta | None, applications: tuple[Used, ...]) -> tuple[Sight, str]:
    """Look at everything once; and why the laptop's own could not be read."""
    held, damaged = _held(session)
    nodes, problems = _seen(session, held)
    lost = {name: bare(name, problem) for name, problem in problems.items()}
    ways = {name: problem.hint for name, problem in problems.items() if problem.hint}
    cluster, now = session.cluster, datetime.now(UTC)
    return Sight(cluster, held, nodes, lost, now, within, applications, ways), damaged


def _held(session: Session) -> tuple[Generation | None, str]:
    """Read the laptop's certificates; a store that is damaged hides nothing of the nodes."""
    try:
        return session.held(), ""
    except Problem as problem:
        return None, f"{problem.message}: {problem.hint}" if problem.hint else problem.message


def _seen(
    session: Session, held: Generation | None
) -> tuple[dict[str, NodeCertificates], dict[str, Problem]]:
    """Look at all hosts at once; by node, and why some could not be looked at."""
    answers = session.fleet.spread(session.fleet.hosts, lambda host: look(session.cluster, held, host))
    failures = {name: answer for name, answer in answers.items() if isinstance(answer, Exception)}
    if not all(isinstance(failure, Problem) for failure in failures.values()):
        raise gather(failures, "read certificates")
    problems = {name: answer for name, answer in answers.items() if isinstance(answer, Problem)}
    found = {name: answer for name, answer in answers.items() if isinstance(answer, NodeCertificates)}
    return found, {**session.unreachable, **problems}


def _notes(sight: Sight, damaged: str) -> tuple[str, ...]:
    folder = f"certs/{sight.cluster.name}"
    if damaged:
        return (
            f"the certificates on this laptop cannot be read, so nothing is compared with them: {damaged}",
        )
    if sight.held is None:
        return (f"there is no {folder} beside the inventory, so nothing is compared with it",)
    if sight.held.rotation:
        from ..pki.rotation import title

        state = title(sight.held.rotation.state)
        return (f"a CA is being replaced ({state}): `rotate-certs --ca` goes on with it",)
    return ()
