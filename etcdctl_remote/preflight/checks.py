"""Preflight: everything that can spoil a deploy, found before the first change."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ..desired.model import ClusterSpec
from ..errors import CommandFailed, Problem, Refused, bare
from ..observed.findings import Finding, Result
from ..pki.generation import Generation
from ..remote.fleet import Fleet
from ..remote.host import Host
from . import facts as look
from .disk import measure
from .facts import Facts
from .judge import judge
from .network import probe
from .reach import blocked, reach
from .release import obtainable
from .unit import lint


@dataclass(frozen=True)
class Scope:
    """What is looked at besides the hosts' facts."""

    network: bool = True
    disk: bool = False
    """Measures fsync latency: takes up to 2 s and writes a temporary file."""
    units: Collection[str] = ()
    """Nodes on which the unit that they would get is linted: takes 0.1 s of CPU each."""
    cache: Path | None = None
    """Where releases are kept on the laptop, to ask whether the wanted one can be had."""


def run(
    cluster: ClusterSpec, generation: Generation, fleet: Fleet, scope: Scope = Scope()
) -> tuple[Finding, ...]:
    """Run all checks on the fleet's hosts at once: facts, units, then the network, then the disks.

    A host that fails to answer is a finding.
    """
    told = _facts(cluster, fleet)
    found = [*told.failed, *judge(cluster, generation, told.facts)]
    found += lint(
        cluster, generation, fleet, {name: told.facts[name] for name in told.facts if name in scope.units}
    )
    if scope.network and told.facts:
        seen = probe(cluster, generation, fleet, told.facts)
        found += reach(cluster, generation, told.facts, seen)
    if scope.disk:
        told_of = {name: host for name, host in fleet.hosts.items() if name in told.facts}
        found += measure(cluster, replace(fleet, hosts=told_of))
    if scope.cache:
        found += obtainable(cluster, told.facts.values(), scope.cache)
    order = {node.name: number for number, node in enumerate(cluster.nodes)}
    return tuple(sorted(found, key=lambda finding: order.get(finding.node, len(order))))


def forbidding(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Keep what makes a deploy pointless or unsafe: every failure."""
    return tuple(finding for finding in findings if finding.result is Result.FAIL)


def refuse_failing(
    cluster: ClusterSpec, generation: Generation, fleet: Fleet, scope: Scope = Scope()
) -> tuple[Finding, ...]:
    """Run the checks that can forbid a deploy; Refused lists every failure of every node at once.

    Members that serve prove their network themselves: it is out of the scope then.
    """
    found = run(cluster, generation, fleet, scope)
    bad = forbidding(found)
    if bad:
        seen: dict[str, list[str]] = {}
        for finding in bad:
            seen.setdefault(finding.node, []).append(f"{finding.check}: {finding.message}")
        raise Refused(
            f"{cluster.name} cannot be deployed as things are; nothing was changed",
            "mend what each line names; `check` shows everything that was looked at",
            {node: "\n      ".join(lines) for node, lines in seen.items()},
        )
    return found


def cut_off(
    cluster: ClusterSpec, generation: Generation, fleet: Fleet, nodes: Collection[str]
) -> tuple[Finding, ...]:
    """Find the peer ports that are not reached from or at `nodes`; empty if none is, or nobody can tell."""
    facts = _facts(cluster, fleet).facts
    trials = probe(cluster, generation, fleet, facts).trials
    theirs = [t for t in trials if t.way.kind == "peer" and {t.way.source, t.way.target} & set(nodes)]
    return tuple(blocked(cluster, facts, theirs))


@dataclass(frozen=True)
class _Told:
    facts: dict[str, Facts]
    failed: tuple[Finding, ...]


def _facts(cluster: ClusterSpec, fleet: Fleet) -> _Told:
    """Ask every host; one that does not let us become root or does not answer is a finding."""

    def ask(host: Host) -> Facts:
        return look.ask(cluster, cluster.node(host.name), host)

    answers = fleet.spread(fleet.hosts, ask)
    facts = {name: answer for name, answer in answers.items() if isinstance(answer, Facts)}
    failed = tuple(
        _failure(name, answer) for name, answer in answers.items() if isinstance(answer, Exception)
    )
    return _Told(facts, failed)


def _failure(node: str, error: Exception) -> Finding:
    if not isinstance(error, Problem):
        return Finding(node, "facts", Result.FAIL, f"{type(error).__name__}: {error}")
    check = "facts" if isinstance(error, CommandFailed) else "sudo" if "sudo" in error.message else "ssh"
    return Finding(node, check, Result.FAIL, bare(node, error) + (f" → {error.hint}" if error.hint else ""))
