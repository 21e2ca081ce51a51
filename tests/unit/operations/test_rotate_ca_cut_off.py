"""A CA's replacement that was cut off, or is taken back by a state: nothing is lost, and a later run finishes."""

from __future__ import annotations

from contextlib import suppress

import pytest

from etcdctl_remote.operations.rotate_ca import Task
from etcdctl_remote.pki.generation import State
from etcdctl_remote.plan.steps import RestartEtcd
from tests.unit.operations.world import Crash

from .test_rotate_ca import Found, restarts, state


@pytest.mark.parametrize(
    ("pki", "tasks", "every"), [("", Task(), 1), ("peer_ca: same", Task(), 5), ("", Task({"peer"}), 6)]
)
def test_killed_at_every_step_the_next_run_finishes(found: Found, pki: str, tasks: Task, every: int) -> None:
    """It finishes the replacement that was begun and begins no other; nothing is lost, nobody refused."""
    total = found(pki=pki).replace_ca(dry_run=True, which=tasks.which).changes
    for cut in range(0, total, every):
        town = found(pki=pki)
        before, old = town.starts(), town.held
        town.world.budget = cut
        with pytest.raises(Crash):
            town.replace_ca(which=tasks.which)
        begun, town.world.budget = town.held, None
        new = begun.authorities
        if begun.rotation and begun.rotation.state is State.TRUST_BOTH:
            new = begun.rotation.other
        town.world.write("between")
        town.replace_ca(which=tasks.which)
        assert town.held.rotation is None, cut
        assert town.held.authorities == new, f"another replacement was begun after a kill at {cut}"
        assert new != old.authorities
        assert max(restarts(town, before).values()) <= 3, cut
        town.assert_unharmed()
        town.assert_whole()


def test_killed_twice_and_more(found: Found) -> None:
    """Every run is cut off after a step of its own: it gets there all the same."""
    town = found()
    for _ in range(40):
        town.world.budget = 2  # to hand leadership over and to restart: neither alone is progress
        with suppress(Crash):
            town.replace_ca()
            break
    else:
        pytest.fail("it never came to an end")
    town.world.budget = None
    assert len(list((town.store.root / "ca").iterdir())) == 2
    town.assert_unharmed()
    town.assert_whole()


@pytest.mark.parametrize("cut", range(0, 24, 2))
def test_a_deploy_after_a_kill_brings_the_state_and_keeps_it(found: Found, cut: int) -> None:
    """It neither advances nor goes back; the replacement is finished by its own task."""
    town = found()
    town.world.budget = cut
    try:
        town.replace_ca()
    except Crash:
        stopped, held = state(town), town.held
        town.world.budget = None
        town.deploy()
        assert state(town) is stopped
        assert town.held.ca_bundle == held.ca_bundle
        town.assert_whole()
    else:
        pytest.fail("nothing was cut off")
    if stopped:
        town.replace_ca()
    assert state(town) is None
    town.assert_unharmed()
    town.assert_whole()


@pytest.mark.parametrize(
    ("pause", "back"),
    [("before-leaves", None), ("before-drop", State.TRUST_BOTH), ("", State.NEW_LEAVES)],
)
def test_back_from_each_state(found: Found, pause: str, back: State | None) -> None:
    """One state back, rolling where bundles change; and then to the end."""
    town = found()
    town.replace_ca(pause=pause)
    before = town.starts()
    todo = town.rotate(back=True)
    assert state(town) is back
    assert todo.title == "go back to the former certificates of demo"
    assert any("is trusted again" in note for note in todo.notes) is (pause == "")
    assert any("is trusted no longer" in note for note in todo.notes) is (pause == "before-leaves")
    assert not any("drop-ins" in note for note in todo.notes)
    leaves_only = pause == "before-drop"
    assert (
        any(isinstance(step, RestartEtcd) for stage in todo.stages for step in stage.steps) is not leaves_only
    )
    assert restarts(town, before) == dict.fromkeys(before, 0 if leaves_only else 1)
    town.assert_unharmed()
    town.assert_whole()
    town.replace_ca()
    assert state(town) is None
    town.assert_unharmed()
    town.assert_whole()


@pytest.mark.parametrize("pause", ["before-leaves", "before-drop", ""])
def test_back_killed_at_every_step(found: Found, pause: str) -> None:
    """A deploy finishes what going back began, and so does the replacement's own task."""
    for cut in (0, 1, 3, 4, 7, 10):
        town = found()
        town.replace_ca(pause=pause)
        town.world.budget = cut
        try:
            town.rotate(back=True)
        except Crash:
            town.world.budget = None
            stopped = state(town)
            town.deploy()
            assert state(town) is stopped
            town.assert_whole()
        town.world.budget = None
        town.replace_ca()
        assert state(town) is None
        town.assert_unharmed()
        town.assert_whole()


@pytest.mark.parametrize("cut", [1, 4, 10, 13, 16, 20, 23])
def test_back_from_a_replacement_that_was_cut_off(found: Found, cut: int) -> None:
    """In any state, half done: what was begun is undone by a state, and finished later."""
    town = found()
    town.world.budget = cut
    with pytest.raises(Crash):
        town.replace_ca()
    town.world.budget = None
    stopped = state(town)
    town.rotate(back=True)
    before = {
        State.TRUST_BOTH: None,
        State.NEW_LEAVES: State.TRUST_BOTH,
        State.TRUST_NEW: State.NEW_LEAVES,
    }
    assert stopped is not None
    assert state(town) is before[stopped]
    town.assert_whole()
    town.replace_ca()
    assert state(town) is None
    town.assert_unharmed()
    town.assert_whole()
