"""The nouns of a plan: steps, stages, gates. Data and one verb; no dependencies, no rollback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..observed.state import ClusterState
from ..remote.host import Host

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) while a step transfers."""

Gate = Callable[[ClusterState], str | None]
"""A statement about a fresh observation: None while it is true, else the reason it is not."""


class Step(Protocol):
    """One thing done to one host; running it twice does no harm."""

    @property
    def host(self) -> str: ...

    @property
    def diff(self) -> str:
        """The change to files as a unified diff; empty if it changes none that may be shown."""
        ...

    def __str__(self) -> str:
        """Say it as a present-tense verb phrase: "restart etcd"."""
        ...

    def run(self, host: Host, progress: Progress) -> None: ...


@dataclass(frozen=True)
class Stage:
    """Steps done side by side on several hosts; one host's steps in their order."""

    title: str
    steps: tuple[Step, ...]
    gate: Gate | None = None
    """Must hold on a fresh observation right before the first step, or the run stops."""
    until: Gate | None = None
    """Awaited after the last step: the stage is done once it holds."""
    deadline: float = 120.0
    """Seconds to wait for `until`."""
    dials: tuple[str, ...] = ()
    """Nodes whose ports are dialled anew for `until`: it says what they show on the wire."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts touched, in order of first mention."""
        return tuple(dict.fromkeys(step.host for step in self.steps))


@dataclass(frozen=True)
class Plan:
    """Stages in order, computed before anything is touched. Falsy when nothing is to do."""

    title: str
    stages: tuple[Stage, ...] = ()
    notes: tuple[str, ...] = ()
    """What the operator should know before saying yes."""
    left_out: tuple[str, ...] = ()
    """Nodes for which nothing can be done that should be; a note says why."""
    incomplete: bool = False
    """Whether a host that was seen is among them, or a member runs and does not serve: carried out,
    the task has failed all the same."""

    def __bool__(self) -> bool:
        return any(stage.steps for stage in self.stages)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts touched, in order of first mention."""
        return tuple(dict.fromkeys(host for stage in self.stages for host in stage.hosts))

    @property
    def changes(self) -> int:
        """How many steps the plan has."""
        return sum(len(stage.steps) for stage in self.stages)
