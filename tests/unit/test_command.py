"""What all tasks have in common, in one process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from invoke.config import Config
from invoke.context import Context
from invoke.exceptions import Exit

from etcdctl_remote.command import ENVIRONMENT, choose_output, command, inventory_path, refuse_flags
from etcdctl_remote.errors import Failed, Problem, Refused, Unreachable, UsageError


def raising(error: BaseException) -> Callable[..., None]:
    def body(context: Context, output: str = "text", **flags: bool) -> None:
        """Fail."""
        raise error

    return command(body)


@pytest.mark.parametrize(
    ("error", "code"), [(Failed("x"), 1), (UsageError("x"), 2), (Unreachable("x"), 3), (Refused("x"), 4)]
)
def test_problems_become_exit_codes(error: Problem, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Said on standard error, with the hint."""
    error.hint = "mend it"
    with pytest.raises(Exit) as caught:
        raising(error)(Context())
    assert caught.value.code == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: x")
    assert "→ mend it" in told.err


def test_problems_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    """One document with every host."""
    with pytest.raises(Exit):
        raising(Unreachable("no", "try", {"n1": "gone"}))(Context(), output="json")
    told = capsys.readouterr()
    assert json.loads(told.out) == {"error": "no", "hint": "try", "hosts": {"n1": "gone"}}


@pytest.mark.parametrize(
    ("given", "again"), [({"dry_run": False}, True), ({"dry_run": True}, False), ({}, False)]
)
def test_an_interrupt(given: dict[str, bool], again: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """130; and of a task that changes something, that the next run goes on."""
    with pytest.raises(Exit) as caught:
        raising(KeyboardInterrupt())(Context(), **given)
    assert caught.value.code == 130
    assert ("run the task again" in capsys.readouterr().err) is again


def test_other_exits_pass() -> None:
    """A task's own exit code (5: changes) is kept."""
    with pytest.raises(Exit) as caught:
        raising(Exit(code=5))(Context())
    assert caught.value.code == 5


def test_a_bug_is_not_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    """It comes with its traceback, and is a failure like any other: exit 1, one document."""
    with pytest.raises(Exit) as caught:
        raising(ZeroDivisionError("by zero"))(Context(), output="json")
    assert caught.value.code == 1
    told = capsys.readouterr()
    assert "Traceback" in told.err
    assert "error: a bug: ZeroDivisionError: by zero" in told.err
    assert json.loads(told.out)["error"] == "a bug: ZeroDivisionError: by zero"


@pytest.mark.parametrize("output", ["xml", "", "JSON", "text "])
def test_unknown_formats(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage, before the task does anything."""
    with pytest.raises(Exit) as caught:
        raising(AssertionError("it ran"))(Context(), output=output)
    assert caught.value.code == 2
    assert "text or json" in capsys.readouterr().err
    with pytest.raises(UsageError):
        choose_output(output)


def test_invokes_own_dry_run_is_ours() -> None:
    """`invoke --dry deploy` must not deploy."""
    seen: list[bool] = []

    @command
    def change(context: Context, dry_run: bool = False) -> None:
        """Change something."""
        seen.append(dry_run)

    change(Context(Config(overrides={"run": {"dry": True}})), dry_run=False)
    change(Context(), dry_run=False)
    assert seen == [True, False]


def test_invokes_own_dry_run_is_never_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    """`invoke --dry lab.down` must not remove the lab: a task without a dry run refuses."""

    @command
    def remove(context: Context, output: str = "text") -> None:
        """Remove something."""
        raise AssertionError("it ran")

    with pytest.raises(Exit) as caught:
        remove(Context(Config(overrides={"run": {"dry": True}})), output="json")
    assert caught.value.code == 2
    assert json.loads(capsys.readouterr().out)["error"] == "--dry: this task has no dry run"


@pytest.mark.parametrize("value", ["--help", "-h", "-y", "--", ["n1=1.2.3.4", "-n"]])
def test_values_that_look_like_flags(value: object) -> None:
    """A value was forgotten, or --help came too late."""
    with pytest.raises(UsageError, match="--dry-run was given the value '-"):
        refuse_flags({"dry_run": value})


@pytest.mark.parametrize(
    "arguments", [{"node": "n-1"}, {"node": "-"}, {"command": "--version"}, {"lines": -5}, {"yes": True}]
)
def test_values_that_do_not(arguments: dict[str, object]) -> None:
    """A dash inside, a single one, what goes to etcdctl, numbers and switches arrive as they were typed."""
    arrived: dict[str, object] = {}

    def body(context: Context, **given: object) -> None:
        """Take everything."""
        arrived.update(given)

    command(body)(Context(), **arguments)
    assert arrived == arguments


def test_which_inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag, the environment, inventory.yaml here; a missing one is said with the way out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    with pytest.raises(UsageError, match=r"inventory\.yaml: no such file") as caught:
        inventory_path("")
    assert "init" in caught.value.hint
    for name in ("inventory.yaml", "env.yaml", "flag.yaml"):
        (tmp_path / name).touch()
    assert inventory_path("") == Path("inventory.yaml")
    monkeypatch.setenv(ENVIRONMENT, "env.yaml")
    assert inventory_path("") == Path("env.yaml")
    assert inventory_path("flag.yaml") == Path("flag.yaml")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert inventory_path("~/flag.yaml") == tmp_path / "flag.yaml"
