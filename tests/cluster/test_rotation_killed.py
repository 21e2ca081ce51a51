"""The laptop dies after any step of a rotation: the next run goes on, and nobody notices."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from etcdctl_remote.desired import inventory
from etcdctl_remote.lab.model import Lab
from etcdctl_remote.pki.generation import State
from etcdctl_remote.pki.store import Store
from tests.conftest import TOLD

from . import clients, drive
from .drive import Factory
from .killing import CUT, KILLED, last_run
from .pairs import Pair
from .test_rotation import Tell, changed_sides, deployed, survived, unnoticed, wire

pytestmark = pytest.mark.cluster

POINTS = ((0, "before"), (0, "0.01"), (0, "after"), (1, "after"), (2, "after"))
"""Of new leaves, a step for each node: the number of the one that is cut, and when."""
STEPS = 2 * 3 * 4 + 3
"""Of a new CA: for each node three steps and a restart in two states, and a switch in one."""


@pytest.mark.timeout(600)
def test_killed_after_each_step(
    lab_factory: Factory, tmp_path: Path, record_property: Tell, pair: Pair
) -> None:
    """Whatever a run was about to do when it died, the next one does, for leaves and for a CA."""
    lab = deployed(lab_factory, pair)
    record_property(TOLD, f"leaves: {new_leaves(lab, tmp_path / 'leaves', pair)}")
    record_property(TOLD, f"CA: {new_ca(lab, tmp_path / 'ca', tmp_path / 'old', pair)}")


def killed(lab: Lab, number: int, when: str, *words: str) -> drive.Done:
    """Run a task, and die at a step, counted over all hosts."""
    return drive.run(lab, "any", str(number), when, *words, program=CUT)


def new_leaves(lab: Lab, folder: Path, pair: Pair) -> str:
    """Before the first step, in it, and after each: no request fails, none is repeated, no process ends."""
    clients.equip(lab, folder)
    pids, points = drive.pids(lab), pair.part(POINTS)
    with clients.writing(lab, folder) as found:
        for number, when in points:
            before = wire(lab)
            done = killed(lab, number, when, "rotate-certs", "--force", "-y")
            assert done.code == KILLED, done
            drive.must(lab, "rotate-certs", "-y")
            assert not set(wire(lab).values()) & set(before.values()), (number, when)
    assert drive.pids(lab) == pids
    unnoticed(lab, found)
    drive.settle_nothing(lab)
    assert drive.leftovers(lab) == []
    return f"{len(points)} × killed; {clients.told(found)}"


def new_ca(lab: Lab, folder: Path, old: Path, pair: Pair) -> str:
    """Every run gets a step further (in a slice: some), and the old CA's client is welcome until the last state."""
    for each in (folder, old):
        clients.equip(lab, each)
    starts, before = drive.started(lab), wire(lab)
    kills: Counter[State] = Counter()
    with clients.writing(lab, folder, retry=True) as found:
        further = pair.first
        while (done := killed(lab, further, "after", "rotate-certs", "--ca", "-y")).code == KILLED:
            here = state(lab)
            kills[here] += 1
            assert kills.total() <= STEPS * 2, "it does not come to an end"
            clients.equip(lab, folder)
            clients.trust(lab, old)
            assert here is State.TRUST_NEW or all(clients.accepted(lab, old).values()), here
            further = repeated(lab) + pair.every - 1
        assert done.code == 0, done
    assert set(kills) == set(State)
    assert kills.total() >= STEPS // pair.every
    assert not set(wire(lab).values()) & set(before.values())
    survived(lab, found, starts)
    changed_sides(lab, folder, old)
    assert drive.leftovers(lab) == []
    return f"{kills.total()} × killed; {clients.told(found)}"


def state(lab: Lab) -> State:
    """Return how far the store says a replacement has come."""
    held = Store.beside(inventory.load(lab.inventory)).load()
    assert held is not None
    assert held.rotation is not None
    return held.rotation.state


def repeated(lab: Lab) -> int:
    """Count the steps with which the next run begins although they are done: leadership is handed over anew."""
    done = [entry["step"] for entry in last_run(lab) if entry["event"] == "done"]
    return int(bool(done) and done[-1].startswith("hand leadership over"))
