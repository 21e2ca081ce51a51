"""Run the program, and end it by SIGKILL at one exact point of its plan.

`python -m tests.cluster.cut HOST STEP WHEN TASK …`: STEP counts the steps of HOST from 0 in the
order of the plan. WHEN is `before` (the step is announced and in the journal, nothing has
reached the host), a number (that many seconds into it), or `after` (it is done). With HOST `any`
the steps of all hosts are counted as they come. With HOST `all`, STEP is the title of a step, and
WHEN is `after`: all hosts of its stage have done it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from typing import NoReturn

from etcdctl_remote.plan.events import Event, StageStarted, StepDone, StepStarted
from etcdctl_remote.plan.journal import Journal
from etcdctl_remote.program import main


def die() -> NoReturn:
    """End as a laptop does whose battery is empty: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def cut(host: str, number: int, when: str) -> None:
    """Have the journal, which hears of each event first, end the process at the right one."""
    record = Journal.__call__
    seen: Counter[type[Event]] = Counter()

    def listen(journal: Journal, event: Event) -> None:
        record(journal, event)
        if isinstance(event, StepStarted | StepDone) and host in (event.host, "any"):
            here = seen[type(event)] == number
            seen[type(event)] += 1
            if here:
                reached(event)

    def reached(event: StepStarted | StepDone) -> None:
        if isinstance(event, StepDone) or when == "before":
            die()
        elif when != "after":
            threading.Timer(float(when), die).start()

    Journal.__call__ = listen  # type: ignore[method-assign, assignment]


def cut_once_all_did(title: str) -> None:
    """Have the journal end the process when the last host of a stage has done the step."""
    record = Journal.__call__
    missing: set[str] = set()

    def listen(journal: Journal, event: Event) -> None:
        record(journal, event)
        if isinstance(event, StageStarted):
            missing.update(event.hosts)
        if isinstance(event, StepDone) and event.step == title:
            missing.discard(event.host)
            if not missing:
                die()

    Journal.__call__ = listen  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    _, target, step, moment, *words = sys.argv
    if target == "all":
        cut_once_all_did(step)
    else:
        cut(target, int(step), moment)
    sys.argv = ["etcdctl-remote", *words]
    main()
