"""Commands for systemd, as strings."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from etcdctl_remote.remote import units
from etcdctl_remote.remote.host import Command


def words(command: Command) -> str:
    assert command.script == 'exec systemctl "$@"'
    return " ".join(command.args)


def test_systemctl() -> None:
    """What is asked of systemd, word for word; a restart never waits for readiness."""
    assert words(units.restart()) == "restart --no-block etcd.service"
    assert words(units.stop()) == "stop etcd.service"
    assert units.stop().about == "systemctl stop etcd.service"


def test_journal_only_reads() -> None:
    """So a read-only connection allows it."""
    read, followed = units.journal(50), units.journal(50, follow=True)
    fields = "MESSAGE,PRIORITY,_PID,_SYSTEMD_INVOCATION_ID,INVOCATION_ID"
    assert read.args == (
        "-q", "--no-pager", "-u", "etcd.service", "-n", "50", "-o", "json", f"--output-fields={fields}",
    )  # fmt: skip
    assert followed.args == (*read.args, "--follow")
    assert not read.writes
    assert not followed.writes
    assert followed.timeout > 86400 > read.timeout


def test_everything_else_writes() -> None:
    """So a read-only connection refuses it."""
    commands = (units.start(), units.stop(), units.load_unit(), units.forget_unit("/x"))
    assert all(command.writes and command.root for command in commands)


def test_a_new_unit_is_linted_then_loaded() -> None:
    """Both go with its write; an enabled unit is loaded by one reload, another by `enable` alone."""
    around = units.replace_unit()
    assert "systemd-analyze verify --man=no" in around.accept
    *shell, script, _, unit = shlex.split(around.then)
    assert shell == ["sh", "-c"]
    assert unit == "etcd.service"
    assert script == units.load_unit().script
    assert [script.count(words) for words in ("systemctl daemon-reload", "systemctl enable")] == [1, 1]


@pytest.mark.parametrize(
    ("said", "status", "refused"),
    [
        ("", 0, ""),
        ("{unit}:2: Unknown key 'Old' in section [Service], ignoring.", 0, ""),
        ("/etc/systemd/system/other.service:3: Unknown key 'Foo', ignoring.", 0, ""),
        ("{unit}:3: Invalid path 'a/b', ignoring: No", 0, "etcd.service:3: Invalid path 'a/b', ignoring: No"),
        ("{unit}: has a bad unit file setting.", 1, "bad unit file setting"),
    ],
)
def test_what_systemd_would_ignore_is_refused(tmp_path: Path, said: str, status: int, refused: str) -> None:
    """But for our own lines, which an old systemd may not know; and what it refuses is refused as ever."""
    unit, tool = tmp_path / "etcd.service", tmp_path / "systemd-analyze"
    unit.write_text("[Service]\nOld=1\nReadOnlyPaths=a/b\n", encoding="ascii")
    tool.write_text(f'#!/bin/sh\necho "{said.format(unit=unit)}" >&2\nexit {status}\n', encoding="ascii")
    tool.chmod(0o755)
    words = [*shlex.split(units.replace_unit(["Old=1"]).accept), str(unit)]
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == (units.MISFIT if refused else 0)
    assert refused in done.stderr
    assert bool(done.stderr) == bool(refused)
