"""The journal beside the inventory: who did what, written as it happens.

One JSON object a line, flushed to disk before the step it announces touches its host. No
secrets: steps are titles, errors are messages, and file contents never enter.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import Failed, UsageError
from .events import Event, StageStarted, StepDone, StepFailed, StepStarted
from .step import Plan

PATIENCE = 5.0
"""Seconds to wait for another run to write its line: it takes a flush to disk."""


def beside(inventory: Path) -> Path:
    """The journal that belongs to an inventory file."""
    return inventory.with_suffix(".journal.jsonl")


def read(path: Path) -> list[str]:
    """Read a journal's lines; none if nothing was ever done."""
    return path.read_text("utf-8", "replace").splitlines() if path.exists() else []


class Journal:
    """One run's entries, appended to the journal file. Several threads and processes may write."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.run = f"{clock():%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._warn = warn
        self._warned = False
        self._shown: Plan | None = None
        self.exit = 0
        """How a run ends that raises nothing."""

    def start(self, task: str, cluster: str, arguments: dict[str, Any]) -> None:
        """Say who begins which task. UsageError if the journal cannot be written: nothing was begun."""
        who = operator()
        try:
            self._append("start", task=task, cluster=cluster, who=who, pid=os.getpid(), arguments=arguments)
        except BlockingIOError as error:
            raise Failed(
                f"{self._path}: cannot write the journal: {error.strerror}", "end it, or let it go on"
            ) from error
        except OSError as error:
            raise UsageError(
                f"{self._path}: cannot write the journal: {error.strerror}",
                "every run that can change a host is noted there; make it writable, or free some space",
            ) from error

    def plan(self, plan: Plan) -> None:
        """Record the plan when it is shown, or before its first step; without file contents, and once."""
        if plan == self._shown:
            return
        self._shown = plan
        stages = [
            {"title": stage.title, "steps": [{"host": s.host, "step": str(s)} for s in stage.steps]}
            for stage in plan.stages
        ]
        self._write("plan", title=plan.title, changes=plan.changes, stages=stages)

    def __call__(self, event: Event) -> None:
        """Record what a listener is told, but for the passing: bytes and waiting."""
        match event:
            case StageStarted(number, total, title, hosts):
                self._write("stage", number=number, total=total, title=title, hosts=hosts)
            case StepStarted(host, step):
                self._write("step", host=host, step=step)
            case StepDone(host, step, seconds):
                self._write("done", host=host, step=step, seconds=round(seconds, 3))
            case StepFailed(host, step, error):
                self._write("failed", host=host, step=step, error=error)
            case _:
                pass

    def end(self, code: int, message: str = "") -> None:
        """Record how the run ended; a run without this line was killed."""
        self._write("end", exit=code, **({"message": message} if message else {}))

    def _write(self, event: str, **fields: Any) -> None:
        """Append an entry. A disk that is full by now makes no step a failed one: it is said once."""
        try:
            self._append(event, **fields)
        except OSError as error:
            if not self._warned:
                self._warned = True
                self._warn(f"warning: {self._path}: the journal of this run is incomplete: {error.strerror}")

    def _append(self, event: str, **fields: Any) -> None:
        at = self._clock().isoformat(timespec="milliseconds")
        line = json.dumps({"run": self.run, "at": at, "event": event, **fields}) + "\n"
        with self._lock:
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                _hold(descriptor, 0.0 if self._warned else PATIENCE)
                os.write(descriptor, _after_torn(descriptor) + line.encode())
                if event != "done":
                    os.fdatasync(descriptor) if hasattr(os, "fdatasync") else os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _hold(descriptor: int, patience: float) -> None:
    """Take the file's lock; OSError if another run holds it for long: suspended in mid-line, or stuck."""
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > end:
                raise BlockingIOError(
                    error.errno, "another run holds it and does not go on; `fuser` names it"
                ) from None
            time.sleep(0.02)
        else:
            return


def _after_torn(descriptor: int) -> bytes:
    """End a line that a full disk or a dead machine cut off, so that it spoils no other."""
    size = os.fstat(descriptor).st_size
    return b"" if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n" else b"\n"


def operator() -> str:
    """Return `user@laptop`."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
