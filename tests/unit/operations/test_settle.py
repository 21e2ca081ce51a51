"""What changes by itself is looked at again before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from etcdctl_remote.observed.state import ClusterState, Data, UnitState
from etcdctl_remote.operations import settle
from tests.unit.operations.test_deploy import deployed, wish


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again without a pause."""
    monkeypatch.setattr(settle, "INTERVAL", 0.0)


@pytest.fixture
def now(tmp_path: Path) -> ClusterState:
    """Three members that serve."""
    return deployed(wish(tmp_path)).observe()


def changed(now: ClusterState, *names: str, **changes: object) -> ClusterState:
    hosts = {name: replace(now.hosts[name], **changes) for name in names}  # type: ignore[arg-type]
    return replace(now, hosts={**now.hosts, **hosts})


def silent(now: ClusterState, *names: str) -> ClusterState:
    return changed(now, *names, endpoint=None, members=None)


def looks(*states: ClusterState) -> tuple[ClusterState, int]:
    """Return what is made of these, and how many of them were left."""
    left: Iterator[ClusterState] = iter(states)
    found = settle.settled(lambda: next(left), 3)
    return found, len(list(left))


def test_an_answer_an_election_and_a_first_log_are_awaited(now: ClusterState) -> None:
    """A member that starts beside others, members that elect nobody yet, a database without its log."""
    starting = changed(now, "n2", data=Data.ABSENT, marker=None)
    for moving in (silent(now, "n3"), silent(now, "n1", "n2", "n3"), starting):
        assert looks(moving, now, now) == (now, 1)


def test_a_process_that_is_about_to_end_is_no_sign_of_what_comes(now: ClusterState) -> None:
    """A run that was killed right after it asked for a restart: the next one does not ask for another."""
    queued = changed(now, "n3", unit=replace(now.hosts["n3"].unit, job=77))
    ending = changed(silent(now, "n3"), "n3", unit=UnitState(active="deactivating", pid=5, job=77))
    for moving in (queued, ending):
        assert looks(moving, now, now) == (now, 1)


def test_what_stands_still_is_taken_at_once(now: ClusterState) -> None:
    """All serve, or too few run to elect anybody."""
    down = changed(silent(now, "n1", "n2", "n3"), "n2", "n3", unit=UnitState())
    for still in (now, down):
        assert looks(still, now) == (still, 1)


def test_who_lacks_the_means_to_answer_is_not_waited_for(now: ClusterState) -> None:
    """A member whose programs were removed tells nothing until they are put back, alone or among others."""
    gone = changed(silent(now, "n3"), "n3", missing=("/usr/local/bin/etcdctl",))
    assert looks(gone, gone) == (gone, 1)
    all_gone = changed(silent(now, *now.hosts), *now.hosts, missing=("/usr/local/bin/etcdctl",))
    assert looks(all_gone, all_gone) == (all_gone, 1)


def test_who_stays_silent_is_not_waited_for_for_ever(
    now: ClusterState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while it is what it looks like."""
    monkeypatch.setattr(settle, "SETTLE", -1.0)
    hung = silent(now, "n3")
    assert looks(hung, now) == (hung, 1)
