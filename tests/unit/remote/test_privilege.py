"""The one line a login shell sees, and the script behind it."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdctl_remote.errors import LoginFailed
from etcdctl_remote.remote.host import Command
from etcdctl_remote.remote.privilege import Mode, SudoPassword, line, script
from etcdctl_remote.secret import Secret

MODES: tuple[Mode, ...] = ("plain", "free", "password")


@pytest.mark.parametrize("mode", MODES)
def test_line_holds_nothing_that_shells_read_differently(mode: Mode) -> None:
    """One quoted word; no newline, backslash, history sign or nested quote; the script is not in it."""
    text = line(mode, "0123abcd", 100, 60)
    before, quoted, after = text.split("'")
    assert after == ""
    assert not set("\\!\n`") & set(text)
    assert not set('$"*?~#<>|&;()[]{}') & set(before)
    assert "eval" in quoted


def test_line_by_mode() -> None:
    """sudo asks nothing, or asks with our own prompt; both times the environment is emptied again."""
    assert "sudo" not in line("plain", "x", 1, 60)
    assert " sudo -n -- /usr/bin/env -i PATH=" in line("free", "x", 1, 60)
    assert " sudo -S -p PASSWORD-x: -- /usr/bin/env -i PATH=" in line("password", "x", 1, 60)


def test_limit_is_rounded_up_and_may_be_absent() -> None:
    """The far end gets whole seconds; a held command has no limit."""
    assert " timeout -k 2 1 sh -c " in line("plain", "x", 1, 0.2)
    assert "timeout" not in line("plain", "x", 1, None)


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_arguments_come_back_as_they_went_in(args: list[str]) -> None:
    """Whatever the arguments are, a POSIX shell sees exactly them."""
    text = script(Command('printf "%s\\0" "$@"; echo "$#"', tuple(args)))
    said = subprocess.run(["sh"], input=text, capture_output=True, check=True).stdout
    wanted = "".join(arg + "\0" for arg in args) if args else "\0"
    assert said == f"{wanted}{len(args)}\n".encode()


def test_nul_is_refused() -> None:
    """No shell can hold it."""
    with pytest.raises(ValueError, match="write x: a NUL byte"):
        script(Command("true", ("a\0b",), about="write x"))


def test_password_is_asked_once() -> None:
    """And kept."""
    asked: list[int] = []

    def ask() -> Secret:
        asked.append(1)
        return Secret(b"x")

    password = SudoPassword(ask)
    assert password.get() == password.get() == Secret(b"x")
    assert asked == [1]


def test_rejected_password_is_not_tried_elsewhere() -> None:
    """Unless it worked before: then only one host differs."""
    password = SudoPassword(lambda: Secret(b"x"))
    password.get()
    assert "n1: no" in str(password.reject("n1: no"))
    with pytest.raises(LoginFailed, match=r"^no on n1, so it was not tried here\n"):
        password.get()

    other = SudoPassword(lambda: Secret(b"x"))
    other.accept()
    other.reject("n2: no")
    assert other.get() == Secret(b"x")


def test_password_is_not_shown() -> None:
    """Neither the noun nor the secret."""
    password = SudoPassword(lambda: Secret(b"hunter2"))
    password.get()
    assert "hunter2" not in repr(password)
