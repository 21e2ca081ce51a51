"""A deployed cluster in the world, its real store, and sessions that work on both."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from etcdctl_remote.acquire import Archive
from etcdctl_remote.desired import inventory
from etcdctl_remote.desired.model import ClusterSpec
from etcdctl_remote.errors import Problem, Unreachable
from etcdctl_remote.observed.state import ClusterState, Served
from etcdctl_remote.operations import converge
from etcdctl_remote.operations.rotate_ca import Task, rotate_ca
from etcdctl_remote.operations.rotate_certs import rotate_certs
from etcdctl_remote.operations.session import Session, Ways
from etcdctl_remote.operations.wish import Wish
from etcdctl_remote.pki.authority import Credential
from etcdctl_remote.pki.generation import Due, Generation
from etcdctl_remote.pki.store import Store
from etcdctl_remote.plan.step import Plan
from etcdctl_remote.remote.fleet import Fleet
from tests.unit.operations.machine import PKI
from tests.unit.operations.test_deploy import bare
from tests.unit.operations.test_store import consent
from tests.unit.operations.world import Name, World, run

INVENTORY = """
cluster: demo
version: "3.6.14"
nodes: {{{nodes}}}
pki: {{{pki}}}
settings: {{{settings}}}
"""

ALL = Due(None)
FORCED = Due(None, force=True)


def spec(folder: Path, size: int = 3, pki: str = "", settings: str = "") -> ClusterSpec:
    nodes = ", ".join(f"n{i}: 10.0.0.{i}" for i in range(1, size + 1))
    text = INVENTORY.format(nodes=nodes, pki=pki, settings=settings)
    return inventory.parse(text, folder / "inventory.yaml")


@dataclass(frozen=True, kw_only=True)
class Worldly(Session):
    """A session whose hosts live in the world."""

    world: World

    def observe(
        self, paths: Mapping[str, Sequence[str]] | None = None, dials: Collection[str] = ()
    ) -> ClusterState:
        now = self.world.observe(paths or {}, dials)
        hosts = {name: host for name, host in now.hosts.items() if name not in self.unreachable}
        return replace(now, hosts=hosts, unreachable={name: str(e) for name, e in self.unreachable.items()})

    def execute(self, plan: Plan) -> None:
        run(plan, self.world, observe=lambda dials: self.observe({}, dials))


@dataclass
class Town:
    """The laptop and its hosts."""

    cluster: ClusterSpec
    world: World
    shown: list[Plan] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    lost: dict[str, Problem] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store.beside(self.cluster)

    @property
    def held(self) -> Generation:
        found = self.store.load()
        assert found
        return found

    def session(self) -> Worldly:
        hosts: dict[str, Any] = {name: Name(name) for name in self.world.machines if name not in self.lost}
        ways = Ways(tell=self.told.append)
        return Worldly(self.cluster, Fleet(hosts), None, ways, self.lost, world=self.world)

    def rotate(self, due: Due = ALL, *, back: bool = False, dry_run: bool = False, confirm: str = "") -> Plan:
        agreed = consent(self.shown, dry_run=dry_run)
        return rotate_certs(self.session(), agreed, due, back=back, confirm=confirm)

    def replace_ca(self, *, dry_run: bool = False, **task: Any) -> Plan:
        return rotate_ca(self.session(), consent(self.shown, dry_run=dry_run), Task(**task))

    def deploy(self) -> Plan:
        """What a deploy does once its preflight is content."""
        session = self.session()
        generation = session.prepare()
        todo = converge.plan(Wish(self.cluster, generation, {}), self.world.observe())
        if todo:
            session.save(generation)
            session.execute(todo)
        return todo

    def lose(self, name: str) -> None:
        self.lost[name] = Unreachable(f"{name}: no route to host")

    def shows(self) -> dict[str, str]:
        """What each running member shows on both ports."""
        return {
            name: machine.file("server.crt") + machine.file("peer.crt")
            for name, machine in self.world.machines.items()
            if machine.running
        }

    def starts(self) -> dict[str, int]:
        return {name: machine.starts for name, machine in self.world.machines.items()}

    def assert_whole(self) -> None:
        """All serve over connections that are made anew, with all that was acknowledged; nothing is left to do."""
        self.world.cut_links()
        now = self.world.observe()
        assert all(host.serving for host in now.hosts.values())
        assert all(machine.log == self.world.acknowledged for machine in self.world.machines.values())
        assert not converge.plan(Wish(self.cluster, self.session().prepare(), {}), now)
        for name, machine in self.world.machines.items():
            for file, content in self.held.node_files(name).items():
                if isinstance(content, bytes):
                    assert machine.file(file) == content.decode(), f"{name}: {file}"

    def assert_unharmed(self) -> None:
        """No new connection would ever have failed, and there was a quorum all the time."""
        assert self.world.strangers == []
        assert self.world.lowest_alive is not None
        assert self.world.lowest_alive >= len(self.world.machines) // 2 + 1


def town(
    folder: Path, size: int = 3, *, pki: str = "", settings: str = "", born: datetime | None = None
) -> Town:
    """A cluster that was deployed when it was `born`, and has a write."""
    now = datetime.now(UTC)
    cluster = spec(folder, size, pki, settings)
    store = Store.beside(cluster)
    store.save(store.prepare(cluster, born or now))
    generation = store.prepare(cluster, born or now)
    want = Wish(cluster, generation, {"amd64": Archive(Path("etcd.tar.gz"), "0" * 64, 1)})
    world = bare(want)
    world.clock = born or now
    run(converge.plan(want, world.observe()), world)
    world.write("first")
    world.clock = now
    world.done.clear()
    world.forget()
    return Town(cluster, world)


def ago(days: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def shown_in(world: World) -> Any:
    """Stand in for `wire.shown`: new connections in the world instead of over SSH."""

    def shown(host: Any, address: str, port: int, own: Credential, path: str) -> tuple[Served, str]:
        return world.dial(address, port, own.certificate_pem.decode()), ""

    return shown


def damage(world: World, node: str, file: str) -> None:
    """Somebody removed a file of the certificates in use."""
    machine = world.machines[node]
    del machine.paths[f"{PKI}/{machine.paths[f'{PKI}/current'].target}/{file}"]


def scribble(world: World, node: str, file: str, **change: Any) -> None:
    machine = world.machines[node]
    path = f"{PKI}/{machine.paths[f'{PKI}/current'].target}/{file}"
    machine.paths[path] = replace(machine.paths[path], **change)


def hosts(todo: Plan) -> list[str]:
    return [step.host for stage in todo.stages for step in stage.steps]
