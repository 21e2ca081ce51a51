"""The command line, from outside: help never does anything, wrong usage is 2, JSON is one document."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from etcdctl_remote.command import ENVIRONMENT
from tests.unit.program import CHECKOUT, ROOT, environment, finish, run, start

LISTED = (
    "init", "check", "plan", "deploy", "health", "status", "etcdctl", "logs", "start", "stop", "destroy",
    "audit", "lab.up", "lab.list", "lab.down",
)  # fmt: skip
MISSING = ("-i", "/nonexistent/inventory.yaml")


@pytest.mark.parametrize(
    "words",
    [
        ("deploy", "--help"),
        ("deploy", "-h"),
        ("--help", "deploy"),
        ("-h", "deploy"),
        ("deploy", *MISSING, "--help"),
        ("destroy", "--help"),
    ],
)
def test_help_never_does_anything(words: tuple[str, ...], tmp_path: Path) -> None:
    """It is printed and all is well, although there is no inventory to deploy: nothing was tried."""
    done = run(*words, folder=tmp_path)
    assert done.returncode == 0
    task = "destroy" if "destroy" in words else "deploy"
    assert f"etcdctl-remote [--core-opts] {task} [--options]" in done.stdout
    assert "-n, --dry-run" in done.stdout
    assert "no such file" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [("deploy", "-i", "--help"), ("deploy", "--inventory", "-h"), ("logs", "--node", "--help")]
)
def test_help_in_the_place_of_a_value_does_nothing_either(words: tuple[str, ...], tmp_path: Path) -> None:
    """Invoke would take it for the value and run the task (pyinvoke/invoke#982)."""
    done = run(*words, folder=tmp_path)
    assert done.returncode in (0, 2)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_list_and_version(tmp_path: Path) -> None:
    """Every task with its first line."""
    done = run("--list", folder=tmp_path)
    assert done.returncode == 0
    assert all(f"  {task} " in done.stdout for task in LISTED)
    assert run("--version", folder=tmp_path).stdout.startswith("etcdctl-remote ")


def test_core_options_are_those_that_do_something(tmp_path: Path) -> None:
    """What Invoke offers for local shell commands would be ignored; completion does not offer it either."""
    kept = "complete print-completion-script write-pyc debug list-depth list-format help list dry version"
    done = run("--complete", "--", "etcdctl-remote", "--", folder=tmp_path)
    assert {f"--{name}" for name in kept.split()} == set(done.stdout.split())
    done = run("-R", "deploy", *MISSING, folder=tmp_path)
    assert (done.returncode, "no such file" in done.stderr) == (2, True), "deploy has a dry run of its own"


def test_the_checkout_has_the_same_tasks() -> None:
    """`invoke --list` in the repository."""
    done = subprocess.run(
        [*CHECKOUT, "--list"], capture_output=True, text=True, check=True, env=environment(), cwd=ROOT
    )
    assert all(f"  {task} " in done.stdout for task in LISTED)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("deploy", *MISSING), "/nonexistent/inventory.yaml: no such file"),
        (("deploy",), "inventory.yaml: no such file"),
        (("health", "-o", "xml", *MISSING), "--output xml"),
        (("deploy", "-i", "-n"), "needed value and was not given one"),
        (("destroy", "--confirm", "--yes"), "needed value and was not given one"),
        (("init", "--cluster", "demo", "--node", "-y"), "--node was given the value '-y'"),
        (("deploy", "--no-such-flag"), "--no-such-flag"),
        (("deploy", "-x"), "-x"),
        (("deploy", "now"), "now"),
        (("logs", "--lines", "many", *MISSING), "error: --lines many: not a whole number from 1"),
        (("logs", "--lines=-1", *MISSING), "--lines -1: not a whole number from 1"),
        (("logs", "--lines", "-5", *MISSING), "--lines -5: not a whole number from 1"),
        (("logs", "--lines", "0", *MISSING), "--lines 0: not a whole number from 1"),
        (("lab.up", "--nodes", "1.5"), "--nodes 1.5"),
        (("no-such-task",), "no-such-task"),
        (("-R", "init", "--cluster", "demo", "--node", "n1=10.0.0.11"), "--dry: this task has no dry run"),
        (("--dry", "etcdctl", "-c", "put a b", *MISSING), "--dry: this task has no dry run"),
        (("--prompt-for-sudo-password", "status"), "--prompt-for-sudo-password"),
        (("-T", "1", "status"), "-T"),
        (("-f", "none.yaml", "status"), "-f"),
        (("-w", "deploy"), "-w"),
    ],
)
def test_wrong_usage_is_two(words: tuple[str, ...], told: str, tmp_path: Path) -> None:
    """It says what was wrong, on standard error, and nothing was done."""
    done = run(*words, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "task"),
    [(("certs.issue", "-n"), "certs.issue"), (("certs.init", "--yes"), "certs.init"), (("-x", "plan"), "")],
)
def test_an_unknown_flag_names_the_help(words: tuple[str, ...], task: str, tmp_path: Path) -> None:
    """Of the task it was given to."""
    told = run(*words, folder=tmp_path).stderr
    assert (f"`etcdctl-remote {task} --help` lists its flags" in told) == bool(task), told


def test_a_wrong_number_in_the_checkout() -> None:
    """One line and exit 2: Invoke alone would show a traceback."""
    done = subprocess.run(
        [*CHECKOUT, "logs", "--lines", "many"], capture_output=True, text=True, env=environment(), cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --lines many: not a whole number from 1\n"


def test_a_wrong_number_in_json_is_one_document(tmp_path: Path) -> None:
    """As any other mistake."""
    done = run("certs.issue", "--name", "app", "--days", "0", "-o", "json", folder=tmp_path)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"] == "--days 0: not a whole number from 1"


@pytest.mark.parametrize("task", ["check", "deploy", "status", "audit"])
def test_an_error_in_json_is_one_document(task: str, tmp_path: Path) -> None:
    """Nothing else is on standard output; the person reads standard error."""
    done = run(task, "-o", "json", *MISSING, folder=tmp_path)
    assert done.returncode == 2
    assert json.loads(done.stdout) == {
        "error": "/nonexistent/inventory.yaml: no such file",
        "hint": "make one with `init`, or name it with --inventory",
        "hosts": {},
    }
    assert "error: /nonexistent" in done.stderr


def test_the_environment_names_the_inventory(tmp_path: Path) -> None:
    """The flag wins over it, and it wins over inventory.yaml here."""
    for name in ("inventory.yaml", "env.yaml", "flag.yaml"):
        (tmp_path / name).write_text(f"unknown: {name}\n")
    env = {ENVIRONMENT: "env.yaml"}
    for words, extra, chosen in (
        (("plan",), {}, "inventory.yaml"),
        (("plan",), env, "env.yaml"),
        (("plan", "-i", "flag.yaml"), env, "flag.yaml"),
    ):
        done = run(*words, folder=tmp_path, env=extra)
        assert done.returncode == 2
        assert f"{chosen}:1:1" in done.stderr
        assert not any(
            f"{other}:1:1" in done.stderr
            for other in ("inventory", "env.yaml", "flag.yaml")
            if other not in chosen
        )


@pytest.mark.parametrize("output", ["text", "json"])
def test_an_interrupt_is_130(output: str, tmp_path: Path) -> None:
    """Ctrl-C while the inventory is read (a pipe nobody writes to): no traceback, and nothing to go on with."""
    pipe = tmp_path / "inventory.yaml"
    os.mkfifo(pipe)
    process = start("plan", "-o", output, folder=tmp_path)
    assert waiting_for(pipe), "it never opened the inventory"
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stderr
    assert "again" not in done.stderr, "it only looked"
    assert "Traceback" not in done.stderr


def waiting_for(pipe: Path) -> bool:
    """Wait until somebody opens the pipe for reading, and leave him waiting there."""
    for _ in range(600):
        try:
            os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            time.sleep(0.05)
        else:
            time.sleep(0.2)
            return True
    return False


HEAVY = {"fabric", "paramiko", "pydantic", "rich", "jinja2", "cryptography", "yaml", "docker", "asyncio"}


def imported(code: str, *words: str, folder: Path) -> set[str]:
    """Name the packages that a fresh interpreter loads while it runs some code."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code, *words],
        cwd=folder, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}


@pytest.mark.parametrize("words", [("--help",), ("deploy", "--help"), ("--list",)])
def test_help_imports_nothing_heavy(words: tuple[str, ...], tmp_path: Path) -> None:
    """Start-up time is part of every command. What Invoke itself loads (yaml) is not ours."""
    found = imported("from etcdctl_remote.program import main; main()", *words, folder=tmp_path)
    assert "etcdctl_remote" in found
    ours = found - imported("import invoke.program, invoke.tasks", folder=tmp_path)
    assert ours.isdisjoint(HEAVY), sorted(ours & HEAVY)
