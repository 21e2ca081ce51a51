"""A stage for the executor: steps that call a function, a clock that moves when told, hosts that are a name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from etcdctl_remote.errors import CommandFailed, Problem, TimedOut
from etcdctl_remote.observed.state import ClusterState
from etcdctl_remote.plan.events import Event, StepDone, StepFailed, StepStarted
from etcdctl_remote.plan.execute import Executor
from etcdctl_remote.plan.step import Gate, Plan, Progress, Stage
from etcdctl_remote.remote.fleet import Fleet
from tests.unit.plan.clusters import Voter, observed

Work = Callable[[str, Progress], None]


def nothing(host: str, progress: Progress) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Do:
    """A step that calls a function."""

    host: str
    title: str
    work: Work = nothing
    diff: str = ""

    def __str__(self) -> str:
        return self.title

    def run(self, host: object, progress: Progress) -> None:
        assert getattr(host, "name", "") == self.host, "a step ran on somebody else's host"
        self.work(self.host, progress)


@dataclass(frozen=True)
class Named:
    """A host that is only a name."""

    name: str


@dataclass
class Time:
    """A clock that moves when somebody sleeps, or is told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Scene:
    """An executor, what it observes, and what it told."""

    time: Time = field(default_factory=Time)
    told: list[Event] = field(default_factory=list)
    explained: list[str] = field(default_factory=list)
    observations: int = 0
    takes: float = 0.0
    """Seconds an observation takes."""
    state: Callable[[int], ClusterState] = lambda number: observed([Voter()] * 3)

    def observe(self, dials: Collection[str] = ()) -> ClusterState:
        self.observations += 1
        began = self.time.now
        self.time.now += self.takes
        return replace(self.state(self.observations), taken_at=began)

    def explain(self, now: ClusterState, reason: str) -> Problem:
        self.explained.append(reason)
        return TimedOut(f"explained: {reason}")

    def run(self, *stages: Stage, hosts: Sequence[str] = ("n1", "n2", "n3")) -> None:
        fleet = Fleet({name: Named(name) for name in hosts})  # type: ignore[misc]
        executor = Executor(
            fleet, self.observe, self.told.append, self.explain, clock=self.time, sleep=self.time.sleep
        )
        executor.execute(Plan("plan", stages))

    def of(self, host: str) -> list[str]:
        """What was told of one host's steps, in order."""
        kinds = {StepStarted: "start", StepDone: "done", StepFailed: "failed"}
        return [
            f"{kinds[type(event)]} {event.step}"
            for event in self.told
            if isinstance(event, StepStarted | StepDone | StepFailed) and event.host == host
        ]


def broken(host: str, progress: Progress) -> None:
    raise CommandFailed(host, "write", 28, "disk full")


OPEN: Gate = lambda now: None  # noqa: E731
CLOSED: Gate = lambda now: "not now"  # noqa: E731
