"""First starts that were cut off: what a deploy plans for them, and what it waits for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from etcdctl_remote.observed.state import ClusterState, Data, UnitState
from etcdctl_remote.operations.converge import data_stayed, plan
from etcdctl_remote.operations.wish import Wish
from etcdctl_remote.plan.step import Plan, Stage
from etcdctl_remote.plan.steps import SetAside, StartEtcd, StopEtcd
from tests.unit.operations.test_deploy import first_stage_done, wish
from tests.unit.operations.world import World, run

LOOPING = UnitState(active="activating", sub="auto-restart", enabled="enabled")
NAMES = ("n1", "n2", "n3")


def left(want: Wish, data: Data, unit: UnitState | None = None, on: str = "n1") -> ClusterState:
    """Installed hosts, one of them with what its first start left."""
    now = first_stage_done(want)[0].observe()
    host = replace(now.hosts[on], data=data)
    return replace(now, hosts={**now.hosts, on: replace(host, unit=unit) if unit else host})


def steps(todo: Plan, kind: type) -> list[str]:
    return [step.host for stage in todo.stages for step in stage.steps if isinstance(step, kind)]


@pytest.mark.parametrize(
    ("data", "unit", "stopped", "aside"),
    [
        (Data.BEGUN, None, [], []),
        (Data.STUCK, None, [], ["n1"]),
        (Data.EMPTY, LOOPING, ["n1"], ["n1"]),
        (Data.BEGUN, LOOPING, ["n1"], ["n1"]),
        (Data.STUCK, replace(LOOPING, pid=7), ["n1"], ["n1"]),
        (Data.MEMBER, LOOPING, [], []),
    ],
)
def test_what_etcd_does_not_come_up_from_is_set_aside(
    tmp_path: Path, data: Data, unit: UnitState | None, stopped: list[str], aside: list[str]
) -> None:
    """Stopped first where systemd tries again and again; then all three start together."""
    want = wish(tmp_path)
    todo = plan(want, left(want, data, unit))
    assert (steps(todo, StopEtcd), steps(todo, SetAside)) == (stopped, aside)
    assert steps(todo, StartEtcd) == list(NAMES)
    titles = [stage.title for stage in todo.stages]
    assert titles.index("Start all members together") == len(titles) - 2


def formed_without(want: Wish, name: str) -> World:
    """Two members that serve, and a founding one that ends at each start."""
    world = first_stage_done(want)[0]
    world.machines[name].stuck = True
    for each in NAMES:
        world.start(each)
    return world


def stage(todo: Plan, title: str) -> Stage:
    return next(stage for stage in todo.stages if stage.title == title)


def test_a_founding_member_that_ends_at_each_start_is_cleared_beside_a_quorum(tmp_path: Path) -> None:
    """Else every deploy would be refused with: the next run sets it aside."""
    want = wish(tmp_path)
    world = formed_without(want, "n1")
    now = world.observe()
    assert now.has_quorum
    assert (now.hosts["n1"].unit.sub, now.hosts["n1"].data) == ("auto-restart", Data.STUCK)
    todo = plan(want, now)
    assert (steps(todo, StopEtcd), steps(todo, SetAside)) == (["n1"], ["n1"])
    run(todo, world)
    assert all(host.serving and host.marker for host in world.observe().hosts.values())
    assert not plan(want, world.observe()).stages


def test_what_a_quorum_brings_up_is_not_stopped(tmp_path: Path) -> None:
    """Only who waits and has no process: not one that began, nor one that runs and waits to be led."""
    want = wish(tmp_path)
    world = formed_without(want, "n1")
    now = world.observe()
    host = now.hosts["n1"]
    for other in (replace(host, unit=replace(LOOPING, pid=7)), replace(host, data=Data.BEGUN)):
        todo = plan(want, replace(now, hosts={**now.hosts, "n1": other}))
        assert (steps(todo, StopEtcd), steps(todo, SetAside)) == ([], [])


def test_a_member_that_began_since_the_plan_was_made_is_not_stopped(tmp_path: Path) -> None:
    """Nor one of which that is not seen."""
    want = wish(tmp_path)
    world = formed_without(want, "n1")
    gate = stage(plan(want, world.observe()), "Stop first starts that do not get on").gate
    assert gate
    assert gate(world.observe()) is None
    now = world.observe()
    assert gate(replace(now, hosts={"n2": now.hosts["n2"]}, unreachable={"n1": "no route"})) == "n1: no route"
    world.stop("n2")
    assert "n1: the members no longer say" in (gate(world.observe()) or "")
    world.start("n2")
    world.stop("n1")
    world.machines["n1"].stuck = False
    world.start("n1")
    assert "n1: the members no longer say" in (gate(world.observe()) or "")


def test_nothing_is_set_aside_under_a_process(tmp_path: Path) -> None:
    """The stop has to have worked, and nobody may have been elected meanwhile."""
    want = wish(tmp_path)
    running = left(want, Data.STUCK, replace(LOOPING, pid=7))
    stop, aside = plan(want, running).stages[:2]
    assert stop.gate
    assert aside.gate
    assert "n1: etcd runs" in (aside.gate(running) or "")
    assert aside.gate(left(want, Data.STUCK, LOOPING)) == "n1: etcd is activating (auto-restart)"
    assert aside.gate(replace(running, hosts={}, unreachable={"n1": "no route"})) == "n1: no route"
    assert aside.gate(replace(running, hosts={})) == "n1: not observed"
    assert aside.gate(left(want, Data.STUCK)) is None
    assert stop.gate(running) is None


@pytest.mark.parametrize(
    ("before", "unit", "after", "fine"),
    [
        (Data.STUCK, None, Data.EMPTY, True),
        (Data.BEGUN, None, Data.BEGUN, True),
        (Data.STUCK, None, Data.STUCK, False),
        (Data.BEGUN, None, Data.MEMBER, False),
        (Data.BEGUN, LOOPING, Data.MEMBER, True),
        (Data.EMPTY, LOOPING, Data.MEMBER, True),
        (Data.EMPTY, LOOPING, Data.STUCK, False),
        (Data.EMPTY, None, Data.TORN, False),
        (Data.EMPTY, LOOPING, Data.OTHER, False),
        (Data.MEMBER, None, Data.EMPTY, False),
    ],
)
def test_a_start_waits_for_nothing_strange(
    tmp_path: Path, before: Data, unit: UnitState | None, after: Data, fine: bool
) -> None:
    """What its own etcd did until it was stopped is expected; what etcd does not come up from is not."""
    want = wish(tmp_path)
    gate = data_stayed(want, left(want, before, unit), NAMES)
    reason = gate(left(want, after))
    assert (reason is None) is fine, reason
