"""The planner of deploy, against a world with physics."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from etcdctl_remote.acquire import Archive
from etcdctl_remote.desired import inventory
from etcdctl_remote.desired.hostspec import UNIT_PATH
from etcdctl_remote.errors import Refused
from etcdctl_remote.observed.state import Data
from etcdctl_remote.operations.converge import plan
from etcdctl_remote.operations.wish import Wish
from etcdctl_remote.pki.store import Store
from etcdctl_remote.plan.step import Plan
from etcdctl_remote.plan.steps import MoveLeader, RestartEtcd, StartEtcd
from tests.unit.operations.world import MARKER, Crash, Machine, World, run

INVENTORY = """
cluster: demo
version: "3.6.14"
nodes: {{{nodes}}}
settings: {{{settings}}}
"""


def wish(tmp_path: Path, size: int = 3, settings: str = "") -> Wish:
    """A wish for n1 … nN; the certificates are the same for the same folder."""
    nodes = ", ".join(f"n{i}: 10.0.0.{i}" for i in range(1, size + 1))
    text = INVENTORY.format(nodes=nodes, settings=settings)
    cluster = inventory.parse(text, tmp_path / "inventory.yaml")
    store = Store(tmp_path / "certs")
    generation = store.prepare(cluster, datetime(2026, 11, 21, tzinfo=UTC))
    store.save(generation)
    generation = store.prepare(cluster, datetime(2026, 11, 21, tzinfo=UTC))
    return Wish(cluster, generation, {"amd64": Archive(Path("etcd.tar.gz"), "0" * 64, 1)})


def bare(want: Wish) -> World:
    """Fresh hosts."""
    return World({node.name: Machine(node.name, want.cluster.peer_url(node)) for node in want.cluster.nodes})


def deployed(want: Wish) -> World:
    """Hosts after a deploy, with a write that was acknowledged."""
    world = bare(want)
    run(plan(want, world.observe()), world)
    world.write("first")
    return world


def restarts(todo: Plan) -> list[str]:
    """Hosts in the order in which they are restarted."""
    return [step.host for stage in todo.stages for step in stage.steps if isinstance(step, RestartEtcd)]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_converges_and_then_plans_nothing(tmp_path: Path, size: int) -> None:
    """A deploy brings fresh hosts to a serving cluster, and the second plan is empty."""
    want = wish(tmp_path, size)
    world = bare(want)
    run(plan(want, world.observe()), world)
    assert world.has_quorum()
    assert all(machine.marker for machine in world.machines.values())
    assert all(machine.flag("initial-cluster-state") == "existing" for machine in world.machines.values())
    assert not plan(want, world.observe())


def test_first_start_is_together(tmp_path: Path) -> None:
    """All members are started in one stage: a serial start would hang without a quorum."""
    todo = plan(wish(tmp_path), bare(wish(tmp_path)).observe())
    starting = [stage for stage in todo.stages if any(isinstance(step, StartEtcd) for step in stage.steps)]
    assert [stage.hosts for stage in starting] == [("n1", "n2", "n3")]


@pytest.mark.parametrize(("size", "seed"), [(1, 0), (3, 0), (3, 1), (3, 2), (5, 3)])
def test_interrupted_after_every_step_the_rest_is_planned(tmp_path: Path, size: int, seed: int) -> None:
    """Killed after any number of steps, in any order of hosts, running again converges."""
    want = wish(tmp_path, size)
    total = plan(want, bare(want).observe()).changes
    order = shuffled(seed)
    for cut in range(total + 1):
        world = bare(want)
        world.budget = cut
        if cut < total:
            with pytest.raises(Crash):
                run(plan(want, world.observe()), world, order)
        if world.has_quorum():
            world.write("between")
        world.budget = None
        run(plan(want, world.observe()), world, order)
        assert not plan(want, world.observe()), f"not converged after a kill at step {cut}"
        assert world.has_quorum()
        assert all(machine.log == world.acknowledged for machine in world.machines.values())


def first_stage_done(want: Wish) -> tuple[World, Plan]:
    """Fresh hosts after the first stage of a deploy, and what is left of its plan."""
    world = bare(want)
    todo = plan(want, world.observe())
    run(replace(todo, stages=todo.stages[:1]), world)
    return world, replace(todo, stages=todo.stages[1:])


@pytest.mark.parametrize("begun", [("n1",), ("n3", "n2"), ("n1", "n2", "n3")])
def test_members_that_begin_by_themselves_are_no_obstacle(tmp_path: Path, begun: tuple[str, ...]) -> None:
    """systemd tries again, or a killed run's start arrives late: before the gate, even up to an election."""
    want = wish(tmp_path)
    world, left = first_stage_done(want)
    for name in begun:
        world.start(name)
    run(left, world)
    assert not plan(want, world.observe())
    assert world.has_quorum()


def test_data_that_comes_meanwhile_is_refused(tmp_path: Path) -> None:
    """Files that no etcd of ours made were put there while the question stood."""
    want = wish(tmp_path)
    world, left = first_stage_done(want)
    world.machines["n2"].log = ["somebody's"]
    with pytest.raises(Refused, match="n2: its data directory was absent and is member now"):
        run(left, world)
    assert not any(machine.running for machine in world.machines.values())


def test_nobody_begins_anew_beside_members_that_know_him(tmp_path: Path) -> None:
    """The others have elected a leader meanwhile, and n1 was one of them once."""
    want = wish(tmp_path)
    world, left = first_stage_done(want)
    world.history.add("n1")
    world.start("n2")
    world.start("n3")
    with pytest.raises(Refused, match="have elected a leader since the plan was made, and don't wait for n1"):
        run(left, world)
    assert world.machines["n1"].starts == 0


def test_nobody_is_restarted_once_there_is_a_leader(tmp_path: Path) -> None:
    """n1 ran with an old setting, alone, when the plan was made; the start of the others came late."""
    want = wish(tmp_path)
    world, _ = first_stage_done(want)
    world.start("n1")
    changed = wish(tmp_path, settings="heartbeat-interval: 200, election-timeout: 2000")
    todo = plan(changed, world.observe())
    assert restarts(todo) == ["n1"]
    world.start("n2")
    with pytest.raises(Refused, match="don't wait for n1"):
        run(todo, world)
    assert world.machines["n1"].starts == 1


@pytest.mark.parametrize("seed", range(3))
def test_interrupted_twice(tmp_path: Path, seed: int) -> None:
    """Two kills at any two places still converge."""
    want = wish(tmp_path)
    order = shuffled(seed)
    for first, second in itertools.product(range(0, 18, 2), range(0, 18, 3)):
        world = bare(want)
        for cut in (first, second):
            world.budget = cut
            try:
                run(plan(want, world.observe()), world, order)
            except Crash:
                continue
        world.budget = None
        run(plan(want, world.observe()), world, order)
        assert not plan(want, world.observe()), (first, second)


def test_a_changed_setting_restarts_one_at_a_time_leader_last(tmp_path: Path) -> None:
    """Followers first, the leader last, and never more than one member down."""
    world = deployed(wish(tmp_path))
    world.leader = "n2"
    world.forget()
    want = wish(tmp_path, settings="heartbeat-interval: 200, election-timeout: 2000")
    todo = plan(want, world.observe())
    assert restarts(todo) == ["n1", "n3", "n2"]
    run(todo, world)
    assert world.lowest_alive == 2
    assert not plan(want, world.observe())


def test_a_member_that_runs_and_does_not_serve_is_restarted_first(tmp_path: Path) -> None:
    """Its own restart costs no quorum and may cure it; behind it the gate opens for the others."""
    world = deployed(wish(tmp_path))
    world.leader = "n2"
    now = world.observe()
    silent = replace(now.hosts["n3"], endpoint=None, members=None)
    now = replace(now, hosts={**now.hosts, "n3": silent})
    todo = plan(wish(tmp_path, settings="heartbeat-interval: 200, election-timeout: 2000"), now)
    assert restarts(todo) == ["n3", "n1", "n2"]
    first, second, third, *_ = todo.stages
    assert (first.gate and first.gate(now), second.gate and second.gate(now)) == (None, None)
    assert third.gate
    assert third.gate(now)
    assert not any(isinstance(step, MoveLeader) for step in first.steps), (
        "it leads nobody, and answers nothing"
    )


def test_a_member_that_runs_as_wanted_and_does_not_serve_is_no_success(tmp_path: Path) -> None:
    """No step would help it: the plan says what does, and that all is not well."""
    want = wish(tmp_path)
    world = deployed(want)
    now = world.observe()
    hangs = replace(now.hosts["n3"], endpoint=None, members=None, endpoint_error="context deadline exceeded")
    hung = replace(now, hosts={**now.hosts, "n3": hangs})
    todo = plan(want, hung)
    assert (bool(todo), todo.incomplete) == (False, True)
    (note,) = todo.notes
    assert note.startswith("n3 runs and does not serve: context deadline exceeded; see `logs --node n3`")
    world.machines["n1"].paths.pop("/etc/etcd/etcdctl.env")
    now = world.observe()
    todo = plan(want, replace(now, hosts={**now.hosts, "n3": hangs}))
    assert (bool(todo), todo.incomplete, todo.notes) == (True, False, (note,))


def test_interrupted_rolling_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    """After a kill at any step of a rolling change, only what is left is restarted."""
    changed = "heartbeat-interval: 200, election-timeout: 2000"
    first = deployed(wish(tmp_path))
    total = plan(wish(tmp_path, settings=changed), first.observe()).changes
    for cut in range(total):
        world = deployed(wish(tmp_path))
        want = wish(tmp_path, settings=changed)
        world.forget(budget=cut)
        with pytest.raises(Crash):
            run(plan(want, world.observe()), world)
        world.budget = None
        run(plan(want, world.observe()), world)
        assert world.lowest_alive == 2
        assert {machine.starts for machine in world.machines.values()} == {2}, "each restarted exactly once"
        assert not plan(want, world.observe())


def test_a_file_written_before_a_crash_still_leads_to_the_restart(tmp_path: Path) -> None:
    """Restart is observed, never remembered: the running process tells what it started with."""
    world = deployed(wish(tmp_path))
    want = wish(tmp_path, settings="heartbeat-interval: 200, election-timeout: 2000")
    spec = want.spec(want.cluster.node("n3"), world.observe().hosts["n3"], formed=True)
    world.write_files("n3", spec.files)
    assert "n3" in restarts(plan(want, world.observe()))


def test_a_flag_that_was_edited_by_hand_is_undone(tmp_path: Path) -> None:
    """The edited unit still carries our digest: the process's own command line tells."""
    world = deployed(wish(tmp_path))
    want, machine = wish(tmp_path), world.machines["n2"]
    unit = machine.paths[UNIT_PATH]
    edited = machine.unit.replace("--pre-vote=true", "--pre-vote=false")
    assert edited != machine.unit
    machine.paths[UNIT_PATH] = replace(unit, text=edited)
    world.stop("n2")
    world.start("n2")
    todo = plan(want, world.observe())
    assert restarts(todo) == ["n2"]
    machine.paths[UNIT_PATH] = unit
    assert restarts(plan(want, world.observe())) == ["n2"], "killed between writing and restarting"
    run(todo, world)
    assert not plan(want, world.observe())


def test_a_new_leaf_needs_no_restart(tmp_path: Path) -> None:
    """Certificates are switched under a running member: etcd reads them at each handshake."""
    world = deployed(wish(tmp_path))
    want = wish(tmp_path)
    renewed = Store(tmp_path / "certs").prepare(want.cluster, datetime(2028, 1, 1, tzinfo=UTC))
    assert renewed.issued
    todo = plan(replace(want, generation=renewed), world.observe())
    assert todo
    assert not restarts(todo)


def test_reordering_the_inventory_is_no_change(tmp_path: Path) -> None:
    """The order of nodes carries no meaning."""
    want = wish(tmp_path)
    world = deployed(want)
    turned = replace(want.cluster, nodes=tuple(reversed(want.cluster.nodes)))
    assert not plan(replace(want, cluster=turned), world.observe())


def test_a_changed_dropin_is_taken_into_account(tmp_path: Path) -> None:
    """The operator's own drop-in changes what etcd starts with: a rolling restart."""
    want = wish(tmp_path)
    now = deployed(want).observe()
    n1 = now.hosts["n1"]
    mine = "/etc/systemd/system/etcd.service.d/mine.conf"
    n1 = replace(n1, dropins_hash="abc", dropins=(mine,))
    now = replace(now, hosts={**now.hosts, "n1": n1})
    todo = plan(want, now)
    assert restarts(todo) == ["n1"]
    assert todo.notes == (f"n1 restarts because its drop-ins changed since deploy last saw them: {mine}",)
    changed = replace(want, cluster=wish(tmp_path, settings="heartbeat-interval: 200").cluster)
    assert plan(changed, now).notes == (), "a restart for the inventory's sake is none for a drop-in"


def test_a_closed_gate_refuses(tmp_path: Path) -> None:
    """With one of three members down, nobody else is restarted."""
    world = deployed(wish(tmp_path))
    want = wish(tmp_path, settings="heartbeat-interval: 200, election-timeout: 2000")
    todo = plan(want, world.observe())
    world.stop("n3")
    with pytest.raises(Refused, match="without n2 only 1 of 3 voters would serve"):
        run(todo, world)
    assert {machine.starts for machine in world.machines.values()} == {1}


def test_a_member_that_is_down_is_started(tmp_path: Path) -> None:
    """Nobody has to be asked whether the others can spare it."""
    want = wish(tmp_path)
    world = deployed(want)
    world.stop("n2")
    run(plan(want, world.observe()), world)
    assert world.machines["n2"].running
    assert not plan(want, world.observe())


@pytest.mark.parametrize("down", [("n3",), ("n2", "n3")])
def test_a_member_whose_data_goes_meanwhile_is_not_started(tmp_path: Path, down: tuple[str, ...]) -> None:
    """While the question stood somebody began to replace it: it would start empty, under its old id."""
    world = deployed(wish(tmp_path))
    for name in down:
        world.stop(name)
    want = wish(tmp_path, settings="heartbeat-interval: 200, election-timeout: 2000")
    todo = plan(want, world.observe())
    world.machines["n3"].log = None
    del world.machines["n3"].paths[MARKER]
    with pytest.raises(Refused, match="n3: its data directory was member and is absent now"):
        run(todo, world)
    assert [world.machines[name].running for name in down] == [False] * len(down)


@pytest.mark.parametrize("stage", [0, 1])
def test_a_member_whose_data_goes_meanwhile_is_not_restarted(tmp_path: Path, stage: int) -> None:
    """Removed under it, before its files are written or after: it serves on, and would not come back."""
    world = deployed(wish(tmp_path))
    world.leader = "n3"
    want = wish(tmp_path, settings="heartbeat-interval: 200, election-timeout: 2000")
    now = world.observe()
    todo = plan(want, now)
    assert restarts(todo)[0] == "n1"
    gate = todo.stages[stage].gate
    assert gate
    assert gate(now) is None
    hollow = replace(now.hosts["n1"], data=Data.ABSENT)
    reason = gate(replace(now, hosts={**now.hosts, "n1": hollow}))
    assert reason == "n1: its data directory was member and is absent now"


def test_another_client_port_is_a_rolling_restart(tmp_path: Path) -> None:
    """What runs is asked where it listens now, not where it will: the quorum is not lost."""
    want = wish(tmp_path)
    world = deployed(want)
    moved = replace(want, cluster=replace(want.cluster, ports=replace(want.cluster.ports, client=12379)))
    todo = plan(moved, world.observe())
    assert len(restarts(todo)) == 3
    assert len([stage for stage in todo.stages if stage.title.startswith("Restart")]) == 3
    run(todo, world)
    assert not plan(moved, world.observe())


def test_mends_a_bad_setting_that_cost_the_quorum(tmp_path: Path) -> None:
    """When the files themselves are to be mended, deploy does it: data stays where it is."""
    world = deployed(wish(tmp_path))
    world.stop("n2")
    world.stop("n3")
    want = wish(tmp_path, settings="heartbeat-interval: 200, election-timeout: 2000")
    run(plan(want, world.observe()), world)
    assert world.has_quorum()
    assert all(machine.log == ["first"] for machine in world.machines.values())
    assert not plan(want, world.observe())


def shuffled(seed: int) -> Callable[[Collection[str]], Sequence[str]]:
    """An order of hosts that changes from stage to stage, the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311

    def order(hosts: Collection[str]) -> Sequence[str]:
        return chance.sample(sorted(hosts), len(hosts))

    return order
