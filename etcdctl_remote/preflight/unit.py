"""Lint the unit that a deploy would write, on its host, before anything is changed there."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..desired import service, settings
from ..desired.hostspec import UNIT_PATH, Membership, host_spec
from ..desired.model import ClusterSpec, PathsSpec
from ..errors import CommandFailed, Problem, TimedOut
from ..observed.findings import Finding, Result
from ..pki.generation import Generation
from ..remote import units
from ..remote.fleet import Fleet
from ..remote.host import Host
from .facts import Facts
from .judge import ARCHITECTURES


def customised(cluster: ClusterSpec, nodes: Collection[str]) -> tuple[str, ...]:
    """Keep the nodes in whose unit the operator's own words are: ours alone is known to be good."""
    ours = (service.resolve({}), PathsSpec(), "etcd", settings.resolve(cluster.version))
    return tuple(
        node.name
        for node in cluster.nodes
        if node.name in nodes
        and ours != (dict(cluster.service), cluster.paths, cluster.user, dict(node.settings))
    )


def lint(
    cluster: ClusterSpec, generation: Generation, fleet: Fleet, facts: Mapping[str, Facts]
) -> list[Finding]:
    """Lint the unit on each host we have facts of, one finding each, with the write's own judgement."""

    def one(host: Host) -> Finding:
        try:
            text = _unit(cluster, generation, facts[host.name])
            said = host.run(units.lint(f"{cluster.paths.bin}/etcd", service.LINES), text).text
        except (CommandFailed, TimedOut) as problem:
            return _judged(host.name, problem)
        if said.strip():
            told = "; ".join(said.split("\n")).rstrip("; ")
            return Finding(host.name, "unit", Result.WARN, f"systemd ignores lines of a drop-in: {told}")
        return Finding(host.name, "unit", Result.PASS, "systemd has nothing to say against it")

    able = {
        name: fleet.hosts[name]
        for name, seen in facts.items()
        if seen.init == "systemd" and "systemd-analyze" not in seen.missing
    }
    return [
        answer
        if isinstance(answer, Finding)
        else Finding(
            name, "unit", Result.FAIL, answer.message if isinstance(answer, Problem) else str(answer)
        )
        for name, answer in fleet.spread(able, one).items()
    ]


def _judged(node: str, problem: CommandFailed | TimedOut) -> Finding:
    if isinstance(problem, CommandFailed) and problem.exit_status == units.MISFIT:
        said = "; ".join(problem.stderr.strip().splitlines())
        return Finding(node, "unit", Result.FAIL, f"{said} → {units.MEND}")
    return Finding(node, "unit", Result.WARN, f"cannot be linted: {problem.message}")


def _unit(cluster: ClusterSpec, generation: Generation, seen: Facts) -> bytes:
    """Render the unit of a first deploy: what differs later is no line of its own."""
    node = cluster.node(seen.node)
    spec = host_spec(
        cluster,
        node,
        Membership(generation.token, "new"),
        generation.node_files(node.name),
        arch=ARCHITECTURES.get(seen.machine, "amd64"),
    )
    return next(file.data for file in spec.files if file.path == UNIT_PATH)
