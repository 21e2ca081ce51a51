"""A peer that freezes or a link that breaks is noticed, and told from a command that failed."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable

import pytest

from etcdctl_remote.errors import ConnectionLost, Unreachable
from etcdctl_remote.remote.fleet import Fleet
from etcdctl_remote.remote.host import Command
from etcdctl_remote.remote.ssh_host import SshHost
from etcdctl_remote.remote.wire import Patience

from .conftest import QUICK, Connect, Start
from .sshd import Sshd

LIMIT = QUICK.lost_after + 4
"""Seconds: without a watchdog it would be for ever; a busy machine needs some room."""
SLEEP = Command("sleep 20", about="a long step", root=False, writes=False, timeout=30)


def after(seconds: float, do: Callable[[], object]) -> None:
    """Do something a little later."""
    timer = threading.Timer(seconds, do)
    timer.daemon = True
    timer.start()


def signal_sessions(server: Sshd, number: int) -> None:
    for pid in server.sessions():
        os.kill(pid, number)


@pytest.mark.parametrize("when", ["before the command", "during the command", "while it sends"])
def test_frozen_peer_is_noticed_in_time(server: Sshd, host: SshHost, when: str) -> None:
    """A peer that is there and says nothing (SIGSTOP) ends in ConnectionLost within the limit."""
    if when == "before the command":
        signal_sessions(server, signal.SIGSTOP)
    else:
        after(0.3, lambda: signal_sessions(server, signal.SIGSTOP))
    began = time.monotonic()
    sends = Command("cat >/dev/null; sleep 15", about="a long step", root=False, writes=False)
    wanted, data = (sends, b"x" * 100_000_000) if when == "while it sends" else (SLEEP, b"")
    with pytest.raises(ConnectionLost, match="no sign of life for 2 s"):
        host.run(wanted, data)
    assert time.monotonic() - began < LIMIT


def test_default_patience_is_ten_seconds() -> None:
    """A frozen peer is noticed in about ten seconds without any option."""
    patience = Patience()
    assert patience.lost_after + patience.ask_after / 3 <= 10


def test_silent_command_on_a_living_peer_is_left_alone(host: SshHost) -> None:
    """Silence of the command is not silence of the peer: it answers."""
    assert host.run(Command("sleep 4; echo done", root=False, writes=False)).text == "done\n"


def test_cut_link_during_a_command(server: Sshd, host: SshHost) -> None:
    """The session's process dies: ConnectionLost at once, with the step's name, not an exit code."""
    after(0.5, lambda: signal_sessions(server, signal.SIGKILL))
    began = time.monotonic()
    with pytest.raises(ConnectionLost, match="during: a long step"):
        host.run(SLEEP)
    assert time.monotonic() - began < 2


def test_commands_after_a_cut_link(server: Sshd, host: SshHost) -> None:
    """Everything on a dead connection says that it is dead."""
    signal_sessions(server, signal.SIGKILL)
    for attempt in (
        lambda: host.run(SLEEP),
        lambda: host.hold(SLEEP),
        lambda: host.dial("127.0.0.1", server.port, 2),
        lambda: next(host.lines(SLEEP)),
    ):
        with pytest.raises(ConnectionLost):
            attempt()


def test_cut_link_ends_a_stream(server: Sshd, host: SshHost) -> None:
    """A stream does not end as if it were complete."""
    stream = host.lines(Command("echo one; sleep 20", root=False, writes=False))
    assert next(stream) == "one"
    signal_sessions(server, signal.SIGKILL)
    with pytest.raises(ConnectionLost):
        next(stream)


def test_nothing_listens(server: Sshd, connect: Connect) -> None:
    """A refused connection names the address, the port and what to look at."""
    server.stop()
    with pytest.raises(
        Unreachable, match=f"cannot connect to .*:{server.port}: Connection refused"
    ) as caught:
        connect(server)
    assert "sshd" in caught.value.hint
    server.start()


def test_server_that_says_nothing(server: Sshd, connect: Connect) -> None:
    """A port that accepts and stays silent ends within the connect timeout, and is told so."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        with pytest.raises(Unreachable, match="TCP is accepted, and then nothing is said for 1 s"):
            connect(server, port=mute.getsockname()[1], patience=Patience(connect=1.0))
        assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (b"", "TCP is accepted, and then closed before sshd greets"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "sshd greets, then says nothing for 1 s"),
    ],
)
def test_server_that_stops_speaking(server: Sshd, connect: Connect, said: bytes, seen: str) -> None:
    """How far it came is told in our words, not in a library's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        open_ones: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    accepted, _ = listener.accept()
                except OSError:
                    return
                accepted.sendall(said)
                if said:
                    open_ones.append(accepted)
                else:
                    accepted.close()

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(Unreachable, match=seen):
            connect(server, port=listener.getsockname()[1], patience=Patience(connect=1.0))
        listener.shutdown(socket.SHUT_RDWR)
    for each in open_ones:
        each.close()


def test_connections_dropped_at_random_are_tried_again(start: Start) -> None:
    """sshd's MaxStartups drops some of twelve simultaneous logins; all of them get in."""
    server = start("busy", "MaxStartups 3:70:8")
    fleet, lost = Fleet.connect(server.cluster(*(f"n{number}" for number in range(12))), patience=QUICK)
    assert (len(fleet.hosts), lost) == (12, {})
    fleet.close()
