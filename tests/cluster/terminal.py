"""Run the program on a terminal, and type what it asks for, as a person does."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from etcdctl_remote.lab.model import Lab

from . import drive, secrets

Answers = Sequence[tuple[str, str | Callable[[], str]]]
"""What is asked for, as a pattern, and what is typed then, or gives it; in this order, each once."""


def run(
    lab: Lab,
    *words: str,
    answers: Answers = (),
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = drive.PROGRAM,
    timeout: float = 120,
) -> drive.Done:
    """Run one task on a lab; see `on`."""
    return on(lab.inventory, *words, answers=answers, env=env, program=program, timeout=timeout)


def on(
    inventory: Path,
    *words: str,
    answers: Answers = (),
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = drive.PROGRAM,
    timeout: float = 120,
) -> drive.Done:
    """Run one task on a terminal of its own; everything it shows comes as standard output."""
    master, slave = pty.openpty()
    began, temporary = time.monotonic(), secrets.temporary(inventory)
    process = subprocess.Popen(
        [*program, *words, "-i", str(inventory)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=drive.ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(drive.ROOT),
            "TERM": "xterm",
            "TMPDIR": str(temporary),
            **(env or {}),
        },
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(slave)
    try:
        shown = _converse(master, list(answers), began + timeout)
    finally:
        os.close(master)
        if process.poll() is None and time.monotonic() > began + timeout:
            process.kill()
    done = drive.Done(process.wait(timeout=10), shown, "", time.monotonic() - began)
    drive.told(inventory, temporary, done)
    return done


def _take_terminal() -> None:
    """Make standard input the controlling terminal: passwords are read from /dev/tty."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _converse(master: int, answers: list[tuple[str, str | Callable[[], str]]], deadline: float) -> str:
    """Read until the program closes its terminal; type each answer once it is asked for."""
    shown, seen = "", 0
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 0.5)[0]:
            continue
        try:
            piece = os.read(master, 65536)
        except OSError:  # Linux's way to say that nobody has the other end open
            piece = b""
        if not piece:
            assert not answers, f"never asked for {answers[0][0]!r}\n{shown}"
            return shown
        shown += piece.decode(errors="replace")
        if answers and (asked := re.compile(answers[0][0]).search(shown, seen)):
            seen = asked.end()
            typed = answers.pop(0)[1]
            os.write(master, (typed if isinstance(typed, str) else typed()).encode() + b"\n")
    raise AssertionError(f"still running; shown so far:\n{shown}")
