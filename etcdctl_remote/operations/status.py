"""One table of what is, from one observation. Only observes."""

from __future__ import annotations

from datetime import UTC, datetime

from ..errors import Problem, none_reached
from ..observed.certificates import read
from ..observed.fitness import bundle
from ..observed.report import Status
from ..observed.report import status as report
from ..observed.state import ClusterState
from ..pki.profiles import Kind
from ..remote.host import Host
from .session import Session

_LEAVES = frozenset(f"{kind.stem}.crt" for kind in Kind)


def status(session: Session) -> Status:
    """Describe every member; unreachable nodes and members of no inventory are in it too."""
    if not session.fleet.hosts:
        raise none_reached(session.unreachable)
    now = session.observe()
    days = session.fleet.each(lambda host: _days(session, host), doing="read certificates")
    return report(session.cluster, now, days, _served(session, now))


def _served(session: Session, now: ClusterState) -> str:
    """Say what the laptop remembers of a cluster of which no host knows; nothing where it remembers none."""
    if now.formed or now.unreachable:
        return ""
    try:
        held = session.held()
    except Problem:
        return ""
    return str(held.formed) if held and held.formed else ""


def _days(session: Session, host: Host) -> int | None:
    """Days to the first expiry among the node's own leaves, as they lie on its disk."""
    try:
        found = read(session.cluster, host).files
    except Problem:
        return None
    leaves = [bundle(file.pem)[:1] for name, file in found.items() if name in _LEAVES]
    ends = [leaf.not_after for first in leaves for leaf in first]
    return (min(ends) - datetime.now(UTC)).days if ends else None
