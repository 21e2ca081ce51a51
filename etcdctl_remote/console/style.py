"""Colours for a person's terminal, plain text for everybody else.

Lines and tables need no more than this, so they do without rich and its import; only the
live display uses it.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Mapping
from typing import TextIO

Paint = Callable[[str, str], str]
"""Called with (text, style); style is a name of `_CODES` or empty."""

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}

NODE_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "red")


def plain(text: str, style: str) -> str:
    """Leave the text as it is."""
    return text


def ansi(text: str, style: str) -> str:
    """Wrap the text in the style's escape sequence."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if style and text else text


def is_terminal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether a person looks at the stream through a terminal that can move its cursor."""
    return stream.isatty() and environ.get("TERM") != "dumb"


def painter(stream: TextIO, environ: Mapping[str, str]) -> Paint:
    """Choose colours for a terminal, unless NO_COLOR is set (https://no-color.org)."""
    return ansi if is_terminal(stream, environ) and not environ.get("NO_COLOR") else plain


def columns(stream: TextIO, environ: Mapping[str, str]) -> int | None:
    """Return the terminal's width; None where lines may be as long as they are."""
    if not is_terminal(stream, environ):
        return None
    if environ.get("COLUMNS", "").isdigit():
        return int(environ["COLUMNS"]) or None
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except OSError:
        return None


def node_colours(nodes: tuple[str, ...]) -> dict[str, str]:
    """Give each node its colour, the same in every view of one run."""
    return {node: NODE_COLOURS[index % len(NODE_COLOURS)] for index, node in enumerate(nodes)}


def cells(text: str) -> int:
    """Count the terminal cells a line takes: wide East Asian characters take two."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) != 0 for char in text)
