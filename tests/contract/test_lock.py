"""One run at a time: the second is told who holds the lock; a dead holder holds nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from etcdctl_remote.errors import ConnectionLost, Refused
from etcdctl_remote.remote.lock import hold

from .conftest import Connect
from .sshd import Sshd

SINCE = datetime(2026, 11, 5, 12, 30, tzinfo=UTC)


def each_own(server: Sshd) -> str:
    """A lock file for this test; all its nodes are one machine, so a test locks one node."""
    return str(server.folder / "lock")


def test_second_run_is_told_who_holds_it(server: Sshd, connect: Connect) -> None:
    """Refused names the holder, the task, the time and the way out; then it is free again."""
    ours, theirs = connect(server), connect(server)
    with hold(ours, "ann@laptop", "deploy", SINCE, each_own(server)) as lock:
        assert lock.alive()
        with pytest.raises(
            Refused, match=r"ann@laptop runs deploy since 2026-11-05T12:30:00\+00:00"
        ) as caught:
            hold(theirs, "bob@desk", "deploy", SINCE, each_own(server)).__enter__()
        assert caught.value.exit_code == 4
        lock.require()
        found = re.search(r"`sudo kill (\d+)` on n1 frees the lock", caught.value.hint)
        assert found is not None
    assert not lock.alive()
    with hold(theirs, "bob@desk", "deploy", SINCE, each_own(server)) as lock:
        assert lock.alive()


def test_the_named_process_frees_the_lock(server: Sshd, connect: Connect) -> None:
    """The way out for a laptop that is gone without a goodbye works as printed."""
    with hold(connect(server), "ann", "deploy", SINCE, each_own(server)):
        with pytest.raises(Refused) as caught:
            hold(connect(server), "bob", "deploy", SINCE, each_own(server)).__enter__()
        process = int(re.findall(r"kill (\d+)", caught.value.hint)[0])
        os.kill(process, signal.SIGTERM)
        take_within(3, server, connect)


def test_lock_dies_with_its_connection(server: Sshd, connect: Connect) -> None:
    """The holder's link is cut: it is told so, and the next run gets the lock."""
    with hold(connect(server), "ann", "deploy", SINCE, each_own(server)) as lock:
        for pid in server.sessions():
            os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 3
        while lock.alive() and time.monotonic() < end:
            time.sleep(0.02)
        with pytest.raises(ConnectionLost, match="lock was lost"):
            lock.require()
        take_within(3, server, connect)


HOLDER = """
import sys, time
from pathlib import Path
from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, SshSpec, Version
from etcdctl_remote.remote.fleet import Fleet
from etcdctl_remote.remote.lock import hold
user, port, key, known, path = sys.argv[1:]
ssh = SshSpec(user=user, port=int(port), key=Path(key), known_hosts=Path(known))
cluster = ClusterSpec("demo", Version(3, 6, 14), (NodeSpec("n1", "127.0.0.1", ssh=ssh),), Path("x"))
fleet, _ = Fleet.connect(cluster)
with hold(fleet, "ann", "deploy", path=path):
    print("held", flush=True)
    time.sleep(60)
"""


def test_lock_dies_with_a_killed_program(server: Sshd, connect: Connect) -> None:
    """kill -9 of the whole tool frees the lock."""
    words = [
        str(word)
        for word in (server.ssh().user, server.port, server.key, server.known_hosts, each_own(server))
    ]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, *words], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Refused):
            hold(connect(server), "bob", "deploy", path=each_own(server)).__enter__()
        holder.kill()
        take_within(3, server, connect)


def test_unreadable_holder_is_still_a_lock(server: Sshd, connect: Connect) -> None:
    """What stands in the file is only for people: the kernel's lock decides."""
    with hold(connect(server), "ann", "deploy", SINCE, each_own(server)):
        Path(each_own(server)).write_text("garbage")
        with pytest.raises(Refused, match="another run"):
            hold(connect(server), "bob", "deploy", SINCE, each_own(server)).__enter__()


def take_within(seconds: float, server: Sshd, connect: Connect) -> None:
    """Take the lock in time, or fail."""
    fleet = connect(server)
    end = time.monotonic() + seconds
    while True:
        try:
            with hold(fleet, "bob", "deploy", SINCE, each_own(server)):
                return
        except Refused:
            assert time.monotonic() < end
            time.sleep(0.05)
