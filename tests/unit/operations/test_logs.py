"""The journals of all nodes: which stream is read, and what a line of it says."""

from __future__ import annotations

import json

import pytest

from etcdctl_remote.errors import Unreachable, UsageError
from etcdctl_remote.operations.logs import streams
from tests.unit.operations.here import Canned, session

GONE = Unreachable("n3: no route to host", "is it up?")


def line(at: int, message: object) -> str:
    return json.dumps({"__REALTIME_TIMESTAMP": str(at), "MESSAGE": message})


def test_entries_of_all_nodes() -> None:
    """One stream a node; bytes that are no text come as a list of numbers, and are read."""
    first = Canned("n1", journal=(line(1, "a"), line(2, [0xC3, 0xA9, 0xFF])))
    found = streams(session(first, Canned("n2", journal=(line(3, None),))))
    assert {name: list(entries) for name, entries in found.items()} == {
        "n1": [(1, "n1", "a"), (2, "n1", "é\ufffd")],
        "n2": [(3, "n2", "")],
    }


@pytest.mark.parametrize(
    "broken", ["", "{", "null", "[]", "{}", line(1, [999]), '{"__REALTIME_TIMESTAMP":"x","MESSAGE":"a"}']
)
def test_broken_lines_are_left_out(broken: str) -> None:
    """journalctl may be cut off in a line; the rest is shown."""
    found = streams(session(Canned("n1", journal=(broken, line(1, "a")))))
    assert list(found["n1"]) == [(1, "n1", "a")]


def test_how_much_and_how_long() -> None:
    """--lines and --follow are journalctl's; following has no deadline of a minute."""
    host = Canned("n1")
    for follow in (False, True):
        list(streams(session(host), lines=7, follow=follow)["n1"])
    read, followed = host.asked
    assert read.args[read.args.index("-n") :][:2] == ("-n", "7")
    assert "--follow" not in read.args
    assert "--follow" in followed.args
    assert followed.timeout > 86400 > read.timeout
    assert not read.writes
    assert not followed.writes


def test_the_node_of_logs() -> None:
    """Only that node; a wrong or unreachable one is said."""
    opened = session(Canned("n1"), Canned("n2"), unreachable={"n3": GONE})
    assert list(streams(opened, node="n2")) == ["n2"]
    with pytest.raises(UsageError, match="there is no node n9"):
        streams(opened, node="n9")
    with pytest.raises(Unreachable) as caught:
        streams(opened, node="n3")
    assert list(caught.value.by_host) == ["n3"]
    with pytest.raises(Unreachable):
        streams(session(unreachable={"n3": GONE}))
