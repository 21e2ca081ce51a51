"""A fake with physics: hosts that hold files, members that need a quorum, data that can be lost.

Steps are applied to the world instead of being run over SSH. What etcd and systemd would do
is modelled where planners depend on it: readiness needs a majority, a process keeps the
digest it started with, the unit's assertion refuses a member without its data, and a member
that starts as `new` a second time has forgotten its votes, which fails the test.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from etcdctl_remote.desired.hostspec import UNIT_PATH
from etcdctl_remote.desired.identity import cluster_id, member_id
from etcdctl_remote.desired.spec import FileSpec
from etcdctl_remote.errors import Problem
from etcdctl_remote.observed.state import (
    ClusterState,
    Endpoint,
    HostState,
    Member,
    PathState,
    Served,
    Wire,
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
    SetAside,
    StartEtcd,
    StopEtcd,
    WriteFiles,
)
from tests.unit.operations.machine import DATA, IDENTITY, MARKER, Machine, can_meet


class Crash(BaseException):
    """The tool was killed here."""


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
    clock: datetime | None = None
    """What time it is for certificates; None: all are valid."""
    links: set[frozenset[str]] = field(default_factory=set)
    """Between which members a connection stands: it outlives what it was made with, but no process."""
    strangers: list[str] = field(default_factory=list)
    """Who ever showed a certificate that a running member would not take in a new handshake."""

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
        return bool(self._electable())

    def _electable(self) -> list[str]:
        """Name the members that have links to a majority."""
        self._link()
        return [m.name for m in self.members() if len(self._met(m.name)) >= quorum(len(self.machines))]

    def _met(self, name: str) -> list[Machine]:
        """List a member and those to whom it has a link."""
        return [m for m in self.members() if m.name == name or frozenset((name, m.name)) in self.links]

    def _link(self) -> None:
        """Make the links that can be made; those that stand need no new handshake."""
        for one, other in itertools.combinations(self.members(), 2):
            pair = frozenset((one.name, other.name))
            if pair not in self.links and can_meet(one, other, self.clock):
                self.links.add(pair)

    def cut_links(self) -> None:
        """Break every connection: what is made anew shows whether it still can be."""
        self.links.clear()
        self.settle()

    def settle(self) -> None:
        """Let elections and replication happen."""
        able = self._electable()
        if self.leader not in able:
            self.leader = able[0] if able else None
        serving = self._met(self.leader) if self.leader else []
        for machine in serving:
            self.led = machine.ready = True
            machine.log = list(self.acknowledged)
            machine.paths[MARKER] = PathState("link", 0o777, "root", "root", target="identity")
        if self.led:
            self.lowest_alive = min(
                len(serving), len(serving) if self.lowest_alive is None else self.lowest_alive
            )

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
        if machine.stuck:
            machine.looping = True
            return
        if machine.log is None:
            assert machine.flag("initial-cluster-state") == "new", f"{name}: an empty member cannot join"
            assert name not in self.history, f"{name}: forgot its votes and what it acknowledged"
            self.history.add(name)
            machine.log = []
        machine.running = True
        machine.starts += 1
        machine.load()
        found = re.search(r"ETCDCTL_REMOTE_DIGEST=(\w+)", machine.unit)
        machine.digest = found[1] if found else None
        machine.flags = tuple(re.findall(r"^  (--.*?)(?: \\)?$", machine.unit, re.MULTILINE))
        self.settle()

    def stop(self, name: str) -> None:
        self.machines[name].running = self.machines[name].ready = self.machines[name].looping = False
        self.links = {pair for pair in self.links if name not in pair}
        self.settle()

    def stop_all(self) -> None:
        """Stop every member."""
        for name in self.machines:
            self.stop(name)

    # -- what steps do -------------------------------------------------------------------------

    def apply(self, step: Step) -> None:
        self._do(step)
        self.strangers += [
            f"{one.name} to {other.name} after: {step.host}: {step}"
            for one, other in itertools.combinations(self.members(), 2)
            if not can_meet(one, other, self.clock)
        ]

    def _do(self, step: Step) -> None:
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
            case SetAside(data=path):
                assert path == DATA
                assert not machine.running, "set aside under an etcd"
                assert not machine.looping, "set aside under a unit that starts again and again"
                machine.stuck = False
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
            content = file.data if file.path.endswith(".crl") else None
            state = PathState("file", file.mode, file.owner, file.group, file.sha256, text, content=content)
            machine.paths[file.path] = state

    # -- what an observation sees --------------------------------------------------------------

    def observe(
        self, asked: Mapping[str, Collection[str]] | None = None, dials: Collection[str] = ()
    ) -> ClusterState:
        """See everything, or of the paths only those asked for, as the real observation does."""
        self.settle()
        hosts = {name: self._host(machine, name in dials) for name, machine in self.machines.items()}
        if asked is not None:
            for name, host in hosts.items():
                paths = {path: state for path, state in host.paths.items() if path in asked.get(name, ())}
                hosts[name] = replace(host, paths=paths)
        return ClusterState(hosts, {}, time.monotonic())

    def dial(self, address: str, port: int, certificate: str) -> Served:
        """Make a new connection to a port, showing this certificate."""
        machine = next(m for m in self.machines.values() if m.peer.startswith(f"https://{address}:"))
        which, stem = ("peer", "peer") if machine.peer.endswith(f":{port}") else ("client", "server")
        shown = machine.file(f"{stem}.crt").encode()
        if not machine.running:
            return Served(error="connection refused")
        accepted = bool(shown) and machine.takes(which, certificate, self.clock)
        return Served(shown, accepted, "" if accepted else "tls alert bad certificate")

    def _wire(self, machine: Machine, ids: Mapping[str, int]) -> Wire:
        address = machine.peer.removeprefix("https://").rpartition(":")[0]
        client = self.dial(address, 2379, machine.file("etcdctl.crt"))
        links = frozenset(ids[m.name] for m in self._met(machine.name)) - {ids[machine.name]}
        return Wire(
            client, self.dial(address, 2380, machine.file("peer.crt")), links if client.accepted else None
        )

    def _host(self, machine: Machine, dialled: bool) -> HostState:
        token = machine.flag("initial-cluster-token")
        ids = {m.name: member_id([m.peer], token) for m in self.machines.values()}
        answers = machine.running and machine.ready and machine.answers(self.clock)
        led = self.leader is not None and machine in self._met(self.leader)
        return HostState(
            node=machine.name,
            told=machine.told() if machine.unit else None,
            arch="amd64",
            user_exists=machine.user,
            releases=frozenset(machine.releases),
            paths=machine.seen(),
            unit=machine.unit_state(),
            data=machine.data(),
            marker=machine.marker,
            endpoint=self._endpoint(machine, ids, led) if answers else None,
            members=self._members(ids) if answers and led else None,
            wire=self._wire(machine, ids) if dialled else None,
        )

    def _endpoint(self, machine: Machine, ids: Mapping[str, int], led: bool) -> Endpoint:
        cluster = cluster_id(list(ids.values()))
        index = len(self.machines) + (10 + len(self.acknowledged) if self.led else 0)
        leader = ids[self.leader] if self.leader and led else 0
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


def run(
    plan: Plan,
    world: World,
    order: Callable[[Collection[str]], Sequence[str]] = sorted,
    observe: Callable[[Collection[str]], ClusterState] | None = None,
) -> None:
    """Execute a plan with the real executor, in the world."""
    from etcdctl_remote.plan.execute import Executor

    def explain(now: ClusterState, reason: str) -> Problem:
        return Problem(reason)

    fleet: Any = WorldFleet(order)
    look = observe or (lambda dials: world.observe({}, dials))
    executor = Executor(fleet, look, lambda event: None, explain, interval=0.0)
    executor.execute(in_world(plan, world))


__all__ = ["DATA", "IDENTITY", "MARKER", "Crash", "Machine", "Stage", "World", "run"]
