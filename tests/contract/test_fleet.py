"""All hosts at once: every failure kept, and an interrupt that ends within a second."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from etcdctl_remote.errors import CommandFailed, Failed, LoginFailed, Unreachable
from etcdctl_remote.remote.fleet import Fleet
from etcdctl_remote.remote.host import Command, Host
from tests.ports import free_port

from .conftest import QUICK, Connect
from .sshd import Sshd


def command(script: str, *args: str) -> Command:
    return Command(script, args, about="the step", root=False, writes=False)


def test_every_unreachable_host_is_named(server: Sshd) -> None:
    """Two of three fail in different ways: one error, exit code 3, a line for each."""
    cluster = server.cluster("n1", "n2", "n3")
    nodes = list(cluster.nodes)
    nodes[1] = replace(nodes[1], ssh=replace(nodes[1].ssh, port=free_port()))
    nodes[2] = replace(nodes[2], ssh=replace(nodes[2].ssh, user="nobody-here"))
    broken = replace(cluster, nodes=tuple(nodes))
    with pytest.raises(Unreachable) as caught:
        Fleet.connect(broken, patience=QUICK)
    assert caught.value.exit_code == 3
    assert set(caught.value.hosts) == {"n2", "n3"}
    assert "refused" in caught.value.hosts["n2"]
    assert "nobody-here" in caught.value.hosts["n3"]

    fleet, lost = Fleet.connect(broken, patience=QUICK, require_all=False)
    assert list(fleet.hosts) == ["n1"]
    assert isinstance(lost["n3"], LoginFailed)
    fleet.close()


def test_each_returns_results_in_order(server: Sshd, connect: Connect) -> None:
    """By name, in the inventory's order; a part of the hosts can be chosen."""
    fleet = connect(server, "c", "a", "b")
    found = fleet.each(lambda host: host.run(command('echo "$1"', host.name)).text)
    assert list(found.items()) == [("c", "c\n"), ("a", "a\n"), ("b", "b\n")]
    assert fleet.each(lambda host: host.name, hosts=["b"]) == {"b": "b"}
    with pytest.raises(Failed, match="not connected to x"):
        fleet.each(lambda host: host.name, hosts=["x"])


def test_each_keeps_every_failure_and_finishes_the_others(server: Sshd, connect: Connect) -> None:
    """The first failure stops nobody, the second is not lost."""
    fleet = connect(server, "n1", "n2", "n3")
    done: list[str] = []

    def work(host: Host) -> None:
        if host.name == "n3":
            host.run(command("sleep 0.3"))
            done.append(host.name)
        else:
            host.run(command("exit 1"))

    with pytest.raises(Failed, match="the rollout failed on 2 hosts") as caught:
        fleet.each(work, doing="the rollout")
    assert set(caught.value.hosts) == {"n1", "n2"}
    assert done == ["n3"]

    with pytest.raises(CommandFailed, match="n1: the step: exit 1"):
        fleet.each(lambda host: host.run(command("exit 1")), hosts=["n1"])


def test_hosts_work_side_by_side(server: Sshd, connect: Connect) -> None:
    """Six half-second steps take about half a second."""
    fleet = connect(server, *(f"n{number}" for number in range(6)))
    began = time.monotonic()
    fleet.each(lambda host: host.run(command("sleep 0.5")))
    assert time.monotonic() - began < 2.5


def test_at_most_ten_at_a_time(server: Sshd, connect: Connect) -> None:
    """Fourteen hosts: all are served, never more than ten at once."""
    fleet = connect(server, *(f"n{number}" for number in range(14)))
    running, most, lock = 0, 0, threading.Lock()

    def work(host: Host) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        host.run(command("sleep 0.1"))
        with lock:
            running -= 1

    assert len(fleet.each(work)) == 14
    assert most <= 10


PROGRAM = """
import sys, time
from pathlib import Path
from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, SshSpec, Version
from etcdctl_remote.remote.fleet import Fleet
from etcdctl_remote.remote.host import Command
user, port, key, known, work = sys.argv[1:]
ssh = SshSpec(user=user, port=int(port), key=Path(key), known_hosts=Path(known))
nodes = tuple(NodeSpec(f"n{i}", "127.0.0.1", ssh=ssh) for i in range(3))
fleet, _ = Fleet.connect(ClusterSpec("demo", Version(3, 6, 14), nodes, Path("x")))
print("going", flush=True)
long = Command("sleep 30; echo", root=False, writes=False)
def local(host):
    fleet.stopping.wait()
    print("stopping", flush=True)
    time.sleep(30)
data = b"x" * 100_000_000
work = {"remote": lambda host: host.run(long), "local": local,
        "sending": lambda host: host.run(long, data),
        "streaming": lambda host: list(host.lines(long)), "done": lambda host: None}[work]
try:
    fleet.each(work)
except KeyboardInterrupt:
    print("ended in order", flush=True)
    sys.exit(130)
finally:
    fleet.close()
"""


@pytest.mark.parametrize("work", ["remote", "local", "sending", "streaming"])
def test_interrupt_ends_within_a_second(server: Sshd, work: str) -> None:
    """Ctrl-C in the middle of anything: exit 130 in about a second, and no traceback.

    0.8 s for the threads to notice; the rest is room for a busy machine.
    """
    with program(server, work) as running:
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, errors = running.communicate(timeout=10)
    assert time.monotonic() - began < 2.5
    assert running.returncode == 130
    assert "Traceback" not in errors


def test_second_interrupt_ends_at_once(server: Sshd) -> None:
    """Two Ctrl-C: the second does not wait for anything."""
    with program(server, "local") as running:
        time.sleep(0.3)
        running.send_signal(signal.SIGINT)
        assert running.stdout is not None
        assert running.stdout.readline().startswith("stopping")
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=10)
    assert "ended in order" not in output
    assert running.returncode == 130


def test_program_ends_promptly(server: Sshd) -> None:
    """Open connections hold nothing up at the end: no thread outlives the work."""
    with program(server, "done") as running:
        began = time.monotonic()
        running.wait(10)
    assert time.monotonic() - began < 2.5
    assert running.returncode == 0


def program(server: Sshd, work: str) -> subprocess.Popen[str]:
    """A program with a fleet of three, past the point where it has connected."""
    words = [str(word) for word in (server.ssh().user, server.port, server.key, server.known_hosts, work)]
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "going\n"
    return running
