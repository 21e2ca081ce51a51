"""What happens while a plan runs, as data: progress, journal and tests listen to the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class StageStarted:
    """Stage `number` of `total` begins on `hosts`."""

    number: int
    total: int
    title: str
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class StepStarted:
    """A step is about to touch its host."""

    host: str
    step: str


@dataclass(frozen=True)
class StepDone:
    """A step has succeeded after `seconds`."""

    host: str
    step: str
    seconds: float


@dataclass(frozen=True)
class StepFailed:
    """A step has failed; the host may be anywhere between before and after."""

    host: str
    step: str
    error: str


@dataclass(frozen=True)
class Transferred:
    """Bytes of the running step's transfer so far, and in all."""

    host: str
    done: int
    total: int


@dataclass(frozen=True)
class Waiting:
    """A gate does not hold yet; `reason` is what it saw last."""

    reason: str


Event = StageStarted | StepStarted | StepDone | StepFailed | Transferred | Waiting
Listener = Callable[[Event], None]


def broadcast(*listeners: Listener) -> Listener:
    """Tell each listener in turn; called from several threads at once."""

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return tell
