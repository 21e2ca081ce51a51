"""Running a plan: gates, events, failures, interrupts; with the real fan-out and real threads."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from etcdctl_remote.errors import CommandFailed, Failed, Refused, TimedOut, Unreachable
from etcdctl_remote.observed.state import ClusterState, HostState, UnitState
from etcdctl_remote.plan.events import (
    Event,
    StageStarted,
    StepDone,
    StepFailed,
    StepStarted,
    Transferred,
    Waiting,
    broadcast,
)
from etcdctl_remote.plan.execute import ATTEMPTS, FRESH, PATIENCE, SETTLE, Executor
from etcdctl_remote.plan.step import Gate, Plan, Progress, Stage
from etcdctl_remote.remote.fleet import Fleet
from tests.unit.plan.clusters import Voter, observed
from tests.unit.plan.scene import CLOSED, OPEN, Do, Named, Scene, Time, broken

# -- stages and events -----------------------------------------------------------------------


def test_events_in_order_per_host() -> None:
    """A host's steps run in their order; each is announced before it runs and closed after."""
    scene = Scene()
    steps = [Do(host, f"step {number}") for number in range(3) for host in ("n1", "n2")]
    scene.run(Stage("first", tuple(steps)), Stage("second", (Do("n1", "last"),)))
    assert scene.of("n1") == [
        "start step 0", "done step 0", "start step 1", "done step 1", "start step 2", "done step 2",
        "start last", "done last",
    ]  # fmt: skip
    assert scene.of("n2") == scene.of("n1")[:6]
    stages = [event for event in scene.told if isinstance(event, StageStarted)]
    assert stages == [StageStarted(1, 2, "first", ("n1", "n2")), StageStarted(2, 2, "second", ("n1",))]
    assert scene.told[0] == stages[0]
    assert scene.told.index(stages[1]) == len(scene.told) - 3, "a stage begins when the former has ended"


def test_hosts_work_side_by_side() -> None:
    """Three hosts meet in the middle of a stage: each waits there for the two others."""
    meeting = threading.Barrier(3, timeout=10)
    steps = tuple(
        Do(name, "meet", lambda host, progress: void(meeting.wait())) for name in ("n1", "n2", "n3")
    )
    scene = Scene()
    scene.run(Stage("all", steps))
    assert all(scene.of(name) == ["start meet", "done meet"] for name in ("n1", "n2", "n3"))


def void(_: object) -> None:
    """Forget a value."""


def test_progress_is_told() -> None:
    """Bytes done and bytes in all, for the host that sends them."""
    scene = Scene()
    scene.run(Stage("send", (Do("n2", "send", lambda host, progress: progress(3, 9)),)))
    assert Transferred("n2", 3, 9) in scene.told


def test_durations_are_told() -> None:
    """By the clock that was passed in."""
    scene = Scene()
    scene.run(Stage("wait", (Do("n1", "wait", lambda host, progress: scene.time.sleep(7)),)))
    assert StepDone("n1", "wait", 7.0) in scene.told


def test_an_empty_plan_observes_nothing() -> None:
    """Nothing to do is nothing done."""
    scene = Scene()
    scene.run()
    assert (scene.told, scene.observations) == ([], 0)


def test_broadcast_tells_everybody() -> None:
    """Each listener in turn."""
    first: list[Event] = []
    second: list[Event] = []
    broadcast(first.append, second.append)(Waiting("x"))
    assert first == second == [Waiting("x")]


# -- failures --------------------------------------------------------------------------------


def test_a_failure_stops_the_next_stage_not_the_other_hosts() -> None:
    """One host's disk is full: the others finish this stage, nobody begins the next."""
    scene = Scene()
    slow = threading.Event()
    first = (
        Do("n1", "write", broken),
        Do("n1", "never"),
        Do("n2", "write", lambda host, progress: void(slow.wait(0.05))),
        Do("n2", "enable"),
        Do("n3", "write"),
    )
    with pytest.raises(CommandFailed, match="n1: write: exit 28: disk full"):
        scene.run(Stage("install", first), Stage("start", (Do("n2", "start"),)))
    assert scene.of("n1") == ["start write", "failed write"]
    (failed,) = (event for event in scene.told if isinstance(event, StepFailed))
    assert (failed.host, failed.error) == ("n1", "write: exit 28: disk full"), "a host is named once"
    assert scene.of("n2") == ["start write", "done write", "start enable", "done enable"]
    assert scene.of("n3") == ["start write", "done write"]
    assert [event.title for event in scene.told if isinstance(event, StageStarted)] == ["install"]


def test_every_failure_is_kept() -> None:
    """The gravest gives the kind, and each host has its line."""

    def gone(host: str, progress: Progress) -> None:
        raise Unreachable(f"{host}: no route")

    scene = Scene()
    with pytest.raises(Unreachable) as caught:
        scene.run(Stage("install", (Do("n1", "write", broken), Do("n2", "write", gone), Do("n3", "write"))))
    assert caught.value.hosts == {"n1": "write: exit 28: disk full", "n2": "no route"}
    assert caught.value.message == "install failed on 2 hosts"


def test_a_programming_error_names_its_host() -> None:
    """It is no Problem, and still says where and what."""

    def bug(host: str, progress: Progress) -> None:
        raise KeyError("x")

    with pytest.raises(Failed, match="n2: install: KeyError: 'x'"):
        Scene().run(Stage("install", (Do("n2", "write", bug),)))


def test_a_step_on_a_host_that_is_not_connected() -> None:
    """It is an error before any step of the stage runs."""
    scene = Scene()
    with pytest.raises(Failed, match="not connected to n4"):
        scene.run(Stage("install", (Do("n1", "write"), Do("n4", "write"))))
    assert scene.of("n1") == []


# -- the gate before -------------------------------------------------------------------------


def test_a_closed_gate_stops_the_run_before_the_first_step() -> None:
    """The reason, and what to do; nothing of the stage or of later ones happens."""
    scene = Scene()
    with pytest.raises(Refused) as caught:
        scene.run(
            Stage("first", (Do("n1", "a"),)),
            Stage("second", (Do("n1", "b"),), gate=CLOSED),
            Stage("third", (Do("n1", "c"),)),
        )
    assert caught.value.message == "second: not now"
    assert "goes on from here" in caught.value.hint
    assert scene.of("n1") == ["start a", "done a"]


def test_an_open_gate_is_asked_once() -> None:
    """On one observation, made after the stage before has ended."""
    scene = Scene()
    seen: list[float] = []
    gate: Gate = lambda now: seen.append(now.taken_at)  # noqa: E731
    before = Do("n1", "a", lambda host, progress: scene.time.sleep(50))
    scene.run(Stage("first", (before,)), Stage("second", (Do("n1", "b"),), gate=gate))
    assert seen == [1050.0]
    assert scene.of("n1")[-1] == "done b"


@pytest.mark.parametrize("takes", [FRESH + 0.01, 60.0])
def test_a_stale_observation_decides_nothing(takes: float) -> None:
    """The gate would open, but what it saw is too old by then; that is tried a few times."""
    scene = Scene(takes=takes)
    with pytest.raises(Refused, match=r"a stale answer decides nothing"):
        scene.run(Stage("restart", (Do("n1", "restart"),), gate=OPEN))
    assert scene.of("n1") == []
    assert scene.observations >= ATTEMPTS
    assert scene.time() - 1000 <= max(ATTEMPTS * takes + 1, SETTLE + takes + 1)


def test_an_observation_of_two_seconds_is_fresh() -> None:
    """The border belongs to the fresh side."""
    scene = Scene(takes=FRESH)
    scene.run(Stage("restart", (Do("n1", "restart"),), gate=OPEN))
    assert scene.observations == 1


def slow_to_write(scene: Scene) -> None:
    """Have the journal keep us waiting when it is told that a step starts: once."""
    tell = scene.told.append

    def told(event: Event) -> None:
        tell(event)
        if isinstance(event, StepStarted) and scene.time() < 1005:
            scene.time.sleep(5)

    scene.told = Slow(told)


class Slow(list[Event]):
    """A list whose `append` is somebody else's."""

    def __init__(self, append: Callable[[Event], None]) -> None:
        super().__init__()
        self.append = append  # type: ignore[method-assign]


def test_a_gate_that_grew_old_is_asked_again_before_the_step() -> None:
    """The journal may wait for its disk or for another run; meanwhile a member may have died."""
    for later, steps in ((OPEN, ["restart"]), (CLOSED, [])):
        scene, ran = Scene(), list[str]()
        gate: Gate = lambda now, later=later: later(now) if now.taken_at > 1000 else None  # type: ignore[misc]  # noqa: E731
        slow_to_write(scene)
        step = Do("n1", "restart", lambda host, progress, ran=ran: ran.append("restart"))  # type: ignore[misc]
        stage = Stage("restart", (step,), gate=gate)
        if later is OPEN:
            scene.run(stage)
            assert scene.observations == 2
        else:
            with pytest.raises(Refused, match="restart: not now"):
                scene.run(stage)
        assert ran == steps


def test_one_slow_answer_gets_a_second_chance() -> None:
    """A host that was busy once does not end a rolling restart."""
    scene = Scene(takes=3.0)

    def then_quick(number: int) -> ClusterState:
        scene.takes = 0.1
        return observed([Voter()])

    scene.state = then_quick
    scene.run(Stage("restart", (Do("n1", "restart"),), gate=OPEN))
    assert scene.observations == 2


def test_a_gate_that_opens_in_a_moment_ends_nothing() -> None:
    """Moving the leader makes an election, in which nobody serves for a blink."""
    scene = Scene()
    scene.run(Stage("restart", (Do("n1", "restart"),), gate=after(9)))
    assert scene.observations == 10
    assert scene.of("n1") == ["start restart", "done restart"]


def test_a_closed_gate_beats_slowness() -> None:
    """What was seen is said even if it was seen slowly."""
    scene = Scene(takes=5.0)
    with pytest.raises(Refused, match="restart: not now"):
        scene.run(Stage("restart", (Do("n1", "restart"),), gate=CLOSED))


# -- the gate after --------------------------------------------------------------------------


def after(number: int) -> Gate:
    """A gate that holds from the n-th time it is asked."""
    asked = iter(range(number))
    return lambda now: "not yet" if next(asked, None) is not None else None


def test_waits_until_the_gate_holds() -> None:
    """Each time it does not, the reason is told; then the next stage begins."""
    scene = Scene()
    scene.run(Stage("start", (Do("n1", "start"),), until=after(3)), Stage("next", (Do("n1", "next"),)))
    assert [event for event in scene.told if isinstance(event, Waiting)] == [Waiting("not yet")] * 3
    assert scene.observations == 4
    assert scene.of("n1")[-1] == "done next"


def test_the_deadline_is_explained() -> None:
    """Members run and never serve: at the deadline whoever knows the journals says why."""
    scene = Scene()
    with pytest.raises(TimedOut, match="explained: start: not now"):
        scene.run(
            Stage("start", (Do("n1", "start"),), until=CLOSED, deadline=30), Stage("next", (Do("n1", "x"),))
        )
    assert 1030 <= scene.time.now < 1032
    assert scene.of("n1") == ["start start", "done start"]


def test_without_an_explanation_the_reason_is_raised() -> None:
    """The default."""
    time = Time()
    state = observed([Voter()])
    executor = Executor(Fleet({}), lambda dials: state, lambda event: None, clock=time, sleep=time.sleep)
    with pytest.raises(TimedOut, match="start: not now"):
        executor.execute(Plan("p", (Stage("start", (), until=CLOSED, deadline=1),)))


def down(*names: str) -> ClusterState:
    """Three hosts; the named ones have no process."""
    gone = UnitState("failed", "failed", result="exit-code")
    up = UnitState("activating", "start", pid=7)
    return ClusterState(
        {name: HostState(name, unit=gone if name in names else up) for name in ("n1", "n2", "n3")}
    )


def test_a_crashed_process_is_not_waited_for() -> None:
    """Gone for longer than systemd would need: explained long before the deadline."""
    scene = Scene(state=lambda number: down("n2"))
    with pytest.raises(TimedOut, match="explained"):
        scene.run(Stage("start", (Do("n1", "s"), Do("n2", "s")), until=CLOSED, deadline=300))
    assert PATIENCE <= scene.time.now - 1000 < PATIENCE + 1


def test_a_process_that_comes_back_is_waited_for() -> None:
    """Down now and then, but never for long: patience begins anew each time."""
    scene = Scene(state=lambda number: down("n1") if number % 30 else down())
    with pytest.raises(TimedOut):
        scene.run(Stage("start", (Do("n1", "s"),), until=CLOSED, deadline=60))
    assert scene.time.now >= 1060


def test_a_lost_host_is_not_waited_for() -> None:
    """Its link will not come back in this run; a short silence is no loss."""
    lost = replace(down(), hosts={}, unreachable={"n1": "the link broke"})
    scene = Scene(state=lambda number: lost if number > 20 or number == 5 else down())
    with pytest.raises(Unreachable) as caught:
        scene.run(Stage("start", (Do("n1", "s"),), until=CLOSED, deadline=300))
    assert caught.value.hosts == {"n1": "the link broke"}
    assert 2 + PATIENCE <= scene.time.now - 1000 < 3 + PATIENCE


def test_hosts_of_other_stages_are_not_waited_for() -> None:
    """A process that is gone elsewhere is not this stage's crash."""
    scene = Scene(state=lambda number: down("n3"))
    with pytest.raises(TimedOut):
        scene.run(Stage("restart", (Do("n1", "s"),), until=CLOSED, deadline=20))
    assert scene.time.now >= 1020


# -- interrupts ------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["observe", "tell", "sleep"])
def test_an_interrupt_passes_through(where: str) -> None:
    """Nothing swallows it, wherever the main thread is."""

    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    time = Time()
    state = observed([Voter()])
    executor = Executor(
        Fleet({"n1": Named("n1")}),  # type: ignore[dict-item]
        interrupted if where == "observe" else lambda dials: state,
        interrupted if where == "tell" else lambda event: None,
        clock=time,
        sleep=interrupted if where == "sleep" else time.sleep,
    )
    with pytest.raises(KeyboardInterrupt):
        executor.execute(Plan("p", (Stage("start", (Do("n1", "s"),), until=CLOSED),)))


INTERRUPTED = r"""
import os, signal, sys, time
from etcdctl_remote.plan.execute import Executor
from etcdctl_remote.plan.step import Plan, Stage
from etcdctl_remote.remote.fleet import Fleet
from tests.unit.plan.scene import Do, Named
def hang(host, progress):
    os.write(1, b"running\n")
    time.sleep(60)
def tell(event):
    pass
stages = (Stage("one", (Do("n1", "hang", hang), Do("n2", "hang", hang))), Stage("two", (Do("n1", "x"),)))
try:
    Executor(Fleet({n: Named(n) for n in ("n1", "n2")}), None, tell).execute(Plan("p", stages))
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


def test_ctrl_c_ends_a_stage_within_a_second() -> None:
    """Steps hang on two hosts: the interrupt comes through, although nothing unblocks them."""
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert [process.stdout.readline() for _ in range(2)] == ["running\n"] * 2
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=10)
    assert (process.returncode, rest) == (130, "interrupted\n")
    assert time.monotonic() - began < 3, "0.8 s for the threads, and some for a busy machine"
