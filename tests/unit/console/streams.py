"""Streams for the tests: a file, and something that says it is a terminal."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Literal

from etcdctl_remote.console.output import Output


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def files(format: Literal["text", "json"] = "text") -> tuple[Output, io.StringIO, io.StringIO]:
    """Return an output without a terminal, with both its streams."""
    out, err = io.StringIO(), io.StringIO()
    return Output(format, out, err, {}), out, err


def terminals(
    format: Literal["text", "json"] = "text", environ: Mapping[str, str] | None = None
) -> tuple[Output, Terminal, Terminal]:
    """Return an output on a terminal 80 cells wide."""
    out, err = Terminal(), Terminal()
    return Output(format, out, err, {"TERM": "xterm", "COLUMNS": "80", **(environ or {})}), out, err
