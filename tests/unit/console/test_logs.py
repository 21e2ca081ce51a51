"""Several journals as one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from etcdctl_remote.console.logs import Entry, follow, merge, show
from tests.unit.console.streams import files, terminals


def entries(node: str, *times: int) -> list[Entry]:
    """Return one entry at each time."""
    return [Entry(at, node, f"{node}@{at}") for at in times]


def nobody(node: str, error: Exception) -> None:
    """Accept no lost stream."""
    raise AssertionError(node) from error


def test_finished_journals_merge_by_time() -> None:
    """Three nodes, one order, and lazily: nothing is read ahead but one entry each."""
    merged = merge([entries("n1", 1, 4, 9), entries("n2", 2, 3), entries("n3", 5)])
    assert [entry.at for entry in merged] == [1, 2, 3, 4, 5, 9]


def test_following_puts_late_entries_in_order() -> None:
    """An entry that comes a little later over a slow link still comes out first."""

    def slow() -> Iterator[Entry]:
        time.sleep(0.05)
        yield Entry(1, "n1", "earlier, but arrived later")

    def quick() -> Iterator[Entry]:
        yield Entry(2, "n2", "later")
        time.sleep(0.3)

    found = list(follow({"n1": slow(), "n2": quick()}, nobody, window=0.2))
    assert [entry.at for entry in found] == [1, 2]


def test_following_does_not_wait_for_more() -> None:
    """A single entry comes out though nothing ends and nothing follows it."""
    ended = threading.Event()

    def one() -> Iterator[Entry]:
        yield Entry(1, "n1", "alone")
        ended.wait(10)

    began = time.monotonic()
    stream = follow({"n1": one()}, nobody, window=0.1)
    assert next(stream).message == "alone"
    assert 0.1 <= time.monotonic() - began < 2
    ended.set()
    assert list(stream) == []


def test_a_flood_does_not_hold_entries_back() -> None:
    """A node that writes without pause cannot starve the display."""
    stop = threading.Event()

    def flood() -> Iterator[Entry]:
        at = 0
        while not stop.is_set():
            yield Entry(at := at + 1, "n1", "x")
            time.sleep(0.001)

    stream = follow({"n1": flood()}, nobody, window=0.05)
    began = time.monotonic()
    got = [next(stream).at for _ in range(20)]
    assert time.monotonic() - began < 2
    assert got == sorted(got)
    stop.set()


def test_a_lost_node_does_not_end_the_others() -> None:
    """Its error is told once; the rest goes on to its end."""
    lost: list[tuple[str, str]] = []

    def broken() -> Iterator[Entry]:
        yield Entry(1, "n1", "last words")
        raise ConnectionError("link down")

    found = list(
        follow(
            {"n1": broken(), "n2": entries("n2", 2, 3)},
            lambda node, error: lost.append((node, str(error))),
            window=0.05,
        )
    )
    assert [entry.at for entry in found] == [1, 2, 3]
    assert lost == [("n1", "link down")]


def test_the_lines() -> None:
    """Microseconds in UTC, the node padded, more lines below, no colours in a file."""
    output, out, _ = files()
    at = 1795237953_123456
    show(output, [Entry(at, "n1", "one\ntwo \x1b[31mred"), Entry(at, "node2", "x")], ("n1", "node2"))
    assert out.getvalue() == (
        "2026-11-21T05:12:33.123456Z n1    | one\n"
        "                                  | two red\n"
        "2026-11-21T05:12:33.123456Z node2 | x\n"
    )


def test_each_node_has_its_colour() -> None:
    """On a terminal the prefix tells the nodes apart."""
    output, out, _ = terminals()
    show(output, [*entries("n1", 0), *entries("n2", 0)], ("n1", "n2"))
    assert out.getvalue() == (
        "1970-01-01T00:00:00.000000Z \x1b[36mn1\x1b[0m | n1@0\n"
        "1970-01-01T00:00:00.000000Z \x1b[33mn2\x1b[0m | n2@0\n"
    )
