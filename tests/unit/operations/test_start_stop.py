"""The planners of start and stop, against a world with physics."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from etcdctl_remote.errors import Refused, Unreachable
from etcdctl_remote.observed.report import status
from etcdctl_remote.observed.state import ClusterState, Data, HostState, UnitState
from etcdctl_remote.operations.ownership import identity_path
from etcdctl_remote.operations.session import Session, Ways
from etcdctl_remote.operations.start_stop import plan_start, plan_stop, stop
from etcdctl_remote.operations.wish import Wish
from etcdctl_remote.plan.step import Plan
from etcdctl_remote.remote.fleet import Fleet
from tests.unit.operations.test_deploy import bare, deployed, wish
from tests.unit.operations.test_destroy import another
from tests.unit.operations.test_store import consent
from tests.unit.operations.world import Crash, Machine, World, run


def seen(want: Wish, world: World) -> ClusterState:
    """What the operations ask for."""
    return world.observe({name: (identity_path(want.cluster),) for name in world.machines})


def starting(want: Wish, world: World) -> Plan:
    return plan_start(want.cluster, seen(want, world))


def stopping(want: Wish, world: World) -> Plan:
    return plan_stop(want.cluster, seen(want, world))


def hosts(todo: Plan) -> list[str]:
    return [step.host for stage in todo.stages for step in stage.steps]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_stop_and_start(tmp_path: Path, size: int) -> None:
    """All down, all up, nothing lost; done twice each is nothing to do."""
    want = wish(tmp_path, size)
    world = deployed(want)
    todo = stopping(want, world)
    assert "every client of demo stops working" in todo.notes[0]
    run(todo, world)
    assert not any(machine.running for machine in world.machines.values())
    assert not stopping(want, world)
    run(starting(want, world), world)
    assert world.has_quorum()
    assert all(machine.log == ["first"] for machine in world.machines.values())
    assert not starting(want, world)


def test_interrupted_anywhere_the_rest_is_planned(tmp_path: Path) -> None:
    """A kill after any step of either, then again."""
    want = wish(tmp_path)
    for cut in range(3):
        world = deployed(want)
        for planner in (stopping, starting):
            world.budget = cut
            with pytest.raises(Crash):
                run(planner(want, world), world)
            world.budget = None
            run(planner(want, world), world)
            assert not planner(want, world)
        assert all(machine.running for machine in world.machines.values())


def hollowed(want: Wish, *names: str) -> ClusterState:
    """All serve, and the data of some was removed under them."""
    now = seen(want, deployed(want))
    gone = {name: replace(now.hosts[name], data=Data.EMPTY) for name in names}
    return replace(now, hosts={**now.hosts, **gone})


@dataclass(frozen=True, kw_only=True)
class Seeing(Session):
    """A session that sees one state after the other."""

    states: Iterator[ClusterState]

    def observe(
        self, paths: Mapping[str, Sequence[str]] | None = None, dials: Collection[str] = ()
    ) -> ClusterState:
        return next(self.states)


def seeing(want: Wish, *states: ClusterState) -> Seeing:
    return Seeing(want.cluster, Fleet({}), None, Ways(), states=iter(states))


@pytest.mark.parametrize("answers", [True, False])
def test_a_member_whose_data_was_removed_is_not_stopped_for_good(tmp_path: Path, answers: bool) -> None:
    """Silent or not, it runs on what it holds open, and never starts again: who, what and the ways out are said."""
    want = wish(tmp_path)
    now = hollowed(want, "n2")
    if not answers:
        silent = replace(now.hosts["n2"], endpoint=None, members=None, listed_by=None)
        now = replace(now, hosts={**now.hosts, "n2": silent})
    with pytest.raises(Refused) as caught:
        plan_stop(want.cluster, now)
    assert caught.value.message == "stopped, n2 would not start again; nothing was changed"
    assert caught.value.hosts == {"n2": "runs, but /var/lib/etcd is empty"}
    for word in ("snapshot save", "replace it", "`sudo systemctl stop etcd`"):
        assert word in caught.value.hint


def test_nor_is_a_quorum(tmp_path: Path) -> None:
    """With two of three hollow, `start` could not bring the cluster back."""
    want = wish(tmp_path)
    with pytest.raises(Refused, match="n1, n2 would not start again: only 1 of 3 could, which is no quorum"):
        plan_stop(want.cluster, hollowed(want, "n1", "n2"))


def test_data_that_goes_while_the_question_stands_ends_the_stop(tmp_path: Path) -> None:
    """An hour may pass before the answer: what is true then decides."""
    want = wish(tmp_path)
    opened = seeing(want, hollowed(want), hollowed(want, "n3"))
    with pytest.raises(Refused, match="n3 would not start again"):
        stop(opened, consent([]))


def test_only_what_is_down_is_started(tmp_path: Path) -> None:
    """A running member is left alone."""
    want = wish(tmp_path)
    world = deployed(want)
    world.stop("n2")
    todo = starting(want, world)
    assert hosts(todo) == ["n2"]
    run(todo, world)
    assert world.machines["n1"].starts == 1


def test_all_are_started_together(tmp_path: Path) -> None:
    """One stage: a serial start would wait for a quorum that cannot come."""
    want = wish(tmp_path)
    world = deployed(want)
    run(stopping(want, world), world)
    assert [stage.hosts for stage in starting(want, world).stages] == [("n1", "n2", "n3")]


def test_a_member_without_its_data_is_not_started(tmp_path: Path) -> None:
    """It would have forgotten what it acknowledged; the others are, and the note says it."""
    want = wish(tmp_path)
    world = deployed(want)
    run(stopping(want, world), world)
    world.machines["n2"].log = None
    todo = starting(want, world)
    assert hosts(todo) == ["n1", "n3"]
    lost = (
        "n2 is not started: /var/lib/etcd is absent: a member without its data must be replaced, never started "
        '(docs/operations.md, "A member whose data is gone")',
    )
    assert (todo.notes, todo.left_out, todo.incomplete) == (lost, ("n2",), True)
    run(todo, world)
    again = starting(want, world)
    assert (bool(again), again.notes, again.left_out, again.incomplete) == (False, lost, ("n2",), True)
    assert not world.machines["n2"].running
    assert world.has_quorum()


def test_a_foreign_data_directory_is_not_started(tmp_path: Path) -> None:
    """Files that are not etcd's."""
    want = wish(tmp_path)
    world = deployed(want)
    run(stopping(want, world), world)
    world.machines["n3"].foreign, world.machines["n3"].log = True, None
    assert hosts(starting(want, world)) == ["n1", "n2"]


def test_fresh_hosts_are_refused(tmp_path: Path) -> None:
    """There is nothing to start; the way out is deploy."""
    want = wish(tmp_path)
    with pytest.raises(Refused) as caught:
        starting(want, bare(want))
    assert caught.value.hint == "`deploy`"
    assert set(caught.value.hosts) == {"n1", "n2", "n3"}


@pytest.mark.parametrize("planner", [starting, stopping])
def test_another_clusters_members_are_not_touched(tmp_path: Path, planner: object) -> None:
    """The same hosts in two inventories: only the owner's may start and stop them."""
    want, world = wish(tmp_path), another(tmp_path)
    if planner is starting:
        world.stop_all()
    with pytest.raises(Refused) as caught:
        planner(want, world)  # type: ignore[operator]
    assert set(caught.value.hosts) == {"n1", "n2", "n3"}
    assert "not demo's" in caught.value.hosts["n1"]


def test_an_etcd_set_up_by_hand_is_not_touched(tmp_path: Path) -> None:
    """Running, it refuses the stop of all; stopped, it is left out of the start."""
    want = wish(tmp_path)
    world = deployed(want)
    theirs = Machine("n2", world.machines["n2"].peer, log=["theirs"], running=True)
    world.machines["n2"] = theirs
    with pytest.raises(Refused) as caught:
        stopping(want, world)
    assert set(caught.value.hosts) == {"n2"}
    world.stop_all()
    todo = starting(want, world)
    assert hosts(todo) == ["n1", "n3"]
    assert todo.notes == ("n2 is not started: the etcd that is installed there is not demo's",)


def test_a_first_start_that_waits_can_be_stopped(tmp_path: Path) -> None:
    """Ours before it has its marker: the identity file says so."""
    want = wish(tmp_path)
    world = deployed(want)
    world.machines["n1"].paths.pop("/etc/etcd/member")
    now = seen(want, world)
    waiting = replace(now.hosts["n1"], marker=None, endpoint=None, members=None)
    assert hosts(plan_stop(want.cluster, replace(now, hosts={"n1": waiting}))) == ["n1"]


@pytest.mark.parametrize("planner", [plan_start, plan_stop])
def test_a_host_lost_on_the_way_ends_it(tmp_path: Path, planner: object) -> None:
    """Nothing is known of it, so nothing is planned."""
    want = wish(tmp_path)
    now = seen(want, deployed(want))
    with pytest.raises(Unreachable) as caught:
        planner(want.cluster, replace(now, hosts={}, unreachable={"n1": "timed out"}))  # type: ignore[operator]
    assert caught.value.hosts == {"n1": "timed out"}


def test_an_unreachable_host_does_not_prevent_a_start(tmp_path: Path) -> None:
    """Two of three are a quorum: they are started, and the third is named."""
    want = wish(tmp_path)
    world = deployed(want)
    world.stop_all()
    now = seen(want, world)
    two = {name: host for name, host in now.hosts.items() if name != "n3"}
    todo = plan_start(want.cluster, replace(now, hosts=two, unreachable={"n3": "n3: no route to host"}))
    assert [step.host for stage in todo.stages for step in stage.steps] == ["n1", "n2"]
    assert todo.notes == (
        "n3 is not started: no route to host; whether it runs is not known: "
        "mend the way there, then `start` again",
    )
    assert (todo.left_out, todo.incomplete) == (("n3",), False)


def test_a_running_member_whose_data_was_removed_is_named(tmp_path: Path) -> None:
    """It runs, so nothing is left to start; whoever asks is told all the same."""
    want = wish(tmp_path)
    now = seen(want, deployed(want))
    hollow = replace(now.hosts["n1"], data=Data.ABSENT)
    todo = plan_start(want.cluster, replace(now, hosts={**now.hosts, "n1": hollow}))
    assert (bool(todo), todo.left_out, todo.incomplete) == (False, (), False)
    (note,) = todo.notes
    assert note.startswith("n1 runs, but /var/lib/etcd is absent: a member without its data must be replaced")


def test_a_running_member_without_its_data_still_votes(tmp_path: Path) -> None:
    """With n2's data gone, n1's removed under it and n3 down, starting n3 brings the quorum back."""
    want = wish(tmp_path)
    now = seen(want, deployed(want))
    endpoint = now.hosts["n1"].endpoint
    assert endpoint
    alone = replace(
        now.hosts["n1"], data=Data.ABSENT, endpoint=replace(endpoint, leader=0), members=None, listed_by=None
    )
    down = {
        name: replace(now.hosts[name], unit=UnitState(), endpoint=None, members=None, listed_by=None)
        for name in ("n2", "n3")
    }
    down["n2"] = replace(down["n2"], data=Data.ABSENT)
    state = replace(now, hosts={"n1": alone, **down})
    todo = plan_start(want.cluster, state)
    assert (hosts(todo), todo.left_out, todo.incomplete) == (["n3"], ("n2",), True)
    advice = status(want.cluster, state, {}).advice
    assert advice[0].startswith("n1 runs, but ")
    assert advice[-1].endswith("see `logs --node n3`, then `start`")


def test_a_member_that_runs_and_does_not_serve_is_no_success(tmp_path: Path) -> None:
    """There is nobody to start: the way out is named, and the task has failed."""
    want = wish(tmp_path)
    now = seen(want, deployed(want))
    hangs = replace(now.hosts["n3"], endpoint=None, members=None, listed_by=None)
    todo = plan_start(want.cluster, replace(now, hosts={**now.hosts, "n3": hangs}))
    assert (bool(todo), todo.left_out, todo.incomplete) == (False, (), True)
    assert todo.notes[0].startswith("n3 runs and does not serve: etcd gives no answer (active); see `logs")


@pytest.mark.parametrize("wal", [Data.ABSENT, Data.EMPTY, Data.OTHER])
def test_a_member_without_its_log_is_not_started(tmp_path: Path, wal: Data) -> None:
    """A log on a disk of its own is the member's data too."""
    want = wish(tmp_path)
    world = deployed(want)
    world.stop_all()
    now = seen(want, world)
    host = now.hosts["n2"]
    assert host.told
    hollow = replace(host, told=replace(host.told, wal="/wal"), wal=wal)
    todo = plan_start(want.cluster, replace(now, hosts={**now.hosts, "n2": hollow}))
    assert (hosts(todo), todo.incomplete) == (["n1", "n3"], True)
    assert todo.notes[0].startswith("n2 is not started: /wal ")


def test_who_never_had_etcd_or_does_not_tell_is_left_out(tmp_path: Path) -> None:
    """A blank host is deploy's; an unknown one is nobody's to guess."""
    want = wish(tmp_path)
    now = seen(want, deployed(want))
    stopped = replace(now.hosts["n2"], unit=UnitState(), endpoint=None, members=None)
    for host, why in (
        (HostState("n2"), "etcd is not installed there, and /var/lib/etcd is absent: `deploy`"),
        (replace(stopped, data=Data.UNKNOWN), "what its data directory holds is unknown: look there"),
        (
            replace(stopped, data=Data.ABSENT, marker=None),
            "etcd was never ready there, and /var/lib/etcd is absent",
        ),
        (replace(stopped, missing=("/b/etcd",)), "it would not start: /b/etcd is gone; `deploy` puts back"),
        (replace(stopped, unit=UnitState(enabled="masked")), "etcd.service is masked there"),
    ):
        todo = plan_start(want.cluster, replace(now, hosts={**now.hosts, "n2": host}))
        assert (bool(todo), todo.left_out, todo.incomplete) == (False, ("n2",), True)
        assert todo.notes[0].startswith(f"n2 is not started: {why}")


def test_too_few_to_elect_are_not_started(tmp_path: Path) -> None:
    """One of three cannot elect: saying so beats waiting for what cannot come."""
    want = wish(tmp_path)
    world = deployed(want)
    world.stop_all()
    now = seen(want, world)
    lost = {"n2": "n2: no route to host", "n3": "n3: no route to host"}
    with pytest.raises(Refused, match="only 1 of 3 members") as caught:
        plan_start(want.cluster, replace(now, hosts={"n1": now.hosts["n1"]}, unreachable=lost))
    assert caught.value.hosts == {"n2": "no route to host", "n3": "no route to host"}
