"""Progress without a terminal: timestamped lines."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from etcdctl_remote.console.progress import Lines, progress
from etcdctl_remote.plan.events import (
    StageStarted,
    StepDone,
    StepFailed,
    StepStarted,
    Transferred,
    Waiting,
)
from tests.unit.console.streams import files

AT = "2026-11-21T05:12:33Z"


class Clock:
    """A monotonic clock that is turned by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_line_for_what_matters() -> None:
    """Stages, finished steps and failures; neither the start of a step nor each piece of a transfer."""
    output, out, err = files()
    with Lines(output, lambda: datetime(2026, 11, 21, 5, 12, 33, tzinfo=UTC)) as tell:
        tell(StageStarted(1, 2, "Install", ("n1", "n2")))
        tell(StepStarted("n1", "install etcd 3.6.14 into /opt/etcd/v3.6.14"))
        tell(Transferred("n1", 5, 10))
        tell(StepDone("n1", "install etcd 3.6.14 into /opt/etcd/v3.6.14", 0.84))
        tell(StepFailed("n2", "start etcd", "exit 1:\nport \x1b[31mtaken"))
    assert out.getvalue() == ""
    assert err.getvalue() == (
        f"{AT} stage 1 of 2: Install (n1 n2)\n"
        f"{AT} n1 | install etcd 3.6.14 into /opt/etcd/v3.6.14 … done (0.8 s)\n"
        f"{AT} n2 | start etcd … failed: exit 1: port taken\n"
    )


def test_waiting_is_told_when_it_changes_and_calmly() -> None:
    """Ten observations a second give one line; another reason the next, a second later."""
    output, _, err = files()
    clock = Clock()
    with Lines(output, lambda: datetime(2026, 11, 21, tzinfo=UTC), clock) as tell:
        for tick in range(40):
            clock.now = 100 + tick / 10
            tell(Waiting("n1: starting" if tick < 5 else "n2: starting"))
    assert [line.partition(" ")[2] for line in err.getvalue().splitlines()] == [
        "waiting: n1: starting",
        "waiting: n2: starting",
    ]


def test_a_new_stage_may_wait_for_the_same_again() -> None:
    """The reason is news in another stage."""
    output, _, err = files()
    clock = Clock()
    with Lines(output, lambda: datetime(2026, 11, 21, tzinfo=UTC), clock) as tell:
        tell(Waiting("no leader"))
        tell(StageStarted(2, 2, "Restart n2", ("n2",)))
        clock.now += 2
        tell(Waiting("no leader"))
    assert err.getvalue().count("waiting: no leader") == 2


def test_five_threads_write_whole_lines() -> None:
    """Every step of every node has its line, none is torn."""
    output, _, err = files()
    with progress(output) as tell:

        def work(host: str) -> None:
            for step in range(50):
                tell(StepStarted(host, f"step {step}"))
                tell(StepDone(host, f"step {step}", 0.0))

        threads = [threading.Thread(target=work, args=(f"n{number}",)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = [line.partition(" ")[2] for line in err.getvalue().splitlines()]
    assert sorted(lines) == sorted(
        f"n{host} | step {step} … done (0.0 s)" for host in range(5) for step in range(50)
    )
