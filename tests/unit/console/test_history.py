"""Past runs, read back from the journal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from etcdctl_remote.console import history
from etcdctl_remote.console.style import plain
from etcdctl_remote.errors import UsageError
from etcdctl_remote.plan.events import StageStarted, StepDone, StepFailed, StepStarted
from etcdctl_remote.plan.journal import Journal
from etcdctl_remote.plan.step import Plan

WHEN = datetime(2026, 11, 21, 5, 12, 33, tzinfo=UTC)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Return a journal of three runs: one done, one failed, one killed in mid-write."""
    path = tmp_path / "inventory.journal.jsonl"
    for ending in ("done", "failed", "killed"):
        run = Journal(path, lambda: WHEN)
        run.run = f"20261121T051233-{ending}"
        run.start("deploy", "demo", {"yes": True})
        run.plan(Plan("deploy demo"))
        run(StageStarted(1, 1, "Install", ("n1",)))
        run(StepStarted("n1", "start etcd"))
        if ending == "done":
            run(StepDone("n1", "start etcd", 0.84))
            run.end(0)
        if ending == "failed":
            run(StepFailed("n1", "start etcd", "port taken"))
            run.end(1, "deploy failed on n1")
    with path.open("a") as file:
        file.write('{"run": "20261121T051233-killed", "at": "2026-')
    return path


def read(path: Path) -> tuple[history.Run, ...]:
    """Read a journal's runs."""
    return history.runs(path.read_text().splitlines())


def test_the_list(journal: Path) -> None:
    """Oldest first; a run without an end was killed; a torn last line is no obstacle."""
    found = read(journal)
    assert [(run.task, run.outcome, run.steps) for run in found] == [
        ("deploy", "done", 1),
        ("deploy", "failed", 0),
        ("deploy", "unfinished", 0),
    ]
    who = found[0].who
    pad = " " * max(0, len(who) - 3)
    assert history.runs_table(found).text(plain) == (
        f"RUN                     WHEN                  WHO{pad}  TASK    OUTCOME     STEPS\n"
        f"20261121T051233-done    2026-11-21T05:12:33Z  {who}  deploy  done            1\n"
        f"20261121T051233-failed  2026-11-21T05:12:33Z  {who}  deploy  failed          0\n"
        f"20261121T051233-killed  2026-11-21T05:12:33Z  {who}  deploy  unfinished      0"
    )


def test_the_list_as_a_document(journal: Path) -> None:
    """One object a run."""
    found = read(journal)
    document = history.runs_document(found)
    runs = document["runs"]
    assert isinstance(runs, list)
    assert runs[1] == {
        "id": "20261121T051233-failed",
        "at": "2026-11-21T05:12:33.000+00:00",
        "who": found[1].who,
        "task": "deploy",
        "outcome": "failed",
        "steps": 0,
        "message": "deploy failed on n1",
    }


def test_one_run(journal: Path) -> None:
    """What it did, entry by entry, with the error."""
    run = history.one(read(journal), "20261121T051233-f")
    when = "2026-11-21T05:12:33Z"
    assert history.run_table(run).text(plain) == (
        f"run 20261121T051233-failed: deploy by {run.who}, failed, 0 steps done\n"
        "WHEN                  WHERE  WHAT\n"
        f"{when}         start deploy on demo (yes=True)\n"
        f"{when}         plan deploy demo: 0 changes\n"
        f"{when}         stage 1 of 1: Install\n"
        f"{when}  n1     start etcd …\n"
        f"{when}  n1     start etcd … failed: port taken\n"
        f"{when}         failed: deploy failed on n1"
    )
    document = history.run_document(run)
    entries = document["entries"]
    assert isinstance(entries, list)
    assert entries[-1] == {
        "at": "2026-11-21T05:12:33.000+00:00",
        "event": "end",
        "exit": 1,
        "message": "deploy failed on n1",
    }


def test_an_unknown_or_ambiguous_id_is_a_usage_error(journal: Path) -> None:
    """Both say how to find the right one."""
    for id, seen in (("nope", "no run"), ("2026", "3 runs")):
        with pytest.raises(UsageError, match=seen) as error:
            history.one(read(journal), id)
        assert "`audit`" in error.value.hint


def test_strange_lines_are_passed_over() -> None:
    """Whatever a crash or an editor left: what can be read is shown."""
    lines = ["", "[]", "null", "{", '{"at": "x"}', '{"run": 7, "event": "fancy", "host": "n1"}', "\x00\x00"]
    (run,) = history.runs(lines)
    assert (run.id, run.outcome) == ("7", "unfinished")
    assert "n1     fancy" in history.run_table(run).text(plain)
    assert history.runs_table(history.runs([])).text(plain) == "no runs yet"


def test_every_exit_code_has_a_name() -> None:
    """An unknown one is shown as it is."""
    lines = [f'{{"run": "{code}", "event": "end", "exit": {code}}}' for code in (0, 1, 2, 3, 4, 5, 130, 9)]
    assert [run.outcome for run in history.runs(lines)] == [
        "done",
        "failed",
        "usage",
        "unreachable",
        "refused",
        "changes found",
        "interrupted",
        "exit 9",
    ]
