"""The unit is linted on its host before a deploy: on which nodes, and what its words mean."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from etcdctl_remote.desired import service, settings
from etcdctl_remote.desired.model import ClusterSpec, PathsSpec
from etcdctl_remote.errors import CommandFailed
from etcdctl_remote.observed.findings import Finding, Result
from etcdctl_remote.preflight.facts import Facts
from etcdctl_remote.preflight.unit import customised, lint
from etcdctl_remote.remote import host, units
from etcdctl_remote.remote.fleet import Fleet

from .wish import certificates, cluster, fresh

PROGRAM = "/usr/local/bin/etcd"
IGNORED = "{unit}:3: Unknown key 'Foo' in section [Service], ignoring."
MISSING = "etcd.service: Command {program} is not executable: No such file or directory"


def plain() -> ClusterSpec:
    """A cluster of which the operator said nothing but the nodes."""
    wish = cluster(2)
    ours = settings.resolve(wish.version)
    return replace(wish, nodes=tuple(replace(node, settings=ours) for node in wish.nodes))


def test_only_the_operators_words_are_linted_by_a_deploy() -> None:
    """A unit of our own words alone costs nothing; one setting of one node is that node's unit."""
    wish = plain()
    assert customised(wish, {"n1", "n2"}) == ()
    assert customised(replace(wish, service=service.resolve({"Nice": 0})), {"n1", "n2"}) == ("n1", "n2")
    assert customised(replace(wish, paths=PathsSpec(data="/data")), {"n2"}) == ("n2",)
    assert customised(replace(wish, user="kv"), {"n1"}) == ("n1",)
    one = replace(wish.nodes[0], settings={**wish.nodes[0].settings, "snapshot-count": "7"})
    assert customised(replace(wish, nodes=(one, wish.nodes[1])), {"n1", "n2"}) == ("n1",)


@dataclass
class Linting:
    """A host whose systemd says something."""

    said: str = ""
    status: int = 0
    name: str = "n1"
    given: list[bytes] = field(default_factory=list)
    told: str = ""

    def run(self, command: host.Command, stdin: bytes = b"") -> host.Result:
        self.given.append(stdin)
        assert command.writes
        if self.status:
            raise CommandFailed(self.name, command.about, self.status, self.said)
        return host.Result(0, self.told.encode(), b"")


def linted(there: Linting, facts: Facts | None = None) -> list[Finding]:
    return lint(plain(), certificates(), Fleet({"n1": there}), {"n1": facts or fresh()})  # type: ignore[dict-item]


def test_the_whole_unit_is_given_and_passes() -> None:
    """The node's own, with its flags."""
    there = Linting()
    (found,) = linted(there)
    assert (found.node, found.check, found.result) == ("n1", "unit", Result.PASS)
    assert b"--name=n1" in there.given[0]
    assert b"[Install]" in there.given[0]


def test_what_systemd_ignores_in_a_drop_in_is_a_warning() -> None:
    """The file is the operator's: it is told, and left alone."""
    line = "/etc/systemd/system/etcd.service.d/z.conf:2: Unknown key 'Foo', ignoring."
    (found,) = linted(Linting(told=f"{line}\n"))
    assert (found.result, found.message) == (Result.WARN, f"systemd ignores lines of a drop-in: {line}")


def test_what_systemd_complains_of_fails_with_the_way_out() -> None:
    """Its words and the inventory's key; a lint that could not be made is a warning."""
    (found,) = linted(Linting("systemd would ignore Foo=1: Unknown key", units.MISFIT))
    assert found.result is Result.FAIL
    assert found.message == (
        "systemd would ignore Foo=1: Unknown key → mend it under `service` in the inventory "
        "(or in the drop-in, where systemd names one)"
    )
    (found,) = linted(Linting("mktemp: Read-only file system", 1))
    assert found.result is Result.WARN
    assert "cannot be linted" in found.message
    assert "Read-only" in found.message


def test_without_systemd_there_is_nothing_to_ask() -> None:
    """Other checks say so already."""
    assert linted(Linting(), replace(fresh(), init="init")) == []
    assert linted(Linting(), replace(fresh(), missing=("systemd-analyze",))) == []


@pytest.mark.parametrize(
    ("said", "status", "refused"),
    [
        ("", 0, ""),
        (MISSING, 1, ""),
        (f"/lib/systemd/system/x.service:3: Unknown key 'Foo', ignoring.\n{MISSING}", 1, ""),
        (f"/etc/systemd/system/etcd.service.d/z.conf:2: Unknown key 'Foo', ignoring.\n{MISSING}", 1, ""),
        (f"{IGNORED}\n{MISSING}", 1, "systemd would ignore Foo=1: etcd.service:3: Unknown key 'Foo'"),
        (f"{MISSING}\netcd.service: Command /not/there is not executable: No", 1, "/not/there is not"),
        ("etcd.service: Failed to create etcd.service/start: Unit nope not found.", 1, "nope not found"),
    ],
)
def test_a_program_that_is_not_there_yet_is_no_complaint(
    tmp_path: Path, said: str, status: int, refused: str
) -> None:
    """Whatever else systemd says is judged as at the write; the temporary file is gone afterwards."""
    run, tool = tmp_path / "run", tmp_path / "systemd-analyze"
    run.mkdir()
    text = said.format(unit="$unit", program=PROGRAM)
    tool.write_text(f'#!/bin/sh\nfor unit do :; done\necho "{text}" >&2\nexit {status}\n', encoding="ascii")
    tool.chmod(0o755)
    command = units.lint(PROGRAM, service.LINES)
    script = command.script.replace("/run/", f"{run}/")
    done = subprocess.run(
        ["sh", "-c", script, "sh", *command.args],
        input="[Service]\nNice=-10\nFoo=1\n",
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (units.MISFIT if refused else 0)
    assert refused in done.stderr
    assert bool(done.stderr) == bool(refused)
    assert ("z.conf:2: Unknown key" in done.stdout) == ("z.conf" in said), "an operator's own line is told"
    assert list(run.iterdir()) == []
