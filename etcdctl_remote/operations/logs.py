"""The units' journals of all nodes, as streams of entries. Only observes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from ..errors import at
from ..remote import units
from ..remote.host import Host
from .run_etcdctl import choose
from .session import Session

Entry = tuple[int, str, str]
"""Microseconds since 1970 on the node's own clock, node, message."""


def streams(
    session: Session, *, node: str = "", lines: int = 100, follow: bool = False
) -> Mapping[str, Iterator[Entry]]:
    """Open the journal of one node, or of all that can be reached: the last `lines` of each."""
    first = choose(session, node)
    names = [first] if node else list(session.fleet.hosts)
    return {name: entries(session.fleet.hosts[name], lines, follow) for name in names}


def entries(host: Host, lines: int, follow: bool) -> Iterator[Entry]:
    """Read one node's journal, oldest first."""
    with at(host.name):
        for line in host.lines(units.journal(lines, follow=follow)):
            entry = _entry(host.name, line)
            if entry:
                yield entry


def _entry(node: str, line: str) -> Entry | None:
    try:
        fields = json.loads(line)
        message = fields.get("MESSAGE") or ""
        text = bytes(message).decode("utf-8", "replace") if isinstance(message, list) else str(message)
        return int(fields["__REALTIME_TIMESTAMP"]), node, text
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
