"""The journals of several nodes as one, in time order."""

from __future__ import annotations

import heapq
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from .clean import clean
from .output import Output
from .style import Paint, node_colours, plain

WINDOW = 0.3
"""Seconds an entry waits for an earlier one from a slower link; longer would feel like lag."""


@dataclass(frozen=True, order=True)
class Entry:
    """One line of a node's journal. `at` is microseconds since 1970."""

    at: int
    node: str
    message: str

    def text(self, paint: Paint = plain, colour: str = "", wide: int = 0) -> str:
        """Render `2026-11-21T05:12:33.123456Z n1 | message`; more lines are indented below."""
        when = datetime.fromtimestamp(self.at / 1e6, UTC).isoformat(timespec="microseconds")
        head = f"{when.removesuffix('+00:00')}Z {paint(self.node.ljust(wide), colour)} | "
        below = " " * (len(when) - 5 + max(wide, len(self.node)) + 2) + "| "
        return head + f"\n{below}".join(clean(self.message).splitlines())


_Item = tuple[str, Entry | Exception | None]
"""A node, and an entry of its journal, the error that broke it, or None at its end."""


def merge(streams: Iterable[Iterable[Entry]]) -> Iterator[Entry]:
    """Merge journals that end, each in time order already, holding one entry of each."""
    return heapq.merge(*streams, key=lambda entry: entry.at)


def follow(
    streams: Mapping[str, Iterable[Entry]],
    lost: Callable[[str, Exception], None],
    *,
    window: float = WINDOW,
) -> Iterator[Entry]:
    """Merge journals that go on, until all have ended; `lost` hears of each that broke.

    An entry comes out `window` seconds after it arrived, so that earlier ones of other nodes
    may overtake it. The readers are daemon threads: they end with their streams, which their
    owner closes.
    """
    arrived: queue.Queue[_Item] = queue.Queue()
    for node, stream in streams.items():
        threading.Thread(target=_read, args=(node, stream, arrived), daemon=True).start()
    running = set(streams)
    waiting: list[tuple[int, float, Entry]] = []
    while running:
        node, item = _next(arrived, waiting, window)
        if isinstance(item, Entry):
            heapq.heappush(waiting, (item.at, time.monotonic(), item))
        elif node:
            running.discard(node)
            if item is not None:
                lost(node, item)
        while waiting and waiting[0][1] + window <= time.monotonic():
            yield heapq.heappop(waiting)[2]
    yield from (entry for _, _, entry in sorted(waiting))


def _next(arrived: queue.Queue[_Item], waiting: list[tuple[int, float, Entry]], window: float) -> _Item:
    """Return what arrives before the earliest waiting entry is due, or nothing of nobody."""
    due = max(0.0, waiting[0][1] + window - time.monotonic()) if waiting else None
    try:
        return arrived.get(timeout=due)
    except queue.Empty:
        return "", None


def _read(node: str, stream: Iterable[Entry], arrived: queue.Queue[_Item]) -> None:
    try:
        for entry in stream:
            arrived.put((node, entry))
    except Exception as error:  # the thread's edge: whatever it was, the reader is told
        arrived.put((node, error))
    else:
        arrived.put((node, None))


def show(output: Output, entries: Iterable[Entry], nodes: tuple[str, ...]) -> None:
    """Write entries as they come, each node in its colour."""
    colours = node_colours(nodes)
    wide = max((len(node) for node in nodes), default=0)
    paint = output.paint
    for entry in entries:
        output.emit(entry.text(paint, colours.get(entry.node, ""), wide))


def document(entries: Iterable[Entry]) -> dict[str, object]:
    """Return the JSON shape of `logs`; `at` is microseconds since 1970."""
    return {"entries": [{"at": e.at, "node": e.node, "message": clean(e.message)} for e in entries]}
