"""Commands for systemd, as strings."""

from __future__ import annotations

import shlex

from etcdctl_remote.remote import units
from etcdctl_remote.remote.host import Command


def words(command: Command) -> str:
    assert command.script == 'exec systemctl "$@"'
    return " ".join(command.args)


def test_systemctl() -> None:
    """What is asked of systemd, word for word; a restart never waits for readiness."""
    assert words(units.restart()) == "restart --no-block etcd.service"
    assert words(units.stop()) == "stop etcd.service"
    assert words(units.enable()) == "enable --quiet etcd.service"
    assert words(units.disable()) == "disable --quiet etcd.service"
    assert words(units.daemon_reload()) == "daemon-reload"
    assert units.stop().about == "systemctl stop etcd.service"


def test_journal_only_reads() -> None:
    """So a read-only connection allows it."""
    command = units.journal(lines=50, since="@1700000000", follow=True)
    assert command.args == (
        "-u", "etcd.service", "-o", "json", "--no-pager", "-n", "50", "--since", "@1700000000", "--follow",
    )  # fmt: skip
    assert not command.writes
    assert units.journal().args[-1] == "--no-pager"


def test_everything_else_writes() -> None:
    """So a read-only connection refuses it."""
    commands = (units.start(), units.stop(), units.load_unit(), units.forget_unit("/x"))
    assert all(command.writes and command.root for command in commands)


def test_a_new_unit_is_linted_then_loaded() -> None:
    """Both go with its write; an enabled unit is loaded by one reload, another by `enable` alone."""
    around = units.replace_unit()
    assert around.accept.split()[1:] == ["systemd-analyze", "verify", "--man=no"]
    *shell, script, _, unit = shlex.split(around.then)
    assert shell == ["sh", "-c"]
    assert unit == "etcd.service"
    assert script == units.load_unit().script
    assert [script.count(words) for words in ("systemctl daemon-reload", "systemctl enable")] == [1, 1]
