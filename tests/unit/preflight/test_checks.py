"""Which checks can forbid a deploy, and which of them look at the network."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from etcdctl_remote.errors import Refused
from etcdctl_remote.observed.findings import Finding
from etcdctl_remote.preflight import checks
from etcdctl_remote.remote.fleet import Fleet
from etcdctl_remote.remote.host import Command, Result

from .wish import NOW, OUTPUT, certificates, cluster


@dataclass
class Printing:
    """A host that prints what a running member of ours printed; all else is an error."""

    text: str
    name: str = "n1"
    asked: list[str] = field(default_factory=list)

    def run(self, command: Command) -> Result:
        self.asked.append(command.about)
        return Result(0, self.text.encode(), b"")


def member() -> str:
    """The output with the certificates' time."""
    text = OUTPUT.read_text(encoding="utf-8")
    return re.sub(r"(?<=@@clock\n)[0-9.]+", str(NOW.timestamp()), text)


def refuse_failing(host: Any) -> tuple[Finding, ...]:
    return checks.refuse_failing(cluster(1), certificates(), Fleet({"n1": host}), checks.Scope(network=False))


def test_without_the_network_a_running_member_is_only_looked_at() -> None:
    """One question; nothing is dialled, nothing listens: the members prove their network themselves."""
    host = Printing(member())
    found = refuse_failing(host)
    assert host.asked == ["look at the host"]
    assert "network" not in {finding.check for finding in found}


def test_every_failure_is_in_the_refusal() -> None:
    """All at once, under the node's name."""
    text = member().replace("@@missing\n", "@@missing\ngzip\n").replace("\nsystemd\n", "\ninit\n")
    host = Printing(text)
    with pytest.raises(Refused) as caught:
        refuse_failing(host)
    assert "commands: missing: gzip" in caught.value.hosts["n1"]
    assert "systemd: process 1 is init" in caught.value.hosts["n1"]
