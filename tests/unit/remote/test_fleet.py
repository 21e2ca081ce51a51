"""The fan-out, on hosts that are only names."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import sys
import threading

import pytest

from etcdctl_remote.errors import Failed, Refused, Unreachable
from etcdctl_remote.remote.fleet import Fleet


def fleet() -> Fleet:
    return Fleet({})


def test_results_keep_the_order_of_the_items() -> None:
    """Whatever finishes first."""
    first = threading.Event()

    def work(item: int) -> int:
        if item == 3:
            first.wait(5)
        else:
            first.set()
        return item * 2

    assert list(fleet().spread({"c": 3, "a": 1}, work).items()) == [("c", 6), ("a", 2)]


def test_failures_are_values() -> None:
    """One host's failure is nobody else's."""

    def work(item: int) -> int:
        if item == 2:
            raise Refused("no")
        return item

    found = fleet().spread({"a": 1, "b": 2, "c": 3}, work)
    assert found["a"] == 1
    assert found["c"] == 3
    assert isinstance(found["b"], Refused)


def test_gravest_failure_names_the_error() -> None:
    """Unreachable beats refused beats failed, and every host has its line."""
    errors = {"a": Failed("bad"), "b": Unreachable("gone"), "c": Refused("no")}
    hosts = Fleet({name: Named(name) for name in errors})  # type: ignore[misc]

    def work(host: object) -> None:
        raise errors[host.name]  # type: ignore[attr-defined]

    with pytest.raises(Unreachable) as caught:
        hosts.each(work, doing="x")
    assert caught.value.hosts == {"a": "bad", "b": "gone", "c": "no"}


class Named:
    """A host that is only a name."""

    def __init__(self, name: str) -> None:
        self.name = name


def test_nothing_starts_once_the_run_is_interrupted() -> None:
    """Clean-up code may still fan out: it gets failures at once, it never hangs."""
    interrupted = fleet()
    interrupted.stopping.set()
    found = interrupted.spread({"a": 1, "b": 2}, lambda item: item)
    assert all(isinstance(value, Failed) for value in found.values())


def test_nested_fan_out() -> None:
    """A step may fan out itself."""
    outer = fleet()
    found = outer.spread({"a": 1, "b": 2}, lambda item: outer.spread({"x": item, "y": item + 1}, lambda x: x))
    assert found == {"a": {"x": 1, "y": 2}, "b": {"x": 2, "y": 3}}


PROMPT = """
import signal, termios
from etcdctl_remote.remote.fleet import Fleet
from getpass import getpass
try:
    Fleet({}).spread({"a": 1, "b": 2}, lambda item: getpass("asked") if item == 1 else None)
finally:
    with open("/dev/tty") as tty:
        print("echo is", bool(termios.tcgetattr(tty)[3] & termios.ECHO), flush=True)
"""


def test_an_interrupt_at_a_password_leaves_the_terminal_as_it_was() -> None:
    """The thread that switched the echo off never comes to switch it on."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", PROMPT])  # noqa: S606 (our own program)
    said = b""
    while b"asked" not in said:
        said += os.read(terminal, 1000)
    os.kill(child, signal.SIGINT)
    with contextlib.suppress(OSError):  # the other end is closed: all was said
        while True:
            said += os.read(terminal, 1000)
    os.waitpid(child, 0)
    os.close(terminal)
    assert b"echo is True" in said
    assert b"KeyboardInterrupt" in said
