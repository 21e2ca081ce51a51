"""SIGTERM, as `timeout`, systemd or a cron job sends it: the task ends as it does at Ctrl-C."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from etcdctl_remote.command import ONE_BREATH, terminable
from tests.unit.program import finish, start

INVENTORY = """cluster: demo
version: "3.6.14"
nodes:
  n1: {{address: 127.0.0.1, ssh: {{port: {port}, user: nobody, timeout: 60}}}}
"""


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A host that takes the connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        yield listener


@pytest.fixture
def folder(silent: socket.socket, tmp_path: Path) -> Path:
    """An inventory of that host alone."""
    (tmp_path / "inventory.yaml").write_text(INVENTORY.format(port=silent.getsockname()[1]))
    return tmp_path


needs_ssh = pytest.mark.skipif(not shutil.which("ssh"), reason="there is no OpenSSH client here")


def notes(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "inventory.journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@needs_ssh
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_task_that_is_terminated_says_so(
    number: signal.Signals, silent: socket.socket, folder: Path
) -> None:
    """130, one JSON document, the message, and an entry in the journal: exactly as at Ctrl-C."""
    process = start("check", "-o", "json", folder=folder)
    with silent.accept()[0]:
        process.send_signal(number)
        done = finish(process)
    assert done.returncode == 130, done.stderr
    assert json.loads(done.stdout)["error"] == "interrupted"
    assert "error: interrupted" in done.stderr
    assert "Traceback" not in done.stderr
    last = notes(folder)[-1]
    assert (last["exit"], last["message"]) == (130, "interrupted")


@needs_ssh
def test_timeout_gets_one_document(silent: socket.socket, folder: Path) -> None:
    """It sends the signal twice in one breath, to the process and to its group."""
    process = start("check", "-o", "json", folder=folder)
    with silent.accept()[0]:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        done = finish(process)
    assert done.returncode == 130, done.stderr
    assert json.loads(done.stdout)["error"] == "interrupted"
    assert notes(folder)[-1]["exit"] == 130


def test_a_second_one_is_a_second_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in the same breath is not; a later one does what Ctrl-C does by then. Afterwards all is as before."""
    now, seen = [100.0], list[str]()
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    before = signal.signal(signal.SIGINT, lambda *_: seen.append("pressed"))
    try:
        with terminable():
            for at in (100.0, 100.0 + ONE_BREATH / 2, 100.0 + 2 * ONE_BREATH):
                now[0] = at
                signal.raise_signal(signal.SIGTERM)
        assert seen == ["pressed", "pressed"]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def test_also_where_ctrl_c_is_ignored() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C: SIGTERM is meant for it all the same."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), terminable():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)


def test_only_where_it_means_the_end() -> None:
    """Who ignores it, or answers it in his own way, keeps his; a thread cannot have any."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with terminable():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    seen: list[object] = []

    def work() -> None:
        with terminable():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
