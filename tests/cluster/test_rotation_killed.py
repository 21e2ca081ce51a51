"""The laptop dies after any step of a rotation: the next run goes on, and nobody notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdctl_remote.lab.model import Lab
from tests.conftest import NEWEST

from . import clients, drive
from .drive import Factory
from .killing import CUT, KILLED, last_run
from .test_rotation import deployed, wire

pytestmark = pytest.mark.cluster


@pytest.fixture
def lab(lab_factory: Factory, tmp_path: Path) -> Lab:
    return deployed(lab_factory, NEWEST, "debian12", tmp_path)


def killed(lab: Lab, number: int, when: str, *words: str) -> drive.Done:
    """Run a task, and die at a step, counted over all hosts."""
    return drive.run(lab, "any", str(number), when, *words, program=CUT)


def repeated(lab: Lab) -> int:
    """Count the steps with which the next run begins although they are done: leadership is handed over anew."""
    done = [entry["step"] for entry in last_run(lab) if entry["event"] == "done"]
    return int(bool(done) and done[-1].startswith("hand leadership over"))


def test_new_leaves_killed_after_each_step(lab: Lab, tmp_path: Path) -> None:
    """Before the first one, in it, and after each: no request fails, none is repeated, no process ends."""
    pids = drive.pids(lab)
    with clients.writing(lab, tmp_path) as found:
        for number, when in ((0, "before"), (0, "0.01"), (0, "after"), (1, "after"), (2, "after")):
            before = wire(lab)
            done = killed(lab, number, when, "rotate-certs", "--force", "-y")
            assert done.code == KILLED, done
            drive.must(lab, "rotate-certs", "-y")
            assert not set(wire(lab).values()) & set(before.values()), when
    drive.settle_nothing(lab)
    for mode, seen in found.items():
        assert (seen.failed, seen.retried) == ([], []), mode
    assert drive.pids(lab) == pids
    assert clients.lost(lab, found) == []
    assert drive.leftovers(lab) == []


@pytest.mark.timeout(600)
def test_a_new_ca_killed_after_each_step(lab: Lab, tmp_path: Path) -> None:
    """Every run gets one step further; in the end each member has restarted twice, and nothing was lost."""
    starts, before = drive.started(lab), wire(lab)
    steps = 0
    with clients.writing(lab, tmp_path, retry=True) as found:
        while True:
            done = killed(lab, repeated(lab), "after", "rotate-certs", "--ca", "-y")
            clients.equip(lab, tmp_path)
            if done.code == 0:
                break
            assert done.code == KILLED, done
            steps += 1
            assert steps < 40, "it does not come to an end"
    assert steps >= 2 * 3 * 4 + 3, "three steps and a restart in two states, and a switch in one"
    assert {name: count - starts[name] for name, count in drive.started(lab).items()} == dict.fromkeys(
        starts, 2
    )
    assert not set(wire(lab).values()) & set(before.values())
    for mode, seen in found.items():
        assert seen.failed == [], mode
    assert clients.lost(lab, found) == []
    drive.settle_nothing(lab)
    assert drive.leftovers(lab) == []
