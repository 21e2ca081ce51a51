"""One host with all it is judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..desired.model import ClusterSpec, NodeSpec
from ..observed.findings import Finding, Result
from ..pki.generation import Generation
from .facts import Facts

MIB, GIB = 1 << 20, 1 << 30


@dataclass(frozen=True)
class Case:
    """One host with all it is judged by."""

    cluster: ClusterSpec
    node: NodeSpec
    facts: Facts
    generation: Generation
    offset: float = 0.0
    """Seconds by which the clock is ahead of the median of all nodes."""

    @property
    def deployed(self) -> bool:
        """Whether this host was deployed for this very cluster: by its marker, or the unit's token."""
        return self.facts.marker == self.cluster.name or self.facts.token == self.generation.token

    def says(self, check: str, result: Result, message: str) -> Finding:
        """Make a finding for this node."""
        return Finding(self.node.name, check, result, message)


Check = Callable[[Case], Iterable[Finding]]


def size(number: float) -> str:
    """Write bytes as a person reads them."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}" if number < 1000 * unit else f"{number / unit:.0f} {name}"
    return f"{number / 1024:.0f} KiB"
