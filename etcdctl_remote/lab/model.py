"""The nouns of a lab: its shape, its nodes, its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from .engine import connect

if TYPE_CHECKING:
    from docker.models.containers import Container

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Shape:
    """What a lab is made of."""

    nodes: int = 3
    os: str = "debian12"
    jump: bool = False
    """One more host in front, that reaches the nodes."""
    disks: Mapping[str, int] = field(default_factory=dict)
    """Small disks of their own (tmpfs), mount point to MiB: to be filled up."""
    owner: str = ""
    """`pid:start` of the test run it belongs to; empty for a lab that stays until `down`."""


@dataclass(frozen=True)
class Node:
    """One container that is a whole host."""

    name: str
    container: str
    address: str
    address6: str | None
    role: Literal["node", "jump"] = "node"

    def handle(self) -> Container:
        """The engine's own object for it."""
        return connect().containers.get(self.container)


@dataclass(frozen=True)
class Lab:
    """Nodes, a network, and a folder with the key, the host keys and an inventory."""

    name: str
    state: Path
    os: str
    nodes: tuple[Node, ...]
    jump: Node | None = None
    disks: tuple[str, ...] = ()

    @property
    def key(self) -> Path:
        """The private key that `ops`, `admin` and root accept."""
        return self.state / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The nodes' real host keys."""
        return self.state / "known_hosts"

    @property
    def inventory(self) -> Path:
        """An inventory of this lab that works at once."""
        return self.state / "inventory.yaml"

    @property
    def hosts(self) -> tuple[Node, ...]:
        """All containers, the jump host last."""
        return (*self.nodes, self.jump) if self.jump else self.nodes

    def node(self, name: str) -> Node:
        """Find a host by its name; KeyError if there is none."""
        return {node.name: node for node in self.hosts}[name]


def each(things: Sequence[T], do: Callable[[T], R]) -> list[R]:
    """Do something to all side by side, in order; the first failure is raised when all ended."""
    if not things:
        return []
    with ThreadPoolExecutor(max_workers=min(8, len(things))) as pool:
        return [future.result() for future in [pool.submit(do, thing) for thing in things]]
