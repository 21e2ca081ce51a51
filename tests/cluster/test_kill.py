"""The laptop dies at any step of a deploy: the next run completes, and no key is lost.

Every step of every host is a cut point: before it (where a stage begins: inside one, "before" is
the same as "after the one before") and right after it. Half-way through it is one on the first
host, for each of its steps: a step does the same everywhere.
"""

from __future__ import annotations

import queue
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from etcdctl_remote.console.history import runs
from etcdctl_remote.lab import faults
from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, each
from etcdctl_remote.plan.journal import beside, read

from . import drive
from .traffic import traffic

pytestmark = pytest.mark.cluster

CUT = (sys.executable, "-m", "tests.cluster.cut")
KILLED = -9
STASH = "/var/cache/lab-release"
LABS = 2
"""Clusters that are cut side by side: they keep two cores busy."""
When = Literal["before", "during", "after"]


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


def at_each(labs: Sequence[Lab], points: Sequence[Cut], check: Callable[[Lab, Cut], None]) -> dict[str, str]:
    """Check every point on whichever lab is free; return what went wrong, by point."""
    left: queue.SimpleQueue[Cut] = queue.SimpleQueue()
    for point in points:
        left.put(point)
    wrong: dict[str, str] = {}

    def work(lab: Lab) -> None:
        while not left.empty():
            point = left.get()
            try:
                check(lab, point)
            except Exception as error:  # the thread's edge: told by the test, with all others
                wrong[str(point)] = f"{type(error).__name__}: {error}"

    each(labs, work)
    return wrong


def told(wrong: dict[str, str]) -> str:
    """Spell out everything that went wrong."""
    return "\n\n".join(f"=== {point}\n{what}" for point, what in wrong.items())


def killed_at(lab: Lab, cut: Cut) -> None:
    """Deploy, and die at the cut."""
    done = drive.run(lab, *cut.words, "deploy", "-y", program=CUT)
    assert done.code == KILLED, done


def converges(lab: Lab) -> None:
    """One more run completes; after it nothing is left to do, and nothing lies about."""
    drive.deploy(lab)
    drive.settle_nothing(lab)
    assert drive.leftovers(lab) == []


# -- a first deploy ------------------------------------------------------------------------


def begin_again(lab: Lab, *, installed: bool) -> None:
    """Bring nodes and laptop back to before the first deploy; with the release there, to save time."""
    faults.reset(lab)
    shutil.rmtree(lab.state / "certs", ignore_errors=True)
    beside(lab.inventory).unlink(missing_ok=True)
    if installed:
        each(lab.nodes, lambda node: execute(node, f"cp -al {STASH} /opt/etcd"))


def early(lab: Lab) -> bool:
    """Put a key if the cluster serves already: what was acknowledged must stay."""
    ready = each(lab.nodes, lambda node: execute(node, "systemctl is-active etcd || true").strip())
    if "active" not in ready:
        return False
    drive.put(lab.nodes[ready.index("active")], "early", "kept")
    return True


def first_deploy(lab: Lab, cut: Cut, *, installed: bool) -> None:
    """Die at the cut of a first deploy; the next run brings the rest and disturbs nobody."""
    begin_again(lab, installed=installed)
    killed_at(lab, cut)
    served, pids = early(lab), drive.pids(lab)
    converges(lab)
    if served:
        assert drive.get(lab.nodes[2], "early") == "kept"
        running = {name: pid for name, pid in pids.items() if pid}
        assert drive.pids(lab).items() >= running.items(), "a serving member was restarted"


@pytest.mark.timeout(900)
def test_a_first_deploy_killed_at_any_step(lab_factory: Callable[[], Lab]) -> None:
    """Whatever was done by then, the next run brings the rest, and a key put in between stays."""
    labs = [lab_factory() for _ in range(LABS)]
    each(labs, drive.deploy)
    whole = points(labs[0])
    for lab in labs:
        each(lab.nodes, lambda node: execute(node, f"rm -rf {STASH}; cp -al /opt/etcd {STASH}"))
    begin_again(labs[0], installed=True)
    drive.deploy(labs[0])
    quick = points(labs[0])
    # Unpacking the release is half of a deploy's time: done anew only where that is cut.
    slow = [cut for cut in whole if cut.step.startswith("install etcd")]
    assert len(slow) == 4
    assert len(slow) + len(quick) == len(whole)
    wrong = at_each(labs, slow, lambda lab, cut: first_deploy(lab, cut, installed=False))
    wrong |= at_each(labs, quick, lambda lab, cut: first_deploy(lab, cut, installed=True))
    assert not wrong, told(wrong)


def points(lab: Lab) -> list[Cut]:
    """Name every cut point of the newest run."""
    entries, first = last_run(lab), lab.nodes[0].name
    during = [cut for cut in cuts(entries, "during") if cut.host == first]
    return [*cuts(entries, "before"), *during, *cuts(entries, "after")]


# -- a rolling change ----------------------------------------------------------------------


@pytest.mark.timeout(900)
def test_a_rolling_change_killed_at_any_step(lab_factory: Callable[[], Lab]) -> None:
    """The next run restarts who is left, and no write that was acknowledged is ever lost."""
    labs = [lab_factory() for _ in range(LABS)]
    each(labs, drive.deploy)
    drive.edit(labs[0], settings="{heartbeat-interval: 101}")
    drive.deploy(labs[0])
    everything = points(labs[0])
    assert len(everything) == 18, "three steps a host in two stages"

    def check(lab: Lab, cut: Cut) -> None:
        interval = 102 + everything.index(cut)
        drive.edit(lab, settings=f"{{heartbeat-interval: {interval}}}")
        before = drive.pids(lab)
        killed_at(lab, cut)
        converges(lab)
        kept = set(before.values()) & set(drive.pids(lab).values())
        assert not kept, "a member runs with the old setting"

    with ExitStack() as stack:
        clients = [stack.enter_context(traffic(lab, lab.nodes[1])) for lab in labs]
        wrong = at_each(labs, everything, check)
    assert not wrong, told(wrong)
    assert sum(client.acknowledged for client in clients) > 5 * len(everything)
