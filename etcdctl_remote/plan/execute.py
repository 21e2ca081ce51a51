"""Run a plan: stage by stage, hosts side by side, each stage behind its gate.

This is the one place where steps run, so it is the one choke point: nothing restarts or
stops a member unless its stage's gate held on an observation younger than two seconds.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from ..errors import Problem, Refused, TimedOut, Unreachable
from ..observed.state import ClusterState, clock
from ..remote.fleet import Fleet
from ..remote.host import Host
from .events import Listener, StageStarted, StepDone, StepFailed, StepStarted, Transferred, Waiting
from .step import Gate, Plan, Stage, Step

FRESH = 2.0
"""Seconds: an observation older than this decides nothing."""

SETTLE = 5.0
"""Seconds a gate is asked again before its no is taken: an election passes in one or two."""

ATTEMPTS = 3
"""Times it is asked at least: a busy host gets a second chance, however long its answer takes."""

PATIENCE = 4.0
"""Seconds a process may be gone while we wait for it; systemd restarts a crashed one after 5."""


@dataclass(frozen=True)
class Executor:
    """What running a plan needs: the hosts, a way to observe them, somebody to tell."""

    fleet: Fleet
    observe: Callable[[Collection[str]], ClusterState]
    """Looks at all hosts, and dials the ports of the nodes that are named."""
    tell: Listener
    explain: Callable[[ClusterState, str], Problem] = lambda now, reason: TimedOut(reason)
    """Turns "this did not come true in time" into an error that says why."""
    still_ours: Callable[[], None] = lambda: None
    """Raises when the lock on some host was lost: another run may be at work there."""
    interval: float = 0.1
    """Seconds between observations while waiting."""
    clock: Callable[[], float] = clock
    """The clock of `ClusterState.taken_at`."""
    sleep: Callable[[float], None] = time.sleep

    def execute(self, plan: Plan) -> None:
        """Run every stage; stop at the first that fails."""
        for number, stage in enumerate(plan.stages, 1):
            self.still_ours()
            self.tell(StageStarted(number, len(plan.stages), stage.title, stage.hosts))
            self._run(stage, self._check(stage))
            if stage.until:
                self._wait(stage.until, stage)

    def _check(self, stage: Stage) -> float:
        """Ask the gate until it is open; return when what opened it was seen."""
        if stage.gate is None:
            return self.clock()
        end = self.clock() + SETTLE
        asked = itertools.count(1)
        while True:
            now, reason = self._asked(stage.gate)
            if reason is None:
                return now.taken_at
            if next(asked) >= ATTEMPTS and self.clock() > end:
                raise Refused(
                    f"{stage.title}: {reason}",
                    "mend that first, then run the task again: it goes on from here",
                )
            self.tell(Waiting(reason))
            self.sleep(self.interval)

    def _asked(self, gate: Gate) -> tuple[ClusterState, str | None]:
        """Say why a gate is closed by what is seen now; what was seen too slowly opens none."""
        now = self.observe(())
        reason = gate(now)
        if reason is None and self.clock() - now.taken_at > FRESH:
            reason = f"the hosts took more than {FRESH:g} s to answer, and a stale answer decides nothing"
        return now, reason

    def _run(self, stage: Stage, seen: float) -> None:
        work: dict[str, list[Step]] = {}
        for step in stage.steps:
            work.setdefault(step.host, []).append(step)
        self.fleet.each(
            lambda host: self._steps(host, work[host.name], stage, seen), tuple(work), doing=stage.title
        )

    def _steps(self, host: Host, steps: list[Step], stage: Stage, seen: float) -> None:
        """Run one host's steps. The journal may have kept us waiting: the first one's gate is asked again then."""
        for step in steps:
            self.tell(StepStarted(step.host, str(step)))
            began = self.clock()
            try:
                self.still_ours()
                while stage.gate and step is steps[0] and self.clock() - seen > FRESH:
                    seen = self._check(stage)
                step.run(host, lambda done, total, step=step: self.tell(Transferred(step.host, done, total)))  # type: ignore[misc]
            except BaseException as error:
                why = str(error).removeprefix(f"{step.host}: ")
                self.tell(
                    StepFailed(step.host, str(step), "interrupted" if self.fleet.stopping.is_set() else why)
                )
                raise
            self.tell(StepDone(step.host, str(step), self.clock() - began))

    def _wait(self, gate: Gate, stage: Stage) -> None:
        """Observe until the gate holds; at the deadline, explain what stands in the way.

        A member whose process is gone and stays gone will not come back by waiting longer, nor
        will a host that is out of reach: no connection is made twice in a run.
        """
        end = self.clock() + stage.deadline
        gone: dict[str, float] = {}
        while True:
            now = self.observe(stage.dials)
            reason = gate(now)
            if reason is None:
                return
            lost = {node: why for node, why in now.unreachable.items() if node in stage.hosts}
            down = {node for node, host in now.hosts.items() if node in stage.hosts and not host.unit.running}
            gone = {node: gone.get(node, now.taken_at) for node in (*down, *lost)}
            crashed = any(now.taken_at - since > PATIENCE for since in gone.values())
            if crashed and lost:
                raise Unreachable(
                    f"{stage.title}: {reason}", "mend the link, then run the task again: it goes on", lost
                )
            if crashed or self.clock() > end:
                raise self.explain(now, f"{stage.title}: {reason}")
            self.tell(Waiting(reason))
            self.sleep(self.interval)
