"""Where everything that is shown goes.

With `-o json` standard output holds exactly one document; all else goes to standard error.
Otherwise results go to standard output; progress, notes and warnings to standard error, so
that a pipe gets what was asked for and nothing else.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TextIO

from .clean import clean
from .style import Paint, columns, is_terminal, painter


class Shown(Protocol):
    """Something that renders itself for a terminal or for a file."""

    def text(self, paint: Paint, width: int | None) -> str: ...


@dataclass
class Output:
    """The two streams of one run. Safe to call from several threads."""

    format: Literal["text", "json"] = "text"
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    above: Callable[[str], None] | None = None
    """Set while a live display owns the terminal: prints a line above it."""
    documented: bool = False
    """Whether the one document has been written."""
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def terminal(self) -> bool:
        """Whether a person watches standard error."""
        return is_terminal(self.stderr, self.environ)

    @property
    def paint(self) -> Paint:
        """The colours of the stream that results are written to."""
        return painter(self._results, self.environ)

    @property
    def _results(self) -> TextIO:
        return self.stdout if self.format == "text" else self.stderr

    def say(self, line: str, style: str = "") -> None:
        """Write a line that is part of the result; with JSON it is a mere note."""
        self._write(self._results, self.paint(clean(line), style))

    def emit(self, line: str) -> None:
        """Write a line of the result that its maker has cleaned and coloured."""
        self._write(self._results, line)

    def note(self, line: str, style: str = "") -> None:
        """Write a line for the person who watches."""
        self._write(self.stderr, painter(self.stderr, self.environ)(clean(line), style))

    def warn(self, line: str) -> None:
        """Write a warning."""
        self.note(f"warning: {line}", "yellow")

    def show(self, what: str | Shown) -> None:
        """Render something as part of the result, without a document of its own."""
        self._write(self._results, self._render(what, self._results))

    def inform(self, what: str | Shown) -> None:
        """Render something for the person who watches: a plan before the question."""
        self._write(self.stderr, self._render(what, self.stderr))

    def result(self, what: str | Shown, document: object) -> None:
        """Write the task's result: the text, or with JSON the document.

        There is only ever one document: what comes after it is shown as text beside it.
        """
        if self.format == "text" or self.documented:
            self.show(what)
            return
        self.documented = True
        self._write(self.stdout, json.dumps(document, indent=2, ensure_ascii=False))

    def _render(self, what: str | Shown, stream: TextIO) -> str:
        if isinstance(what, str):
            return clean(what)
        return what.text(painter(stream, self.environ), columns(stream, self.environ))

    def _write(self, stream: TextIO, text: str) -> None:
        if not text:
            return
        with self._lock:
            if self.above and is_terminal(stream, self.environ):
                self.above(text)
            elif stream is self.stderr:
                _write_note(stream, text)
            else:
                _write_result(stream, text)


def _write_note(stream: TextIO, text: str) -> None:
    """Nobody reading the notes is no reason to stop a change half-way."""
    try:
        _write_line(stream, text)
    except OSError:
        return


def _write_result(stream: TextIO, text: str) -> None:
    """End quietly when the reader of a pipe has gone (`logs | head`), as SIGPIPE would."""
    try:
        _write_line(stream, text)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise SystemExit(141) from None


def _write_line(stream: TextIO, text: str) -> None:
    try:
        stream.write(text + "\n")
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()
