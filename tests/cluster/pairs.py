"""Which etcd on which Debian: a slice of the pairs in each run, all of them with `--whole`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, product
from typing import TypeVar

from etcdctl_remote.lab.image import SUITES
from etcdctl_remote.lab.releases import BUILT_WITH_GO

Point = TypeVar("Point")


@dataclass(frozen=True)
class Pair:
    """A release of etcd and one of Debian, and which of many points are tried there."""

    version: str
    os: str
    first: int = 0
    every: int = 1
    """In a slice each tries its own part, and together they try all."""

    def part(self, points: Sequence[Point]) -> Sequence[Point]:
        return points[self.first :: self.every]

    def __str__(self) -> str:
        return f"{self.version}-{self.os}"


WHOLE = tuple(Pair(version, os) for version, os in product(BUILT_WITH_GO, SUITES))
SLICE = tuple(
    Pair(version, os, first, len(BUILT_WITH_GO))
    for first, (version, os) in enumerate(zip(BUILT_WITH_GO, cycle(SUITES), strict=False))
)
