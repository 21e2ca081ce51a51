"""Look again while what is seen changes by itself: an election, a start, a restart, a first log.

A start or restart that a former run left behind, or a host that just booted, is neither a lost
quorum nor foreign data, nor a member that hangs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..observed.lost import silent
from ..observed.state import ClusterState, Data, HostState, quorum

SETTLE = 10.0
"""Seconds for an election that is under way: up to two election timeouts, and some more."""

INTERVAL = 0.3
"""Seconds between two looks."""


def settled(look: Callable[[], ClusterState], nodes: int) -> ClusterState:
    """Return what is seen of `nodes` nodes once it stands still, or after `SETTLE`."""
    end = time.monotonic() + SETTLE
    while True:
        now = look()
        if time.monotonic() > end or not _moves(now, nodes):
            return now
        time.sleep(INTERVAL)


def _moves(now: ClusterState, nodes: int) -> bool:
    """Whether a leader, a log, an answer or another process may come any moment; whoever lacks the means gives none."""
    if any(_begins(host) or host.unit.ending for host in now.hosts.values()):
        return True
    running = sum(host.unit.running and not host.missing for host in now.hosts.values())
    waited = [name for name in silent(now) if not now.hosts[name].missing]
    return bool(waited) if now.has_quorum else running >= quorum(nodes)


def _begins(host: HostState) -> bool:
    """Whether etcd runs and has not made its log yet: its database comes first."""
    return host.unit.running and host.data is not Data.MEMBER and host.marker is None
