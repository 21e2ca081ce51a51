"""The composition root: what is journaled, what is refused, before and without any host."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etcdctl_remote.desired.model import ClusterSpec
from etcdctl_remote.errors import Failed, LoginFailed, Problem, Unreachable, UsageError
from etcdctl_remote.plan.journal import Journal, beside, read
from etcdctl_remote.remote.fleet import Fleet
from etcdctl_remote.remote.host import Command
from etcdctl_remote.session import _ADDRESSES, Mode, _interfaces, _journaled, candidates, session
from tests.unit.operations.here import Canned, cluster, said

# Port 1 of the loopback: nobody listens, so a connection is refused at once.
INVENTORY = """
cluster: demo
version: "3.6.14"
ssh: {user: nobody, port: 1, known_hosts: nobody}
nodes:
  n1: {address: 10.0.0.1, host: 127.0.0.1}
  n2: {address: 10.0.0.2, host: 127.0.0.2}
  n3: {address: 10.0.0.3, host: 127.0.0.3}
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY)
    return path


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read(beside(path))]


@pytest.mark.parametrize("mode", ["command", "change"])
def test_unreachable_hosts_are_journaled(inventory: Path, mode: Mode) -> None:
    """Who tried what, and how it ended; every host is named."""
    with pytest.raises(Unreachable) as caught, session(inventory, "deploy", mode, arguments={"yes": True}):
        pytest.fail("no host is there")
    assert set(caught.value.hosts) == {"n1", "n2", "n3"}
    start, end = entries(inventory)
    assert (start["event"], start["task"], start["cluster"], start["arguments"]) == (
        "start", "deploy", "demo", {"yes": True},
    )  # fmt: skip
    assert (end["event"], end["exit"]) == ("end", 3)


def test_reading_leaves_no_trace(inventory: Path) -> None:
    """Neither a journal nor certificates."""
    before = {path.name for path in inventory.parent.iterdir()}
    with pytest.raises(Unreachable), session(inventory, "plan"):
        pytest.fail("no host is there")
    assert {path.name for path in inventory.parent.iterdir()} == before


def test_partial_sessions_go_on(inventory: Path) -> None:
    """Health and status must tell of unreachable hosts, not end at them."""
    with session(inventory, "health", partial=True) as opened:
        assert set(opened.unreachable) == {"n1", "n2", "n3"}
        assert not opened.fleet.hosts


def test_descriptors_of_the_program_are_no_passphrase(
    inventory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`3<` was forgotten, and a connection got the number."""
    number = fcntl.fcntl(0, fcntl.F_DUPFD, 100)
    os.close(number)
    text = INVENTORY + f"pki: {{ca_key: {{protect: passphrase, passphrase: 'fd:{number}'}}}}\n"
    inventory.write_text(text)

    def connect(*args: object, **options: object) -> tuple[Fleet, dict[str, Problem]]:
        os.dup2(0, number)
        return fleet(Canned("n1"), Canned("n2"), Canned("n3")), {}

    monkeypatch.setattr(Fleet, "connect", connect)
    with session(inventory, "rotate-certs") as opened:
        assert opened.keys is not None
        with pytest.raises(UsageError, match=f"file descriptor {number}: Bad file descriptor"):
            opened.keys.passphrase.get("of the CA")
    os.close(number)


class Lockable(Canned):
    """A host that gives its lock, if it does not answer otherwise."""

    def hold(self, command: Command, stdin: bytes = b"") -> Lockable:
        self.run(command)
        return self

    def alive(self) -> bool:
        return True

    def close(self, patience: float = 2.0) -> None:
        self.asked.clear()


def test_a_partial_change_leaves_out_whom_it_cannot_lock(
    inventory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named among the unreachable, no task asks it, and without `partial` it ends the task."""
    sick = Lockable("n1", {"take the lock": LoginFailed("n1: sudo does not let ops")})
    connected = fleet(sick, Lockable("n2"), Lockable("n3"))
    monkeypatch.setattr(Fleet, "connect", lambda *args, **options: (connected, {}))
    with pytest.raises(LoginFailed), session(inventory, "stop", "change"):
        pytest.fail("a stop needs every node")
    with session(inventory, "start", "change", partial=True) as opened:
        assert list(opened.fleet.hosts) == ["n2", "n3"]
        assert {name: str(why) for name, why in opened.unreachable.items()} == {
            "n1": "n1: sudo does not let ops"
        }
    assert [entry["exit"] for entry in entries(inventory) if entry["event"] == "end"] == [3, 0]


def test_a_broken_inventory_is_not_journaled(tmp_path: Path) -> None:
    """Nothing was begun."""
    path = tmp_path / "inventory.yaml"
    path.write_text("cluster: 7\n")
    with pytest.raises(UsageError), session(path, "deploy", "change"):
        pytest.fail("it is broken")
    assert not beside(path).exists()


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (Unreachable("gone", "", {"n1": "a"}), 3, "gone\n  n1: a"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("x"), 1, "ZeroDivisionError: x"),
        (SystemExit(4), 1, "SystemExit: 4"),
    ],
)
def test_every_end_is_written(tmp_path: Path, error: BaseException, code: int, message: str) -> None:
    """Whatever it was; and it is raised all the same."""
    path = tmp_path / "i.yaml"
    with pytest.raises(type(error)), _journaled(Journal(beside(path))):
        raise error
    (end,) = entries(path)
    assert (end["exit"], end["message"]) == (code, message)


def test_a_good_end(tmp_path: Path) -> None:
    """Exit 0, without a message; no journal is no problem."""
    path = tmp_path / "i.yaml"
    with _journaled(Journal(beside(path))), _journaled(None):
        pass
    assert [(end["exit"], "message" in end) for end in entries(path)] == [(0, False)]


def test_an_end_that_raises_nothing_and_is_no_good_one(tmp_path: Path) -> None:
    """A check that found failures shows them, and ends with 1."""
    path = tmp_path / "i.yaml"
    journal = Journal(beside(path))
    with _journaled(journal):
        journal.exit = 1
    assert [end["exit"] for end in entries(path)] == [1]


# -- addresses of interfaces -----------------------------------------------------------------

IP = """#!/bin/sh
[ "$5" = wg0 ] || { echo "Device does not exist" >&2; exit 1; }
cat "${0%/*}/addresses"
"""
LASTS = "\\       valid_lft forever preferred_lft forever"
FIRST = f"3: wg0    inet 10.8.0.11/24 brd 10.8.0.255 scope global wg0{LASTS}"
SECOND = f"3: wg0    inet 10.8.0.10/24 scope global secondary wg0{LASTS}"
OTHER = f"3: wg0    inet 10.9.0.1/24 scope global wg0{LASTS}"
FLOATING = f"3: wg0    inet 10.8.0.100/32 scope global wg0{LASTS}"
TUNNEL = f"3: wg0    inet 10.8.0.7 peer 10.8.0.1/32 scope global wg0{LASTS}"
SIX = f"3: wg0    inet6 fd00::2/64 scope global {LASTS}"
PRIVATE = f"3: wg0    inet6 fd00::1/64 scope global temporary dynamic {LASTS}"
OLD = f"3: wg0    inet6 fd00::3/64 scope global deprecated mngtmpaddr {LASTS}"
SINGLE = f"3: wg0    inet6 fd00::4/128 scope global {LASTS}"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ((FIRST,), ["10.8.0.11"]),
        ((SIX,), ["fd00::2"]),
        ((SIX, FIRST), ["10.8.0.11"]),
        ((FIRST, SECOND), ["10.8.0.11"]),
        ((FLOATING, FIRST), ["10.8.0.11"]),
        ((FLOATING,), ["10.8.0.100"]),
        ((TUNNEL,), ["10.8.0.7"]),
        ((PRIVATE, OLD, SINGLE, SIX), ["fd00::2"]),
        ((FIRST, OTHER), ["10.8.0.11", "10.9.0.1"]),
        ((OTHER, FIRST), ["10.9.0.1", "10.8.0.11"]),
        ((), []),
    ],
)
def test_the_address_of_an_interface(tmp_path: Path, lines: tuple[str, ...], found: list[str]) -> None:
    """IPv4 before IPv6, in the kernel's order; none that floats or passes while another stays."""
    assert candidates(listed(tmp_path, lines, "wg0")) == found
    assert candidates(listed(tmp_path, lines, "wg1")) == []


def listed(folder: Path, lines: tuple[str, ...], interface: str) -> str:
    """Run the script with an `ip` that prints these lines."""
    stub = folder / "ip"
    stub.write_text(IP)
    stub.chmod(0o755)
    (folder / "addresses").write_text("".join(f"{line}\n" for line in lines))
    shell = shutil.which("sh") or "sh"
    done = subprocess.run(
        [shell, "-c", _ADDRESSES, "sh", interface],
        env={"PATH": f"{folder}:/usr/bin:/bin"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def fleet(*hosts: Canned) -> Any:
    return Fleet({host.name: host for host in hosts})  # type: ignore[misc]


def by_interface(*names: str) -> ClusterSpec:
    """A cluster of two, of which these nodes name an interface."""
    spec = cluster(2)
    nodes = [replace(n, address=None, interface="wg0") if n.name in names else n for n in spec.nodes]
    return replace(spec, nodes=tuple(nodes))


def prints(name: str, *lines: str) -> Canned:
    return Canned(name, {"read the address of wg0": said("".join(f"{line}\n" for line in lines))})


def test_only_nodes_with_an_interface_are_asked() -> None:
    """The others have an address."""
    hosts = prints("n1", FIRST), Canned("n2")
    assert _interfaces(by_interface("n1"), fleet(*hosts)) == ({"n1": "10.8.0.11"}, {})
    assert not hosts[1].asked
    assert _interfaces(by_interface("n1"), fleet(hosts[1])) == ({}, {})


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "n1: the interface wg0 does not exist or has no lasting global address"),
        ((FIRST, OTHER), "n1: the interface wg0 has several addresses: 10.8.0.11, 10.9.0.1"),
    ],
)
def test_an_undecided_interface_is_an_error(lines: tuple[str, ...], message: str) -> None:
    """Nothing is guessed: a member keeps its address for ever."""
    with pytest.raises(UsageError, match=message):
        _interfaces(by_interface("n1"), fleet(prints("n1", *lines)))


def test_what_to_do_about_missing_interfaces_is_said_once() -> None:
    """A name that is wrong everywhere is one mistake."""
    with pytest.raises(UsageError) as caught:
        _interfaces(by_interface("n1", "n2"), fleet(prints("n1"), prints("n2")))
    assert set(caught.value.hosts) == {"n1", "n2"}
    assert caught.value.hint.count("`ip addr`") == 1


def test_a_partial_session_goes_on_without_an_interface() -> None:
    """Health must tell of the others when one interface is down; that is no wrong argument."""
    spec = by_interface("n1", "n2")
    addresses, silent = _interfaces(spec, fleet(prints("n1", FIRST), prints("n2")), partial=True)
    assert addresses == {"n1": "10.8.0.11"}
    assert isinstance(silent["n2"], Failed)
    assert "wg0 does not exist" in silent["n2"].message
    assert silent["n2"].exit_code == 1


def test_a_node_without_its_interface_is_left_out(inventory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named among the unreachable, and no task asks it."""
    text = INVENTORY.replace("n2: {address: 10.0.0.2,", "n2: {interface: wg0,")
    inventory.write_text(text.replace("n3: {address: 10.0.0.3,", "n3: {interface: wg0,"))
    connected = fleet(Canned("n1"), prints("n2"), prints("n3", FIRST))
    monkeypatch.setattr(Fleet, "connect", lambda *args, **options: (connected, {}))
    with session(inventory, "health", partial=True) as opened:
        assert list(opened.fleet.hosts) == ["n1", "n3"]
        assert list(opened.unreachable) == ["n2"]
        assert [node.address for node in opened.cluster.nodes] == ["10.0.0.1", None, "10.8.0.11"]
    with pytest.raises(UsageError), session(inventory, "deploy"):
        pytest.fail("a deploy needs every node")
