"""The cut points of a deploy, how a laptop dies at one, and what the journal has of a run.

Right after every step is a cut point, on every host in turn: the first step on the first host, the second on
the second. So are, on the first host, half-way through each step, and before the first step of a stage:
inside one, "before" is the same as "after the one before".
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from etcdctl_remote.console.history import runs
from etcdctl_remote.lab.model import Lab
from etcdctl_remote.plan.journal import beside, read

from . import drive

CUT = (sys.executable, "-m", "tests.cluster.cut")
KILLED = -9
When = Literal["before", "during", "after"]
_EARLY: tuple[When, ...] = ("before", "during")


@dataclass(frozen=True)
class Cut:
    """One point of a plan."""

    host: str
    number: int
    """Which of the host's steps, from 0."""
    step: str
    when: When
    seconds: float
    """How long the step took where nobody cut it."""

    @property
    def words(self) -> tuple[str, ...]:
        """What the wrapper is told."""
        moment = f"{self.seconds / 2:.3f}" if self.when == "during" else self.when
        return self.host, str(self.number), moment

    def __str__(self) -> str:
        return f"{self.when} {self.host}: {self.step}"


def cuts(entries: tuple[dict[str, Any], ...], when: When) -> Iterator[Cut]:
    """Name every cut point of a run that its journal tells of."""
    number: dict[str, int] = {}
    fresh: set[str] = set()
    for entry in entries:
        if entry["event"] == "stage":
            fresh = set(entry["hosts"])
        elif entry["event"] == "done":
            host = entry["host"]
            if when != "before" or host in fresh:
                yield Cut(host, number.get(host, 0), entry["step"], when, entry["seconds"])
            fresh.discard(host)
            number[host] = number.get(host, 0) + 1


def last_run(lab: Lab) -> tuple[dict[str, Any], ...]:
    """Return the journal entries of the newest run."""
    return runs(read(beside(lab.inventory)))[-1].entries


def last_plan(lab: Lab) -> list[dict[str, Any]]:
    """Return the stages that the newest run set out to do."""
    (plan,) = (entry for entry in last_run(lab) if entry["event"] == "plan")
    stages: list[dict[str, Any]] = plan["stages"]
    return stages


def restarts_in(stages: list[dict[str, Any]]) -> list[str]:
    """Return in which order the stages of a plan restart members: one a stage."""
    rolling = [
        steps
        for steps in (stage["steps"] for stage in stages)
        if any(step["step"] == "restart etcd" for step in steps)
    ]
    assert all(len({step["host"] for step in steps}) == 1 for steps in rolling)
    return [step["host"] for steps in rolling for step in steps if step["step"] == "restart etcd"]


def points(lab: Lab) -> list[Cut]:
    """Name every cut point of the newest run: after each step, hosts in turn, before and in each of the first one's."""
    entries, hosts = last_run(lab), [node.name for node in lab.nodes]
    early = [cut for when in _EARLY for cut in cuts(entries, when) if cut.host == hosts[0]]
    late = [cut for cut in cuts(entries, "after") if cut.host == hosts[cut.number % len(hosts)]]
    return [*early, *late]


def at_each(points: Sequence[Cut], check: Callable[[Cut], None]) -> None:
    """Check every point; then fail with all that went wrong, by point."""
    wrong: dict[Cut, str] = {}
    for point in points:
        try:
            check(point)
        except Exception as error:  # told below, with all others
            wrong[point] = f"{type(error).__name__}: {error}"
    assert not wrong, "\n\n".join(f"=== {point}\n{what}" for point, what in wrong.items())


def killed_at(lab: Lab, cut: Cut) -> None:
    """Deploy, and die at the cut."""
    done = drive.run(lab, *cut.words, "deploy", "-y", program=CUT)
    assert done.code == KILLED, done


def killed_once_all_did(lab: Lab, step: str) -> None:
    """Deploy, and die the moment a step of this title is done on every host of its stage."""
    done = drive.run(lab, "all", step, "after", "deploy", "-y", program=CUT)
    assert done.code == KILLED, done


def converges(lab: Lab) -> None:
    """One more run completes; after it nothing is left to do, and nothing lies about."""
    drive.deploy(lab)
    drive.settle_nothing(lab)
    assert drive.leftovers(lab) == []
