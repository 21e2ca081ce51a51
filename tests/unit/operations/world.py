"""A fake with physics: hosts that hold files, members that need a quorum, data that can be lost.

Steps are applied to the world instead of being run over SSH. What etcd and systemd would do
is modelled where planners depend on it: readiness needs a majority, a process keeps the
digest it started with, the unit's assertion refuses a member without its data, and a member
that starts as `new` a second time has forgotten its votes, which fails the test.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from etcdctl_remote.desired.hostspec import UNIT_PATH
from etcdctl_remote.desired.identity import Marker as MarkerFile
from etcdctl_remote.desired.identity import cluster_id, member_id
from etcdctl_remote.desired.spec import FileSpec
from etcdctl_remote.errors import Problem
from etcdctl_remote.observed.state import (
    ClusterState,
    Data,
    Endpoint,
    HostState,
    Marker,
    Member,
    PathState,
    Told,
    UnitState,
    quorum,
)
from etcdctl_remote.plan.step import Plan, Progress, Stage, Step
from etcdctl_remote.plan.steps import (
    CreateUser,
    ForgetUnit,
    InstallRelease,
    InstallUnit,
    LoadUnit,
    MoveAside,
    MoveLeader,
    Remove,
    RestartEtcd,
    StartEtcd,
    StopEtcd,
    WriteFiles,
)

MARKER = "/etc/etcd/member"
IDENTITY = "/etc/etcd/identity"
DATA = "/var/lib/etcd"


class Crash(BaseException):
    """The tool was killed here."""


@dataclass
class Machine:
    """One host. `log` is what its member has in its data directory, None without data."""

    name: str
    peer: str
    paths: dict[str, PathState] = field(default_factory=dict)
    user: bool = False
    releases: set[str] = field(default_factory=set)
    log: list[str] | None = None
    cluster: int = 0
    running: bool = False
    digest: str | None = None
    flags: tuple[str, ...] = ()
    """The command line that etcd was started with."""
    foreign: bool = False
    ready: bool = False
    starts: int = 0
    aside: list[list[str]] = field(default_factory=list)
    """Data directories that were moved aside."""
    deleted: list[list[str]] = field(default_factory=list)
    """Data directories that are gone for good."""

    @property
    def unit(self) -> str:
        found = self.paths.get(UNIT_PATH)
        return (found.text or "") if found else ""

    def flag(self, name: str) -> str:
        found = re.search(rf"--{name}=(\S+?)(?:\s|\\|$)", self.unit)
        return found[1] if found else ""

    @property
    def marker(self) -> Marker | None:
        identity = self.paths.get(IDENTITY)
        if MARKER not in self.paths or identity is None or not identity.text:
            return None
        found = MarkerFile.decode(identity.text.encode())
        return Marker(found.cluster, int(found.cluster_id, 16), int(found.member_id, 16), found.name)

    def unit_state(self) -> UnitState:
        """As systemd tells it."""
        return UnitState(
            active="active" if self.running else "inactive",
            enabled="enabled" if self.unit else "",
            fragment=UNIT_PATH if self.unit else "",
            pid=100 + self.starts if self.running else 0,
            digest=self.digest if self.running else None,
            program="/opt/etcd/v3.6.14/etcd" if self.running else None,
            flags=self.flags if self.running else None,
        )

    def told(self) -> Told:
        """As the unit's command line tells it."""
        return Told(
            self.flag("data-dir"),
            self.flag("wal-dir").removesuffix("/wal"),
            self.flag("cert-file").removesuffix("/pki/current/server.crt"),
            "/usr/local/bin/etcdctl",
            self.flag("listen-client-urls").partition(",")[0],
            self.flag("initial-cluster-token"),
        )


@dataclass
class World:
    """All hosts, and what the cluster has acknowledged."""

    machines: dict[str, Machine]
    acknowledged: list[str] = field(default_factory=list)
    led: bool = False
    leader: str | None = None
    budget: int | None = None
    """How many more steps until the tool is killed; None: never."""
    torn: int = 0
    """How many paths a removal still gets through when the tool is killed in it."""
    done: list[tuple[str, str]] = field(default_factory=list)
    history: set[str] = field(default_factory=set)
    """Members that have ever had data: none of them may begin anew."""
    lowest_alive: int | None = None
    """The fewest serving members seen since the cluster first had a leader."""

    def forget(self, budget: int | None = None) -> None:
        """Start counting the living anew; `budget` is when to kill the tool."""
        self.lowest_alive, self.budget = None, budget

    def write_files(self, name: str, files: Sequence[FileSpec]) -> None:
        """Have files appear on a host without anything else happening."""
        self._write(self.machines[name], files)

    # -- what etcd does ------------------------------------------------------------------------

    def members(self) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.running and machine.log is not None]

    def has_quorum(self) -> bool:
        return len(self.members()) >= quorum(len(self.machines))

    def settle(self) -> None:
        """Let elections and replication happen."""
        alive = self.members()
        if not self.has_quorum():
            self.leader = None
        else:
            self.led = True
            for machine in alive:
                machine.log = list(self.acknowledged)
                machine.ready = True
                machine.paths[MARKER] = PathState("link", 0o777, "root", "root", target="identity")
            if self.leader not in [machine.name for machine in alive]:
                self.leader = alive[0].name
        if self.led:
            seen = len(alive)
            self.lowest_alive = seen if self.lowest_alive is None else min(self.lowest_alive, seen)

    def write(self, key: str) -> None:
        """A client writes; acknowledged only by a quorum."""
        assert self.has_quorum(), "a client could not write"
        self.acknowledged.append(key)
        self.settle()

    def start(self, name: str) -> None:
        machine = self.machines[name]
        assert machine.unit, f"{name}: started without a unit"
        assert machine.releases, f"{name}: started without a release"
        if machine.marker and machine.log is None:
            return  # the unit's assertion
        if machine.log is None:
            assert machine.flag("initial-cluster-state") == "new", f"{name}: an empty member cannot join"
            assert name not in self.history, f"{name}: forgot its votes and what it acknowledged"
            self.history.add(name)
            machine.log = []
        machine.running = True
        machine.starts += 1
        found = re.search(r"ETCDCTL_REMOTE_DIGEST=(\w+)", machine.unit)
        machine.digest = found[1] if found else None
        machine.flags = tuple(re.findall(r"^  (--.*?)(?: \\)?$", machine.unit, re.MULTILINE))
        self.settle()

    def stop(self, name: str) -> None:
        self.machines[name].running = self.machines[name].ready = False
        self.settle()

    def stop_all(self) -> None:
        """Stop every member."""
        for name in self.machines:
            self.stop(name)

    # -- what steps do -------------------------------------------------------------------------

    def apply(self, step: Step) -> None:
        if self.budget is not None:
            if self.budget == 0:
                if isinstance(step, Remove):
                    self._remove(self.machines[step.host], step.paths[: self.torn])
                raise Crash
            self.budget -= 1
        self.done.append((step.host, str(step)))
        machine = self.machines[step.host]
        match step:
            case CreateUser():
                machine.user = True
            case InstallRelease(version=version):
                machine.releases.add(version)
            case WriteFiles(files=files, dirs=dirs, links=links):
                self._write(machine, files)
                for each in dirs:
                    machine.paths[each.path] = PathState("directory", each.mode, each.owner, each.group)
                for link in links:
                    machine.paths[link.path] = PathState("link", 0o777, "root", "root", target=link.target)
            case InstallUnit(unit=unit):
                self._write(machine, (unit,))
            case LoadUnit():
                pass
            case StartEtcd():
                self.start(step.host)
            case RestartEtcd():
                self.stop(step.host)
                self.start(step.host)
            case StopEtcd():
                self.stop(step.host)
            case MoveLeader(to=to):
                self.leader = to if self.leader == step.host else self.leader
            case ForgetUnit():
                assert not machine.running, "the unit of a running member was removed"
                machine.paths.pop(UNIT_PATH, None)
            case Remove(paths=paths):
                self._remove(machine, paths)
            case MoveAside(path=path):
                assert path == DATA
                self._take_data(machine, machine.aside)
            case _:
                raise AssertionError(f"the world knows no {step!r}")

    def _remove(self, machine: Machine, paths: Sequence[str]) -> None:
        for path in paths:
            if path == DATA:
                self._take_data(machine, machine.deleted)
            machine.releases.discard(path.removeprefix("/opt/etcd/v"))
            for each in [name for name in machine.paths if name == path or name.startswith(f"{path}/")]:
                del machine.paths[each]

    @staticmethod
    def _take_data(machine: Machine, into: list[list[str]]) -> None:
        assert not machine.running, "data was taken from under a running member"
        assert not machine.foreign, "somebody else's files were touched"
        if machine.log is not None:
            into.append(machine.log)
        machine.log = None

    @staticmethod
    def _write(machine: Machine, files: Sequence[FileSpec]) -> None:
        for file in files:
            text = None if file.secret else file.data.decode("utf-8", "replace")
            machine.paths[file.path] = PathState("file", file.mode, file.owner, file.group, file.sha256, text)

    # -- what an observation sees --------------------------------------------------------------

    def observe(self, asked: Mapping[str, Collection[str]] | None = None) -> ClusterState:
        """See everything, or of the paths only those asked for, as the real observation does."""
        self.settle()
        hosts = {name: self._host(machine) for name, machine in self.machines.items()}
        if asked is not None:
            for name, host in hosts.items():
                paths = {path: state for path, state in host.paths.items() if path in asked.get(name, ())}
                hosts[name] = replace(host, paths=paths)
        return ClusterState(hosts, {}, time.monotonic())

    def _host(self, machine: Machine) -> HostState:
        token = machine.flag("initial-cluster-token")
        ids = {m.name: member_id([m.peer], token) for m in self.machines.values()}
        serving = machine.running and machine.ready
        return HostState(
            node=machine.name,
            told=machine.told() if machine.unit else None,
            arch="amd64",
            user_exists=machine.user,
            releases=frozenset(machine.releases),
            paths=dict(machine.paths),
            unit=machine.unit_state(),
            data=Data.OTHER if machine.foreign else Data.MEMBER if machine.log is not None else Data.ABSENT,
            marker=machine.marker,
            endpoint=self._endpoint(machine, ids) if serving else None,
            members=self._members(ids) if serving and self.has_quorum() else None,
        )

    def _endpoint(self, machine: Machine, ids: Mapping[str, int]) -> Endpoint:
        cluster = cluster_id(list(ids.values()))
        index = len(self.machines) + (10 + len(self.acknowledged) if self.led else 0)
        leader = ids[self.leader] if self.leader else 0
        return Endpoint(cluster, ids[machine.name], "3.6.14", leader, 2, index, index, 1, 1, False, 1)

    def _members(self, ids: Mapping[str, int]) -> tuple[Member, ...]:
        """List all; one that never started has told nobody its client URL."""
        return tuple(
            Member(
                ids[m.name],
                m.name,
                (m.peer,),
                (m.peer.replace("2380", "2379"),) if m.name in self.history else (),
            )
            for m in self.machines.values()
        )


@dataclass(frozen=True)
class InWorld:
    """A step that happens in the world instead of on a host."""

    step: Step
    world: World

    @property
    def host(self) -> str:
        return self.step.host

    @property
    def diff(self) -> str:
        return self.step.diff

    def __str__(self) -> str:
        return str(self.step)

    def run(self, host: Any, progress: Progress) -> None:
        self.world.apply(self.step)


@dataclass(frozen=True)
class Name:
    """A host of which only the name matters."""

    name: str


class WorldFleet:
    """Runs the work of each host one after the other, in a given order of hosts."""

    def __init__(self, order: Callable[[Collection[str]], Sequence[str]] = sorted) -> None:
        self.order = order
        self.stopping = threading.Event()

    def each(
        self, work: Callable[[Any], Any], hosts: Collection[str] = (), doing: str = ""
    ) -> dict[str, Any]:
        return {name: work(Name(name)) for name in self.order(hosts)}


def in_world(plan: Plan, world: World) -> Plan:
    """The same plan with every step happening in the world."""
    stages = tuple(
        replace(stage, steps=tuple(InWorld(step, world) for step in stage.steps), deadline=0.0)
        for stage in plan.stages
    )
    return replace(plan, stages=stages)


def run(plan: Plan, world: World, order: Callable[[Collection[str]], Sequence[str]] = sorted) -> None:
    """Execute a plan with the real executor, in the world."""
    from etcdctl_remote.plan.execute import Executor

    def explain(now: ClusterState, reason: str) -> Problem:
        return Problem(reason)

    fleet: Any = WorldFleet(order)
    executor = Executor(fleet, lambda dials: world.observe({}), lambda event: None, explain, interval=0.0)
    executor.execute(in_world(plan, world))


__all__ = ["Crash", "Machine", "Stage", "World", "run"]
