"""One run at a time: the second is told who holds the lock; a dead holder holds nothing."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from etcdctl_remote.errors import ConnectionLost, Refused, UsageError
from etcdctl_remote.remote import lock as locks
from etcdctl_remote.remote.host import Command, Host
from etcdctl_remote.remote.lock import beside, hold

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


def test_two_nodes_that_are_one_host_are_told(server: Sshd, connect: Connect) -> None:
    """The run meets its own lock: that is a mistake of the inventory, and nobody else is blamed."""
    with pytest.raises(UsageError, match="another node of the inventory is the same host") as caught:
        hold(connect(server, "n1", "n2"), "ann", "deploy", SINCE, each_own(server)).__enter__()
    assert caught.value.host == "n2"
    take_within(3, server, connect)


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


def test_ctrl_c_waits_for_no_frozen_host(server: Sshd, connect: Connect) -> None:
    """At a question no connection is closed yet: the locks are given back within the same second."""
    fleet = connect(server)
    holding = hold(fleet, "ann", "deploy", SINCE, each_own(server))
    holding.__enter__()
    frozen = server.sessions()
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    assert not holding.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert time.monotonic() - began < 0.9
    fleet.close()
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    take_within(3, server, connect)


HOLDER = """
import sys, time
from pathlib import Path
from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, SshSpec, Version
from etcdctl_remote.remote.fleet import Fleet
from etcdctl_remote.remote.lock import beside, hold
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


def test_nobody_else_can_lock_the_files(server: Sshd, connect: Connect) -> None:
    """Whoever may read a file may lock it: they are their owner's alone, old ones too; commands make what they made."""
    path, made = Path(each_own(server)), server.folder / "made"
    busy = path.with_suffix(".busy")
    busy.touch(0o644)
    check = beside(connect(server), "a check", str(path)).hosts["n1"]
    check.hold(Command("echo open; cat >/dev/null", about="listen")).close()
    assert modes(path, busy) == [0o600, 0o600]
    for file in (path, busy):
        file.chmod(0o644)
    with hold(connect(server), "ann", "deploy", SINCE, str(path)) as lock:
        assert modes(path, busy) == [0o600, 0o600]
        busy.unlink()
        lock.fenced(connect(server)).hosts["n1"].run(Command(': >"$1"', (str(made),)))
        assert modes(busy, made) == [0o600, 0o644]


def modes(*paths: Path) -> list[int]:
    """What may be done with them, by whom."""
    return [path.stat().st_mode & 0o777 for path in paths]


def test_a_process_that_has_not_the_lock_is_not_named(server: Sshd, connect: Connect) -> None:
    """The files keep the numbers of processes that are gone, and a number is given again."""
    assert server.process is not None
    other, path = server.process.pid, Path(each_own(server))
    path.write_text(f'{{"who": "ann", "task": "deploy", "since": "noon"}}\n{other}\n')
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Refused, match="the cluster is locked: another run") as caught:
            hold(connect(server), "bob", "deploy", SINCE, str(path)).__enter__()
    assert "kill" not in caught.value.hint
    assert "grep run/etcdctl-remote'` on n1 shows which process has the lock" in caught.value.hint


def test_a_process_that_ended_is_not_named(
    server: Sshd, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its line stands there until the next run, and another process may have its number."""
    assert server.process is not None
    other, busy = server.process.pid, Path(f"{each_own(server)}.busy")
    busy.write_text(f"{other} {other} unpack etcd\n")
    monkeypatch.setattr(locks, "PATIENCE", 0.0)
    with busy.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(Refused, match="a command that does not tell its name") as caught:
            hold(connect(server), "bob", "deploy", SINCE, each_own(server)).__enter__()
    assert "kill" not in caught.value.hint
    assert "grep run/etcdctl-remote'` on n1 shows its process" in caught.value.hint


def test_unreadable_holder_is_still_a_lock(server: Sshd, connect: Connect) -> None:
    """Whatever stands in the file: the kernel's lock decides who gets in."""
    with hold(connect(server), "ann", "deploy", SINCE, each_own(server)):
        Path(each_own(server)).write_text("garbage")
        with pytest.raises(Refused, match="another run"):
            hold(connect(server), "bob", "deploy", SINCE, each_own(server)).__enter__()


# -- what a dead run began -------------------------------------------------------------------

PROC_LOCKS = Path("/proc/locks")

# Says who can end it, then works until a line comes through the pipe $1.
WORK = 'exec 8<>"$1"; echo $PPID >"$1.process"; read -r _ <&8; echo done >"$1.done"'


@pytest.fixture
def work(server: Sshd, connect: Connect) -> Iterator[tuple[Path, int]]:
    """A command under way whose laptop has died; its pipe ends it, and its process."""
    pipe = server.folder / "pipe"
    os.mkfifo(pipe)
    os.mkfifo(f"{pipe}.process")
    with hold(connect(server), "ann", "deploy", SINCE, each_own(server)) as lock:
        host = lock.fenced(connect(server)).hosts["n1"]
        run = threading.Thread(target=dies, args=(host, Command(WORK, (str(pipe),), about="unpack etcd")))
        run.start()
        process = int(Path(f"{pipe}.process").read_text())
        for pid in server.sessions():
            os.kill(pid, signal.SIGKILL)
        run.join()
    yield pipe, process
    finish(pipe)


def dies(host: Host, command: Command) -> None:
    """Run a command to the end of its connection."""
    with pytest.raises(ConnectionLost):
        host.run(command)


def finish(pipe: Path) -> None:
    """Let the work end, if it still goes on."""
    with suppress(OSError):  # nobody reads the pipe any more
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        os.write(descriptor, b"\n")
        os.close(descriptor)


def test_what_a_dead_run_began_is_waited_for(server: Sshd, connect: Connect, work: tuple[Path, int]) -> None:
    """The lock is taken once the work has ended, and the operator is told what is waited for."""
    pipe, process = work
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        finish(pipe)

    with hold(connect(server), "bob", "deploy", SINCE, each_own(server), tell):
        assert pipe.with_suffix(".done").exists()
    (line,) = told
    assert re.fullmatch(
        rf"n1: waiting for what another run began there: unpack etcd, since \S+, for 60 s at most \(process {process}\)",
        line,
    )


def test_what_a_dead_run_began_is_not_waited_for_for_ever(
    server: Sshd, connect: Connect, work: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused names it, and the process that ends it: as printed that frees the host."""
    monkeypatch.setattr(locks, "PATIENCE", 0.0)
    with pytest.raises(Refused, match=rf"unpack etcd, since .* \(process {work[1]}\)") as caught:
        hold(connect(server), "bob", "deploy", SINCE, each_own(server)).__enter__()
    assert "it ends by itself" in caught.value.hint
    assert "`sudo kill PROCESS` on n1 ends it" in caught.value.hint
    os.kill(work[1], signal.SIGTERM)
    take_within(3, server, connect)
    assert not work[0].with_suffix(".done").exists()


def test_reading_waits_for_nobody(server: Sshd, connect: Connect, work: tuple[Path, int]) -> None:
    """A command that only reads runs beside the work, and is nothing that others wait for."""
    with hold(connect(server), "bob", "deploy", SINCE, f"{each_own(server)}-other") as lock:
        host = lock.fenced(connect(server)).hosts["n1"]
        assert host.run(Command("ls -l /proc/self/fd", writes=False)).text.count("busy") == 0
        assert host.run(Command("ls -l /proc/self/fd")).text.count("busy") == 1


@pytest.mark.parametrize("check", [True, False])
def test_what_comes_late_does_nothing(server: Sshd, connect: Connect, check: bool) -> None:
    """A command of a run whose lock went to another is refused on the host, naming the other."""
    made = server.folder / "made"
    touch = Command('touch -- "$1"', (str(made),), about="touch")
    with hold(connect(server), "ann", "deploy", SINCE, each_own(server)) as lost:
        host: Host = lost.fenced(connect(server)).hosts["n1"]
        lost.held["n1"].close()
        with hold(connect(server), "bob", "stop", SINCE, each_own(server)) as lock:
            with pytest.raises(Refused, match="bob runs stop since"):
                host.run(touch, check=check)
            assert not made.exists()
            lock.fenced(connect(server)).hosts["n1"].run(touch, check=check)
            assert made.exists()


def test_a_check_listens_only_while_nobody_is_at_work(server: Sshd, connect: Connect) -> None:
    """Its listeners would be in etcd's way: not under a lock, not twice, and whoever takes the lock waits."""
    listen = Command("echo open; exec cat >/dev/null", about="listen on 2380")
    bob, eve = (
        beside(connect(server), f"a check by {who}", each_own(server)).hosts["n1"] for who in ("bob", "eve")
    )
    with (
        hold(connect(server), "ann", "deploy", SINCE, each_own(server)),
        pytest.raises(Refused, match="ann runs deploy since"),
    ):
        bob.hold(listen)
    held, told = bob.hold(listen), list[str]()
    with pytest.raises(Refused, match="still goes on: listen on 2380 for a check by bob, since"):
        eve.hold(listen)
    assert eve.run(Command("echo a file", about="measure the disk")).text == "a file\n"

    def tell(line: str) -> None:
        told.append(line)
        held.close()

    with hold(connect(server), "ann", "deploy", SINCE, each_own(server), tell):
        assert not held.alive()
    assert "waiting for what another run began there: listen on 2380 for a check by bob" in told[0]


def test_a_check_that_takes_a_look_disturbs_nobody(server: Sshd, connect: Connect) -> None:
    """For a moment it has the file that a command wants: the command waits for it."""
    with (
        hold(connect(server), "ann", "deploy", SINCE, each_own(server)) as lock,
        ThreadPoolExecutor() as pool,
        Path(f"{each_own(server)}.busy").open("a") as busy,
    ):
        fcntl.flock(busy, fcntl.LOCK_EX)
        running = pool.submit(lock.fenced(connect(server)).hosts["n1"].run, Command("echo done"))
        waiting = f":{os.fstat(busy.fileno()).st_ino} "
        end = time.monotonic() + 4
        while not any("->" in line and waiting in line for line in PROC_LOCKS.read_text().splitlines()):
            assert time.monotonic() < end
            time.sleep(0.02)
        fcntl.flock(busy, fcntl.LOCK_UN)
        assert running.result().text == "done\n"


def test_a_command_keeps_its_arguments_and_its_exit_code(server: Sshd, connect: Connect) -> None:
    """The lock changes nothing of what a command sees and says."""
    with hold(connect(server), "ann", "deploy", SINCE, each_own(server)) as lock:
        host = lock.fenced(connect(server)).hosts["n1"]
        seen = host.run(Command('cat; printf "%s|" "$#" "$@"; exit 7', ("a b", "c")), b"in ", check=False)
        assert (seen.exit, seen.stdout, seen.stderr) == (7, b"in 2|a b|c|", b"")


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
