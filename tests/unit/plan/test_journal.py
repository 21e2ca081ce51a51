"""The journal: written before things happen, readable after any death, nobody else's to read."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from etcdctl_remote.errors import Failed, UsageError
from etcdctl_remote.observed.state import ClusterState
from etcdctl_remote.plan import journal as module
from etcdctl_remote.plan.events import StageStarted, StepDone, StepFailed, StepStarted, Transferred, Waiting
from etcdctl_remote.plan.execute import Executor
from etcdctl_remote.plan.journal import Journal, beside, operator, read
from etcdctl_remote.plan.step import Plan, Progress, Stage
from etcdctl_remote.remote.fleet import Fleet
from tests.unit.plan.scene import Do, Named

AT = datetime(2026, 11, 21, 5, 12, 33, 123456, tzinfo=UTC)


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read(path)]


def test_one_run_line_by_line(tmp_path: Path) -> None:
    """Who, when, which task, the plan, each step before and after, the end."""
    path = tmp_path / "j.jsonl"
    journal = Journal(path, clock=lambda: AT)
    journal.start("deploy", "demo", {"yes": True})
    journal.plan(Plan("deploy demo", (Stage("Write", (Do("n1", "write /a"), Do("n2", "write /b"))),)))
    journal(StageStarted(1, 1, "Write", ("n1", "n2")))
    journal(StepStarted("n1", "write /a"))
    journal(StepDone("n1", "write /a", 0.12345))
    journal(StepFailed("n2", "write /b", "disk full"))
    journal(Waiting("not passing into history"))
    journal(Transferred("n1", 1, 2))
    journal.end(1, "write failed")
    common = {"run": journal.run, "at": "2026-11-21T05:12:33.123+00:00"}
    stage = {
        "title": "Write",
        "steps": [{"host": "n1", "step": "write /a"}, {"host": "n2", "step": "write /b"}],
    }
    assert entries(path) == [
        {**common, "event": "start", "task": "deploy", "cluster": "demo", "who": operator(), "pid": os.getpid(),
         "arguments": {"yes": True}},
        {**common, "event": "plan", "title": "deploy demo", "changes": 2, "stages": [stage]},
        {**common, "event": "stage", "number": 1, "total": 1, "title": "Write", "hosts": ["n1", "n2"]},
        {**common, "event": "step", "host": "n1", "step": "write /a"},
        {**common, "event": "done", "host": "n1", "step": "write /a", "seconds": 0.123},
        {**common, "event": "failed", "host": "n2", "step": "write /b", "error": "disk full"},
        {**common, "event": "end", "exit": 1, "message": "write failed"},
    ]  # fmt: skip
    assert journal.run.startswith("20261121T051233-")


def test_every_run_has_its_own_name(tmp_path: Path) -> None:
    """Even two that begin in the same second."""
    runs = {Journal(tmp_path / "j", clock=lambda: AT).run for _ in range(20)}
    assert len(runs) == 20


def test_beside_the_inventory() -> None:
    """Each inventory of a folder has its own."""
    assert beside(Path("/x/prod.yaml")) == Path("/x/prod.journal.jsonl")
    assert read(Path("/nowhere/prod.journal.jsonl")) == []


def test_one_line_an_entry_whatever_it_says(tmp_path: Path) -> None:
    """Line breaks and strange characters of an error are escaped."""
    path = tmp_path / "j.jsonl"
    Journal(path).end(1, "first\nsecond\r\x1b[2J\u2028\udcff")
    (line,) = path.read_bytes().splitlines()
    assert json.loads(line)["message"] == "first\nsecond\r\x1b[2J\u2028\udcff"


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_nobody_else_may_read_it(tmp_path: Path, mask: int) -> None:
    """Whatever the umask."""
    path = tmp_path / "j.jsonl"
    before = os.umask(mask)
    try:
        Journal(path).end(0)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_step_is_on_disk_before_it_runs(tmp_path: Path) -> None:
    """The step itself reads the journal and finds its own announcement, and nothing later."""
    path = tmp_path / "j.jsonl"
    found: list[str] = []

    def look(host: str, progress: Progress) -> None:
        found.extend(f"{entry['event']} {entry.get('step', '')}" for entry in entries(path))

    steps = (Do("n1", "first"), Do("n1", "look", look), Do("n1", "later"))
    fleet = Fleet({"n1": Named("n1")})  # type: ignore[dict-item]
    Executor(fleet, lambda dials: ClusterState({}), Journal(path)).execute(Plan("p", (Stage("s", steps),)))
    assert found == ["stage ", "step first", "done first", "step look"]


def test_announcements_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reaches the disk before the step does anything; only "done" may be lost with the power."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal(StepStarted("n1", "a"))
    announced = path.stat().st_size
    journal(StepDone("n1", "a", 1.0))
    journal.end(0)
    assert synced == [announced, path.stat().st_size]


KILLED = """
import os, signal, sys
from pathlib import Path
from etcdctl_remote.plan.execute import Executor
from etcdctl_remote.plan.journal import Journal
from etcdctl_remote.plan.step import Plan, Progress, Stage
from etcdctl_remote.remote.fleet import Fleet
from tests.unit.plan.scene import Do, Named
def die(host, progress):
    os.kill(os.getpid(), signal.SIGKILL)
journal = Journal(Path(sys.argv[1]))
plan = Plan("deploy", (Stage("s", (Do("n1", "first"), Do("n1", "fatal", die), Do("n1", "never"))),))
journal.start("deploy", "demo", {})
journal.plan(plan)
Executor(Fleet({"n1": Named("n1")}), None, journal).execute(plan)
"""


def test_a_killed_process_leaves_a_readable_journal(tmp_path: Path) -> None:
    """The last line names the step that was under way; there is no end; the next run appends."""
    path = tmp_path / "j.jsonl"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -9
    found = entries(path)
    assert [entry["event"] for entry in found] == ["start", "plan", "stage", "step", "done", "step"]
    assert found[-1]["step"] == "fatal"
    Journal(path).end(0)
    assert len(entries(path)) == len(found) + 1


WRITER = """
import sys
from pathlib import Path
from etcdctl_remote.plan.events import StepDone
from etcdctl_remote.plan.journal import Journal
journal = Journal(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(400):
    journal(StepDone(sys.argv[2], f"step {number} " + sys.argv[2] * 3000, 1.0))
"""


def test_two_processes_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    """Two operators at once: every line of both is whole and in its own order."""
    path = tmp_path / "j.jsonl"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in "ab"
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
    found = entries(path)
    for name in "ab":
        steps = [entry["step"] for entry in found if entry["host"] == name]
        assert steps == [f"step {number} {name * 3000}" for number in range(400)]


def test_a_torn_last_line_spoils_no_other(tmp_path: Path) -> None:
    """A disk that was full in the middle of a line: what is written next has a line of its own."""
    path = tmp_path / "j.jsonl"
    Journal(path).end(0)
    with path.open("ab") as file:
        file.write(b'{"run": "torn", "ev')
    Journal(path).end(3)
    lines = read(path)
    assert [json.loads(line)["exit"] for line in (lines[0], lines[-1])] == [0, 3]


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    """Several hosts' steps end at once."""
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    steps = tuple(
        Do(f"n{host}", f"{number}", lambda h, p: time.sleep(0)) for number in range(15) for host in range(6)
    )
    fleet = Fleet({f"n{host}": Named(f"n{host}") for host in range(6)})  # type: ignore[misc]
    Executor(fleet, lambda dials: ClusterState({}), journal).execute(Plan("p", (Stage("s", steps),)))
    assert sum(entry["event"] == "done" for entry in entries(path)) == 90


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    """Said before anything is begun, with the path."""
    with pytest.raises(UsageError) as caught:
        Journal(tmp_path).start("deploy", "demo", {})
    assert caught.value.message.startswith(f"{tmp_path}: cannot write the journal: ")


def test_a_run_that_stopped_in_mid_line_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new run says what holds the journal and ends; one that goes on already warns, and goes on."""
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    path, told = tmp_path / "j.jsonl", list[str]()
    journal = Journal(path, warn=told.append)
    journal.start("deploy", "demo", {})
    with path.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Failed, match="cannot write the journal: another run holds it"):
            Journal(path).start("deploy", "demo", {})
        for _ in range(2):
            journal(StepDone("n1", "step", 1.0))
    assert len(told) == 1
    assert "another run holds it" in told[0]
    journal.end(0)
    assert [entry["event"] for entry in entries(path)] == ["start", "end"]


def test_a_disk_that_fills_up_fails_no_step(tmp_path: Path) -> None:
    """What was done on a host is done: the gap in the journal is said, once."""
    said: list[str] = []
    journal = Journal(tmp_path / "none" / "j.jsonl", warn=said.append)
    journal(StepDone("n1", "write /a", 0.1))
    journal.end(0)
    assert len(said) == 1
    assert "the journal of this run is incomplete" in said[0]


def test_a_plan_is_recorded_once(tmp_path: Path) -> None:
    """When it is shown; so it stands there too where the answer was no."""
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    for _ in range(2):
        journal.plan(Plan("deploy demo", (Stage("Write", (Do("n1", "write /a"),)),)))
    assert [entry["event"] for entry in entries(path)] == ["plan"]
