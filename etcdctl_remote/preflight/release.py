"""Whether the wanted release can be had: asked of the laptop, which sends it to the hosts."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from .. import acquire
from ..desired.model import ClusterSpec
from ..desired.release import arch_of
from ..errors import Problem
from ..observed.findings import Finding, Result
from .facts import Facts

LAPTOP = "laptop"
"""Stands for a node in the findings that are about none."""


def obtainable(cluster: ClusterSpec, facts: Collection[Facts], cache: Path) -> list[Finding]:
    """Look for the archive of every architecture that lacks the release: one finding, or none without a wish."""
    arches = {arch for seen in facts if not seen.installed and (arch := arch_of(seen.machine))}
    if facts and all(seen.installed for seen in facts):
        return [Finding(LAPTOP, "release", Result.PASS, f"every host has etcd {cluster.version}")]
    if not arches:
        return []
    said: list[str] = []
    try:
        for arch in sorted(arches):
            said.append(acquire.look(cluster.release, cluster.version, arch, cache, said.append))
    except Problem as problem:
        said.append(problem.message + (f" → {problem.hint}" if problem.hint else ""))
        return [Finding(LAPTOP, "release", Result.FAIL, "; ".join(said))]
    return [Finding(LAPTOP, "release", Result.PASS, "; ".join(said))]
