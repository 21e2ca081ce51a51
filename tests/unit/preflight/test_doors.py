"""Which ports are opened before etcd does, and which are left to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from etcdctl_remote.observed.tls import Contexts
from etcdctl_remote.preflight.doors import open_doors
from etcdctl_remote.preflight.facts import Facts
from etcdctl_remote.remote.host import Command

from .wish import deployed, fresh

PORTS = {"client": 2379, "peer": 2380}


@dataclass
class Door:
    first_line: str = "doors||"

    def close(self, patience: float = 2.0) -> None:
        """Nothing is held."""


@dataclass
class Listening:
    """A host that opens what it is told to, and whose sshd forbids forwarding."""

    name: str = "n1"
    asked: list[Command] = field(default_factory=list)

    def hold(self, command: Command) -> Door:
        self.asked.append(command)
        return Door()

    def listen_back(self) -> None:
        raise PermissionError


def opened(host: Any, facts: Facts) -> tuple[dict[str, str], dict[str, str]]:
    doors = open_doors(host, "10.226.82.11", PORTS, facts, Contexts({}, {}))
    return doors.open, doors.why


def test_a_fresh_hosts_ports_are_opened_by_a_command_that_writes() -> None:
    """It takes ports, so a connection that only reads must refuse it."""
    host = Listening()
    assert opened(host, fresh()) == ({"client": "plain", "peer": "plain"}, {})
    (command,) = host.asked
    assert command.writes


@pytest.mark.parametrize(
    "unit", [{"UnitFileState": "enabled"}, {"ActiveState": "activating"}, {"ActiveState": "deactivating"}]
)
def test_ports_are_left_to_an_etcd_that_may_start(unit: dict[str, str]) -> None:
    """Held for the probe they would be taken just when systemd starts the member again."""
    host = Listening()
    open, why = opened(host, replace(fresh(), unit={**fresh().unit, **unit}))
    assert open == {}
    assert set(why) == {"client", "peer"}
    assert "etcd is installed there" in why["peer"]
    assert host.asked == []


def test_a_running_etcd_is_probed_as_it_is() -> None:
    """Its own listeners answer; nothing is opened."""
    host = Listening()
    assert opened(host, deployed()) == ({"client": "etcd", "peer": "etcd"}, {})
    assert host.asked == []


def test_another_port_of_a_running_etcd_is_not_said_to_wait_for_it() -> None:
    """The inventory has another port than the process: it runs, and does not listen there."""
    host: Any = Listening()
    ports = {"client": 2379, "peer": 2390}
    doors = open_doors(host, "10.226.82.11", ports, deployed(), Contexts({}, {}))
    assert doors.open == {"client": "etcd"}
    assert doors.why["peer"].startswith("etcd runs there and does not listen on it")
