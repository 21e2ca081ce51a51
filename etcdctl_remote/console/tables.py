"""Aligned tables: as wide as they need to be, the last column wrapped on a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from .clean import one_line
from .style import Paint, cells

GAP = "  "
NARROWEST = 24
"""Cells; a last column with less room than this is better broken by the terminal."""


@dataclass(frozen=True)
class Cell:
    """A text and its style."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Table:
    """Headings and rows; a heading that starts with `>` aligns its column to the right."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell | str, ...], ...]
    before: tuple[Cell, ...] = ()
    after: tuple[Cell, ...] = ()
    """Lines above and below the table."""

    def text(self, paint: Paint, width: int | None = None) -> str:
        """Render; a column in which every cell is empty is left out."""
        rows = [tuple(_cell(cell) for cell in row) for row in self.rows]
        kept = [i for i in range(len(self.headings)) if any(row[i].text for row in rows)]
        right = [self.headings[i].startswith(">") for i in kept]
        head = tuple(Cell(self.headings[i].removeprefix(">"), "bold") for i in kept)
        body = [tuple(row[i] for i in kept) for row in rows]
        lines = [paint(one_line(line.text), line.style) for line in self.before]
        if kept:
            lines += _aligned([head, *body], right, paint, width)
        lines += [paint(one_line(line.text), line.style) for line in self.after]
        return "\n".join(lines)


def _cell(cell: Cell | str) -> Cell:
    return Cell(one_line(cell)) if isinstance(cell, str) else Cell(one_line(cell.text), cell.style)


def _aligned(
    rows: list[tuple[Cell, ...]], right: list[bool], paint: Paint, width: int | None
) -> Iterator[str]:
    widths = [max(cells(row[i].text) for row in rows) for i in range(len(right))]
    room = _room(widths, width)
    for row in rows:
        last = textwrap.wrap(row[-1].text, room) if room else [row[-1].text]
        first = [_pad(cell, widths[i], right[i], paint) for i, cell in enumerate(row[:-1])]
        for number, part in enumerate(last or [""]):
            shown = first if number == 0 else [" " * wide for wide in widths[:-1]]
            tail = _pad(Cell(part, row[-1].style), widths[-1] if right[-1] else 0, right[-1], paint)
            yield GAP.join([*shown, tail]).rstrip()


def _room(widths: list[int], width: int | None) -> int | None:
    """Return how wide the last column may be, or None to let it be."""
    if width is None:
        return None
    left = width - sum(widths[:-1]) - len(GAP) * (len(widths) - 1)
    return left if NARROWEST <= left < widths[-1] else None


def _pad(cell: Cell, width: int, right: bool, paint: Paint) -> str:
    blank = " " * (width - cells(cell.text))
    text = paint(cell.text, cell.style)
    return blank + text if right else text + blank
