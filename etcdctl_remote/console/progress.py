"""Show a running plan: a live display for a person, timestamped lines for everybody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from types import TracebackType

from ..plan.events import Event, Listener, StageStarted, StepDone, StepFailed, Waiting
from .clean import one_line
from .output import Output
from .quantities import seconds

CALM = 1.0
"""Seconds between two lines about waiting."""


def progress(output: Output) -> AbstractContextManager[Listener]:
    """Return the display for this output; it listens from `with` to its end."""
    if not output.terminal:
        return Lines(output)
    from .live import Live

    return Live(output)


class Lines:
    """One line for each stage, each finished step, and each new reason to wait."""

    def __init__(
        self,
        output: Output,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._output, self._clock, self._monotonic = output, clock, monotonic
        self._lock = threading.Lock()
        self._reason = ""
        self._waited = float("-inf")

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def __call__(self, event: Event) -> None:
        """Write the line of an event, if it has one."""
        match event:
            case StageStarted(number, total, title, hosts):
                with self._lock:
                    self._reason = ""
                self._line(f"stage {number} of {total}: {title} ({' '.join(hosts)})")
            case StepDone(host, step, took):
                self._line(f"{host} | {step} … done ({seconds(took)})")
            case StepFailed(host, step, error):
                self._line(f"{host} | {step} … failed: {error}")
            case Waiting(reason):
                if self._news(reason):
                    self._line(f"waiting: {reason}")
            case _:
                pass

    def _news(self, reason: str) -> bool:
        """Whether the reason is another one, and the last line about it old enough."""
        with self._lock:
            now = self._monotonic()
            if reason == self._reason or now - self._waited < CALM:
                return False
            self._reason, self._waited = reason, now
            return True

    def _line(self, text: str) -> None:
        self._output.note(f"{self._clock():%Y-%m-%dT%H:%M:%SZ} {one_line(text)}")
