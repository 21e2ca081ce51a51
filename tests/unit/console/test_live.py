"""Progress on a terminal: the live display."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console

from etcdctl_remote.console.clean import clean
from etcdctl_remote.console.live import Live
from etcdctl_remote.console.output import Output
from etcdctl_remote.console.progress import Lines, progress
from etcdctl_remote.plan.events import (
    StageStarted,
    StepDone,
    StepFailed,
    StepStarted,
    Transferred,
    Waiting,
)
from tests.unit.console.streams import Terminal, files, terminals

HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"


class Clock:
    """A monotonic clock that is turned by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def display(clock: Clock | None = None) -> Iterator[tuple[Live, Output, Terminal]]:
    """Run a live display on a terminal of 100 cells."""
    output, _, err = terminals(environ={"NO_COLOR": "1"})
    with Live(output, clock or Clock(), width=100) as live:
        yield live, output, err


def picture(live: Live) -> list[str]:
    """Draw the present frame, as lines of plain text."""
    console = Console(file=io.StringIO(), force_terminal=True, no_color=True, width=100)
    with console.capture() as captured:
        console.print(live.frame())
    return [line.rstrip() for line in clean(captured.get()).splitlines()]


def test_one_line_a_node() -> None:
    """The stage, each node's mark and step, the bar with bytes and speed, what is awaited."""
    clock = Clock()
    with display(clock) as (live, _, _):
        live(StageStarted(1, 3, "Install on all hosts", ("n1", "n2", "n3", "n4")))
        for node in ("n1", "n2", "n3"):
            live(StepStarted(node, "install etcd"))
        live(StepDone("n1", "install etcd", 0.8))
        live(StepFailed("n3", "install etcd", "no\nspace \x1b[2Jleft"))
        clock.now += 2
        live(Transferred("n2", 12 * 1024**2, 24 * 1024**2))
        live(Waiting("n1: etcd does not answer yet"))
        lines = picture(live)
    assert lines[0] == "[1/3] Install on all hosts  2.0 s"
    assert lines[1].split() == ["✓", "n1", "install", "etcd", "0.8", "s"]
    assert re.fullmatch(r"\S n2 install etcd +━{7}╸? *━* *12 MiB of 24 MiB, 6 MiB/s", lines[2])
    assert lines[3] == "✗ n3 install etcd: no space left"
    assert lines[4] == "· n4"
    assert lines[5] == "  waiting: n1: etcd does not answer yet"


def test_a_good_run_leaves_one_line_a_stage() -> None:
    """The display is gone, the cursor is back, and the scroll-back tells what was done."""
    clock = Clock()
    with display(clock) as (live, _, err):
        live(StageStarted(1, 2, "Install", ("n1", "n2")))
        clock.now += 1.5
        live(StageStarted(2, 2, "Start", ("n1", "n2")))
        clock.now += 0.5
    written = err.getvalue()
    assert "✓ [1/2] Install (n1 n2, 1.5 s)\n" in written
    assert "✓ [2/2] Start (n1 n2, 0.5 s)\n" in written
    assert written.rindex(SHOWN) > written.rindex(HIDDEN)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_bad_end_keeps_the_last_state(error: type[BaseException]) -> None:
    """Ctrl-C or a failure: the cursor is back, and what each node was doing stays to be read."""
    output, _, err = terminals(environ={"NO_COLOR": "1"})
    live = Live(output, Clock(), width=100)

    def run() -> None:
        with live:
            live(StageStarted(1, 1, "Install", ("n1", "n2")))
            live(StepFailed("n2", "start etcd", "port taken"))
            raise error

    with pytest.raises(error):
        run()
    written = err.getvalue()
    assert written.rindex(SHOWN) > written.rindex(HIDDEN)
    assert "✗ n2 start etcd: port taken" in clean(written[-400:])
    assert "✓ [1/1]" not in written


def test_questions_come_before_the_display() -> None:
    """Until the first stage nothing is drawn: a redraw would wipe what the person types."""
    with display() as (live, output, err):
        output.inform("the plan")
        time.sleep(0.25)
        assert err.getvalue() == "the plan\n"
        live(StageStarted(1, 1, "Install", ("n1",)))
        assert HIDDEN in err.getvalue()


def test_a_run_without_stages_draws_nothing() -> None:
    """Nothing to do, or a no to the question."""
    with display() as (_, _, err):
        pass
    assert err.getvalue() == ""


def test_closing_twice_is_harmless() -> None:
    """The second Ctrl-C closes again before it leaves."""
    with display() as (live, output, err):
        live(StageStarted(1, 1, "Install", ("n1",)))
        live.close()
        live.close()
        assert output.above is None
        before = err.getvalue()
    assert err.getvalue() == before


def test_notes_appear_above_and_as_written() -> None:
    """A warning in the middle does not tear the display; markup in it stays text."""
    with display() as (live, output, err):
        live(StageStarted(1, 1, "Install", ("n1",)))
        output.warn("n1: [bold]clock[/bold] is 0.7 s ahead")
        output.say("a result")
    assert "warning: n1: [bold]clock[/bold] is 0.7 s ahead\n" in err.getvalue()
    assert "a result\n" in err.getvalue()


def test_events_of_five_threads_while_it_redraws() -> None:
    """No error, no deadlock, and the last state is everyone's last step."""
    nodes = tuple(f"n{number}" for number in range(5))
    with display() as (live, output, _):
        live(StageStarted(1, 1, "Install", nodes))

        def work(node: str) -> None:
            for step in range(100):
                live(StepStarted(node, f"step {step}"))
                live(Transferred(node, step, 100))
                live(StepDone(node, f"step {step}", 0.1))
                if step % 25 == 0:
                    output.note(f"{node} at {step}")

        threads = [threading.Thread(target=work, args=(node,)) for node in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in threads)
        lines = picture(live)
    assert [line.split()[:4] for line in lines[1:]] == [["✓", node, "step", "99"] for node in nodes]


def test_only_a_terminal_gets_the_display() -> None:
    """A file, a pipe and a dumb terminal get lines."""
    assert isinstance(progress(files()[0]), Lines)
    assert isinstance(progress(terminals(environ={"TERM": "dumb"})[0]), Lines)
    assert isinstance(progress(terminals()[0]), Live)


def test_ctrl_c_on_a_real_terminal_gives_the_cursor_back() -> None:
    """The whole program on a pseudo-terminal, interrupted as a person would."""
    script = """
import time
from etcdctl_remote.console.output import Output
from etcdctl_remote.console.progress import progress
from etcdctl_remote.plan.events import StageStarted, StepStarted
try:
    with progress(Output()) as tell:
        tell(StageStarted(1, 1, "Install", ("n1",)))
        tell(StepStarted("n1", "install etcd"))
        time.sleep(60)
except KeyboardInterrupt:
    raise SystemExit(130)
"""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "PYTHONPATH": os.pathsep.join(sys.path)}
    environ.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environ,
        start_new_session=True,
        preexec_fn=_own_terminal,
    )
    os.close(theirs)
    seen = _read_until(ours, "install etcd")
    interrupted = time.monotonic()
    os.write(ours, b"\x03")
    seen += _read_until(ours, SHOWN)
    assert process.wait(timeout=10) == 130
    assert time.monotonic() - interrupted < 1
    os.close(ours)
    assert HIDDEN in seen
    assert seen.rindex(SHOWN) > seen.rindex(HIDDEN)
    assert "install etcd" in clean(seen[seen.rindex(HIDDEN) :])


def _own_terminal() -> None:
    """Make standard input the controlling terminal, so that Ctrl-C there is a signal."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _read_until(descriptor: int, wanted: str) -> str:
    """Read what the program draws until it has drawn this."""
    seen = b""
    end = time.monotonic() + 15
    while wanted.encode() not in seen:
        assert time.monotonic() < end, seen
        seen += os.read(descriptor, 4096)
    return seen.decode()
