"""Preflight: look for everything that can spoil a deploy, before it does."""

from __future__ import annotations

from dataclasses import replace

from ..errors import Problem, Unreachable, bare
from ..observed.findings import Finding, Result
from ..plan.journal import operator
from ..preflight import checks
from ..remote.lock import beside
from .session import Session, cache_dir


def check(session: Session) -> tuple[Finding, ...]:
    """Run every check on every node; an unreachable node is a finding, not the end."""
    lost = tuple(
        Finding(name, "ssh", Result.FAIL, _line(name, problem))
        for name, problem in session.unreachable.items()
    )
    if not session.fleet.hosts:
        return lost
    known = tuple(node for node in session.cluster.nodes if node.address)
    seen = replace(session, cluster=replace(session.cluster, nodes=known))
    fleet = beside(seen.fleet, f"a check by {operator()}")
    scope = checks.Scope(disk=True, units=tuple(fleet.hosts), cache=cache_dir())
    return (*lost, *checks.run(seen.cluster, seen.prepare(), fleet, scope))


def _line(host: str, problem: Problem) -> str:
    kind = "" if isinstance(problem, Unreachable) else f"{type(problem).__name__}: "
    return f"{kind}{bare(host, problem)}" + (f" → {problem.hint}" if problem.hint else "")
