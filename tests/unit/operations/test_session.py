"""What operations work with: observing all hosts, whatever some of them do."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from etcdctl_remote.errors import ConnectionLost, Failed, TimedOut, Unreachable
from etcdctl_remote.operations.session import cache_dir, resolved
from tests.unit.operations.here import Canned, cluster, said, session

WHOLE = said("@@data\nempty\n\n@@end\n")


def test_one_silent_host_does_not_spoil_the_observation() -> None:
    """The others are seen; the silent one is named with its reason."""
    found = session(
        Canned("n1", {"observe": WHOLE}), Canned("n2", {"observe": TimedOut("n2: late")}),
        unreachable={"n3": Unreachable("n3: no route")},
    ).observe()  # fmt: skip
    assert set(found.hosts) == {"n1"}
    assert found.unreachable == {"n2": "late", "n3": "no route"}


@pytest.mark.parametrize("answer", [ConnectionLost("gone"), said("@@data\nempty\n"), said("", "boom", 1)])
def test_no_answer_is_never_a_state(answer: object) -> None:
    """A broken link, half an answer, a script that failed."""
    found = session(Canned("n1", {"observe": answer})).observe()  # type: ignore[dict-item]
    assert (dict(found.hosts), set(found.unreachable)) == ({}, {"n1"})


def test_only_what_was_asked_for_is_asked() -> None:
    """Paths by node."""
    first, second = Canned("n1", {"observe": WHOLE}), Canned("n2", {"observe": WHOLE})
    session(first, second).observe({"n1": ("/a", "/b")})
    assert first.asked[0].args[-2:] == ("/a", "/b")
    assert "/a" not in second.asked[0].args


def test_a_bug_is_not_an_unreachable_host() -> None:
    """It is raised, with the host it was met on."""
    with pytest.raises(Failed, match="n1: observe: KeyError: 'x'"):
        session(Canned("n1", {"observe": KeyError("x")})).observe()


def test_cache_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the operator keeps caches."""
    monkeypatch.setitem(os.environ, "XDG_CACHE_HOME", "/caches")
    assert cache_dir() == Path("/caches/etcdctl-remote/releases")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache/etcdctl-remote/releases"


def test_resolved() -> None:
    """Every address must be known before anything is planned."""
    known = cluster(2)
    assert resolved(known) is known
    nodes = (replace(known.nodes[0], address=None, interface="wg0"), known.nodes[1])
    with pytest.raises(Failed, match="the addresses of n1 are not known"):
        resolved(replace(known, nodes=nodes))
