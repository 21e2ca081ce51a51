"""Ask the person at the terminal. Where there is none, say which flag answers instead."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from ..errors import LeftAtQuestion, UsageError
from ..secret import Secret
from .clean import one_line
from .output import Output


@dataclass(frozen=True)
class Asker:
    """The person: questions go to standard error, answers come from standard input."""

    output: Output
    stdin: TextIO = field(default_factory=lambda: sys.stdin)
    hidden: Callable[[str], str] = getpass.getpass
    """Reads a line without echo."""

    @property
    def present(self) -> bool:
        """Whether somebody sees the question and can answer it."""
        return self.stdin.isatty() and self.output.stderr.isatty()

    def confirm(self, question: str, *, flag: str = "--yes") -> bool:
        """Ask yes or no; anything but yes means no, and is said to."""
        self._insist(question, f"look at the plan first (`plan`, `--dry-run`), then give {flag}")
        answer = self._answer(f"{one_line(question)} [y/N]: ")
        if answer.lower() in ("y", "yes"):
            return True
        self.output.note(f"aborted (the answer was {answer!r}): nothing was changed")
        return False

    def typed(self, cluster: str, cost: str) -> bool:
        """Have the cluster's name typed where data can be lost; --yes is never enough."""
        self._insist(cost, f"to agree, give --confirm {cluster}")
        self.output.warn(cost)
        answer = self._answer(f"Type the name of the cluster ({cluster}) to continue: ")
        if answer == cluster:
            return True
        self.output.note(f"aborted (the answer was {answer!r}): nothing was changed")
        return False

    def password(self, prompt: str, *, hint: str = "run the task from a terminal") -> Secret:
        """Read a password or passphrase without echo; it is kept in memory only."""
        self._insist(prompt, hint)
        try:
            return Secret(self.hidden(f"{one_line(prompt)}: ").encode())
        except EOFError:
            raise UsageError(f"{one_line(prompt)}: nothing was typed", hint) from None

    def _insist(self, question: str, hint: str) -> None:
        if not self.present:
            asked = one_line(question)
            end = " There" if asked.endswith("?") else ": there"
            raise UsageError(f"{asked}{end} is no terminal to ask on", hint)

    def _answer(self, prompt: str) -> str:
        """Read a line; the end of input (Ctrl-D) is an empty one."""
        self.output.stderr.write(prompt)
        self.output.stderr.flush()
        try:
            line = self.stdin.readline()
        except KeyboardInterrupt as pressed:
            self.output.stderr.write("\n")
            raise LeftAtQuestion from pressed
        if not line.endswith("\n"):
            self.output.stderr.write("\n")
        return line.strip()
