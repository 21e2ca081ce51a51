"""The planner of destroy, against a world with physics."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from etcdctl_remote.desired.hostspec import UNIT_PATH
from etcdctl_remote.errors import Refused, Unreachable
from etcdctl_remote.observed.state import Data, PathState
from etcdctl_remote.operations import converge
from etcdctl_remote.operations.destroy import _paths, plan
from etcdctl_remote.operations.wish import Wish
from etcdctl_remote.plan.step import Plan
from etcdctl_remote.plan.steps import ForgetUnit, MoveAside, Remove, StopEtcd
from tests.unit.operations.test_deploy import bare, deployed, wish
from tests.unit.operations.world import IDENTITY, MARKER, Crash, Machine, World, run

AT = datetime(2026, 11, 21, 5, 0, 0, tzinfo=UTC)


def planned(want: Wish, world: World, *, delete_data: bool = False) -> Plan:
    """Plan from what the operation itself asks for, and from nothing more."""
    return plan(
        want.cluster,
        world.observe(_paths(want.cluster)),
        AT,
        token=want.generation.token,
        delete_data=delete_data,
    )


def gone(machine: Machine) -> bool:
    """Whether nothing that deploy installed is left but directories that may hold other things."""
    left = [path for path, state in machine.paths.items() if state.kind != "directory"]
    return not (machine.running or machine.releases or left or machine.log is not None)


@pytest.mark.parametrize("size", [1, 3])
def test_takes_everything_away_and_keeps_the_data(tmp_path: Path, size: int) -> None:
    """Stopped, removed, the data aside on every host; the second plan is empty."""
    want = wish(tmp_path, size)
    world = deployed(want)
    todo = planned(want, world)
    assert "moved aside" in todo.notes[0]
    run(todo, world)
    assert all(gone(machine) for machine in world.machines.values())
    assert all(machine.aside == [["first"]] for machine in world.machines.values())
    assert not any(machine.deleted for machine in world.machines.values())
    assert not planned(want, world)


def test_deletes_data_only_when_told(tmp_path: Path) -> None:
    """The note shouts."""
    want = wish(tmp_path)
    world = deployed(want)
    todo = planned(want, world, delete_data=True)
    assert todo.notes[0] == "data directories are DELETED"
    run(todo, world)
    assert all(machine.deleted == [["first"]] and not machine.aside for machine in world.machines.values())


def test_stops_everywhere_before_anything_is_taken(tmp_path: Path) -> None:
    """A stage of its own, and the world refuses to take data from under a running member."""
    todo = planned(wish(tmp_path), deployed(wish(tmp_path)))
    first, second = todo.stages
    assert {type(step) for step in first.steps} == {StopEtcd}
    assert first.hosts == second.hosts == ("n1", "n2", "n3")


def test_what_says_whose_it_is_goes_last(tmp_path: Path) -> None:
    """Data first, the unit with the cluster's token at the very end."""
    todo = planned(wish(tmp_path), deployed(wish(tmp_path)))
    mine = [step for step in todo.stages[1].steps if step.host == "n2"]
    assert isinstance(mine[0], MoveAside)
    assert isinstance(mine[-1], ForgetUnit)
    assert isinstance(mine[-2], Remove)
    assert mine[-2].paths[-2:] == (MARKER, IDENTITY)


@pytest.mark.parametrize("delete_data", [False, True])
@pytest.mark.parametrize("torn", [0, 2, 5, 8])
def test_interrupted_after_every_step_the_rest_is_planned(
    tmp_path: Path, delete_data: bool, torn: int
) -> None:
    """Killed at any step, in the middle of a removal too, the next run takes the rest away."""
    want = wish(tmp_path)
    total = planned(want, deployed(want), delete_data=delete_data).changes
    for cut in range(total):
        world = deployed(want)
        world.budget, world.torn = cut, torn
        with pytest.raises(Crash):
            run(planned(want, world, delete_data=delete_data), world)
        world.budget = None
        run(planned(want, world, delete_data=delete_data), world)
        assert all(gone(machine) for machine in world.machines.values()), f"killed at step {cut}"
        kept = [machine.deleted if delete_data else machine.aside for machine in world.machines.values()]
        assert kept == [[["first"]]] * 3
        assert not planned(want, world, delete_data=delete_data)


def test_data_survives_every_interruption(tmp_path: Path) -> None:
    """Without consent to delete, what was acknowledged is on every host's disk at any moment."""
    want = wish(tmp_path)
    for cut in range(planned(want, deployed(want)).changes):
        world = deployed(want)
        world.budget = cut
        with pytest.raises(Crash):
            run(planned(want, world), world)
        assert all(["first"] in (machine.log, *machine.aside) for machine in world.machines.values())
        assert not any(machine.deleted for machine in world.machines.values())


def test_takes_down_a_deploy_that_was_cut_off(tmp_path: Path) -> None:
    """A host is ours from its identity file on, long before its member has its marker."""
    want = wish(tmp_path)
    for cut in range(converge.plan(want, bare(want).observe()).changes):
        world = bare(want)
        world.budget = cut
        with pytest.raises(Crash):
            run(converge.plan(want, world.observe()), world)
        world.budget = None
        ours = [machine for machine in world.machines.values() if IDENTITY in machine.paths]
        run(planned(want, world), world)
        assert all(gone(machine) for machine in ours), f"deploy was killed at step {cut}"
        assert not any(machine.running for machine in world.machines.values())


def test_deploys_again_afterwards(tmp_path: Path) -> None:
    """What is left does not stand in the way of a new cluster on the same hosts."""
    want = wish(tmp_path)
    world = deployed(want)
    run(planned(want, world), world)
    again = World({name: replace(machine, aside=[]) for name, machine in world.machines.items()})
    run(converge.plan(want, again.observe()), again)
    assert again.has_quorum()
    assert not converge.plan(want, again.observe())


# -- whose it is -----------------------------------------------------------------------------


def another(tmp_path: Path) -> World:
    """Three hosts of another cluster, at the same addresses."""
    (tmp_path / "other").mkdir()
    theirs = wish(tmp_path / "other")
    theirs = replace(theirs, cluster=replace(theirs.cluster, name="theirs"))
    return deployed(theirs)


def test_another_clusters_hosts_are_refused(tmp_path: Path) -> None:
    """All of them are named, and nothing is planned."""
    with pytest.raises(Refused) as caught:
        planned(wish(tmp_path), another(tmp_path))
    assert set(caught.value.hosts) == {"n1", "n2", "n3"}


@pytest.mark.parametrize("running", [True, False])
def test_one_stranger_stops_it_all(tmp_path: Path, running: bool) -> None:
    """An etcd somebody set up by hand, running or not, is not ours to stop."""
    want = wish(tmp_path)
    world = deployed(want)
    world.machines["n2"] = Machine("n2", world.machines["n2"].peer, log=["theirs"], running=running)
    with pytest.raises(Refused) as caught:
        planned(want, world)
    assert set(caught.value.hosts) == {"n2"}


def test_a_host_without_any_sign_is_left_alone(tmp_path: Path) -> None:
    """It was never deployed to: no step names it, whatever release directories it has."""
    want = wish(tmp_path)
    world = deployed(want)
    world.machines["n3"] = Machine("n3", world.machines["n3"].peer, releases={"3.6.14"})
    todo = planned(want, world)
    assert {step.host for stage in todo.stages for step in stage.steps} == {"n1", "n2"}


def test_another_cluster_of_the_same_name_is_a_stranger(tmp_path: Path) -> None:
    """Staging and production both called `etcd`: the token tells them apart, the name does not."""
    want, other = wish(tmp_path), wish(tmp_path / "other")
    world = deployed(want)
    now = world.observe(_paths(want.cluster))
    with pytest.raises(Refused) as caught:
        plan(want.cluster, now, AT, token=other.generation.token, delete_data=True)
    assert set(caught.value.hosts) == {"n1", "n2", "n3"}


def test_data_without_a_unit_is_nobodys(tmp_path: Path) -> None:
    """An identity file has a name and no token: that is too little to move data."""
    want = wish(tmp_path)
    world = deployed(want)
    world.stop("n1")
    del world.machines["n1"].paths[UNIT_PATH]
    now = world.observe(_paths(want.cluster))
    with pytest.raises(Refused) as caught:
        plan(want.cluster, now, AT, token=want.generation.token, delete_data=False)
    assert set(caught.value.hosts) == {"n1"}


@pytest.mark.parametrize("delete_data", [False, True])
@pytest.mark.parametrize("data", [Data.OTHER, Data.TORN, Data.UNKNOWN])
def test_foreign_files_in_the_data_directory_stay(tmp_path: Path, delete_data: bool, data: Data) -> None:
    """Our host, but not our files: neither moved nor deleted, and said so."""
    want = wish(tmp_path)
    world = deployed(want)
    world.stop("n2")
    now = world.observe(_paths(want.cluster))
    now = replace(now, hosts={**now.hosts, "n2": replace(now.hosts["n2"], data=data)})
    todo = plan(want.cluster, now, AT, token=want.generation.token, delete_data=delete_data)
    steps = [str(step) for stage in todo.stages for step in stage.steps if step.host == "n2"]
    assert steps
    assert not any("/var/lib/etcd" in step for step in steps)
    assert any(note.startswith("n2: /var/lib/etcd stays") for note in todo.notes)


def test_a_wal_of_its_own_goes_with_the_data(tmp_path: Path) -> None:
    """Both or neither."""
    want = wish(tmp_path)
    cluster = replace(want.cluster, paths=replace(want.cluster.paths, wal="/wal"))
    now = deployed(want).observe(_paths(cluster))
    hosts = {
        name: replace(host, wal=Data.MEMBER, told=replace(host.told, wal="/wal"))
        for name, host in now.hosts.items()
        if host.told
    }
    now = replace(now, hosts=hosts)
    moved = [
        step.path
        for step in plan(cluster, now, AT, token=want.generation.token, delete_data=False).stages[1].steps
        if isinstance(step, MoveAside) and step.host == "n1"
    ]
    assert moved == ["/var/lib/etcd", "/wal"]


@pytest.mark.parametrize("change", ["data", "wal", "config", "bin"])
def test_what_lies_elsewhere_is_not_left_behind(tmp_path: Path, change: str) -> None:
    """Private keys would stay where nobody looks for them, and it would be called gone."""
    want = wish(tmp_path)
    world = deployed(want)
    moved = replace(want.cluster, paths=replace(want.cluster.paths, **{change: "/elsewhere"}))
    with pytest.raises(Refused, match="nothing was changed") as caught:
        planned(replace(want, cluster=moved), world)
    assert set(caught.value.hosts) == {"n1", "n2", "n3"}
    for seen in caught.value.hosts.values():
        assert f"paths.{change} is " in seen
        assert "put back in the inventory what is there" in seen
    assert planned(want, world)


def test_a_host_lost_on_the_way_ends_it(tmp_path: Path) -> None:
    """It is never counted as destroyed."""
    want = wish(tmp_path)
    now = deployed(want).observe(_paths(want.cluster))
    left = {name: host for name, host in now.hosts.items() if name != "n3"}
    with pytest.raises(Unreachable) as caught:
        plan(
            want.cluster,
            replace(now, hosts=left, unreachable={"n3": "n3: timed out"}),
            AT,
            token=want.generation.token,
            delete_data=False,
        )
    assert caught.value.hosts == {"n3": "timed out"}


def test_operators_files_beside_ours_stay(tmp_path: Path) -> None:
    """Drop-ins and notes are in no removal."""
    want = wish(tmp_path)
    world = deployed(want)
    kept = ("/etc/etcd/notes", "/etc/systemd/system/etcd.service.d/mine.conf")
    for path in kept:
        world.machines["n1"].paths[path] = PathState("file", 0o644, "joe", "joe")
    run(planned(want, world), world)
    assert set(kept) <= set(world.machines["n1"].paths)


def test_data_that_was_removed_already_is_said_to_be_lost(tmp_path: Path) -> None:
    """Its member still runs on it: whoever types the cluster's name knows that nothing of it is kept."""
    want = wish(tmp_path)
    now = deployed(want).observe(_paths(want.cluster))
    hollow = replace(now.hosts["n2"], data=Data.EMPTY)
    todo = plan(
        want.cluster,
        replace(now, hosts={**now.hosts, "n2": hollow}),
        AT,
        token=want.generation.token,
        delete_data=False,
    )
    assert todo.notes[1:] == (
        "n2 runs, but /var/lib/etcd is empty: its data ends with it, none of it is kept",
    )
