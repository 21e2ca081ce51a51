"""One table of what is, from one observation. Only observes."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ..errors import Problem, none_reached
from ..observed.report import Status
from ..observed.report import status as report
from ..observed.state import ClusterState
from ..remote.host import Command, Host
from .session import Session

_CERTIFICATES = 'for f in server peer etcdctl; do cat "$1/pki/current/$f.crt" 2>/dev/null; done; exit 0'


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
    command = Command(_CERTIFICATES, (session.cluster.paths.config,), about="read certificates", writes=False)
    try:
        found = re.findall(
            r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", host.run(command).text, re.S
        )
    except Problem:
        return None
    if not found:
        return None
    from ..pki.inspect import read_leaf

    try:
        first = min(read_leaf(pem.encode()).not_after for pem in found)
    except ValueError:
        return None
    return (first - datetime.now(UTC)).days
