"""A session whose hosts are this machine, or answer what they are told; no network."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, PathsSpec, Version
from etcdctl_remote.errors import CommandFailed, Problem
from etcdctl_remote.operations.session import Session, Ways
from etcdctl_remote.remote.fleet import Fleet
from etcdctl_remote.remote.host import Command, Host, Result

Answer = Result | Exception
Take = Callable[[bytes], None]


def handed_on(result: Result, out: Take, err: Take) -> int:
    """What a host streams, in one piece."""
    out(result.stdout)
    err(result.stderr)
    return result.exit


def said(stdout: str = "", stderr: str = "", exit: int = 0) -> Result:
    """How a command ended."""
    return Result(exit, stdout.encode(), stderr.encode())


@dataclass
class Canned:
    """A host that answers by what is asked: the first word of `about` that it knows."""

    name: str
    answers: Mapping[str, Answer] = field(default_factory=dict)
    journal: tuple[str, ...] = ()
    asked: list[Command] = field(default_factory=list)

    def run(
        self, command: Command, stdin: object = b"", *, check: bool = True, sent: object = None
    ) -> Result:
        self.asked.append(command)
        answer = next((self.answers[key] for key in self.answers if command.about.startswith(key)), said())
        if isinstance(answer, Exception):
            raise answer
        if check and answer.exit:
            raise CommandFailed(self.name, command.about, answer.exit, answer.stderr.decode())
        return answer

    def lines(self, command: Command) -> Iterator[str]:
        self.asked.append(command)
        yield from self.journal

    def stream(self, command: Command, stdin: object, out: Take, err: Take) -> int:
        return handed_on(self.run(command, check=False), out, err)


@dataclass
class Local:
    """This machine as a host, without root: scripts really run in `sh`."""

    name: str
    path: str = "/usr/bin:/bin:/usr/sbin:/sbin"
    asked: list[Command] = field(default_factory=list)
    rename: Callable[[str], str] = lambda arg: arg
    """Turns the paths of a host into paths below a test's folder."""

    def run(
        self,
        command: Command,
        stdin: object = b"",
        *,
        check: bool = True,
        sent: Callable[[int], None] | None = None,
    ) -> Result:
        self.asked.append(command)
        data = stdin if isinstance(stdin, bytes) else stdin.read()  # type: ignore[attr-defined]
        if sent:
            sent(len(data))
        done = subprocess.run(
            ["sh", "-c", command.script, "sh", *map(self.rename, command.args)],
            input=data, capture_output=True, check=False, env={"PATH": self.path, "LC_ALL": "C"},
        )  # fmt: skip
        if check and done.returncode:
            raise CommandFailed(self.name, command.about, done.returncode, done.stderr.decode())
        return Result(done.returncode, done.stdout, done.stderr)

    def stream(self, command: Command, stdin: object, out: Take, err: Take) -> int:
        return handed_on(self.run(command, check=False), out, err)


def cluster(size: int = 3, paths: PathsSpec | None = None) -> ClusterSpec:
    """An inventory of n1 … nN."""
    nodes = tuple(NodeSpec(f"n{i}", f"h{i}", address=f"10.0.0.{i}") for i in range(1, size + 1))
    return ClusterSpec("demo", Version(3, 6, 14), nodes, Path("inventory.yaml"), paths=paths or PathsSpec())


def session(
    *hosts: Canned | Local | Host,
    unreachable: Mapping[str, Problem] | None = None,
    spec: ClusterSpec | None = None,
) -> Session:
    """A session with these hosts connected."""
    fleet = Fleet({host.name: host for host in hosts})  # type: ignore[misc]
    return Session(spec or cluster(), fleet, None, Ways(), unreachable or {})
