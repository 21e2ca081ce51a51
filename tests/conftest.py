"""What all tests share: releases that some source gives, labs that are made once a run."""

from __future__ import annotations

import functools
import itertools
import os
import re
import signal
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypedDict, Unpack

import pytest

from etcdctl_remote.errors import Failed
from etcdctl_remote.lab import access, faults, releases
from etcdctl_remote.lab import nodes as labs
from tests.cluster import secrets
from tests.cluster.pairs import SLICE, WHOLE

NEWEST = releases.FOR_TESTS[0]
COVERED = "etcd"
"""The name under which a test's report carries the etcd versions it used."""
TOLD = "told"
"""The name under which it carries a line for whoever reads the run."""

Release = Callable[[str], Path]
Pool = Callable[[labs.Shape, int], labs.Lab]


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs that tests start: whatever a background job starts would ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the whole product of releases, for tests that take a pair of them, and leave out all others."""
    parser.addoption("--whole", action="store_true", help="only tests of pairs: each etcd on each Debian")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test its pairs."""
    if "pair" in metafunc.fixturenames:
        metafunc.parametrize("pair", WHOLE if metafunc.config.getoption("whole") else SLICE, ids=str)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep nothing but tests of pairs in a run of the whole product."""
    if config.getoption("whole"):
        kept = {item for item in items if "pair" in getattr(item, "fixturenames", ())}
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = [item for item in items if item in kept]


class Special(TypedDict, total=False):
    """What a lab may have beside its nodes."""

    os: str
    jump: bool
    disks: Mapping[str, int]
    """Megabytes by mount point: file systems of their own."""


class LabFactory(Protocol):
    """Give a fresh lab of a shape; the containers are made once a run and reset between tests."""

    def __call__(self, nodes: int = 3, *, version: str = NEWEST, **special: Unpack[Special]) -> labs.Lab: ...


@functools.cache
def archive_or_reason(version: str) -> Path | str:
    """Ask the sources once a run: each may take seconds to say no."""
    try:
        return releases.ensure(version)
    except Failed as error:
        return "; ".join(f"{source}: {reason}" for source, reason in error.hosts.items())


def archive_or_skip(version: str) -> Path:
    """Give the archive of a release; the test skips, with the reasons, if no source has it."""
    found = archive_or_reason(version)
    if isinstance(found, str):
        pytest.skip(f"no source here gives etcd {version} ({found})")
    return found


@pytest.fixture
def release(request: pytest.FixtureRequest) -> Release:
    """Give the archive of an etcd release, and count the test as one that covers it."""

    def obtain(version: str) -> Path:
        found = archive_or_skip(version)
        request.node.user_properties.append((COVERED, version))
        return found

    return obtain


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Give the folder with a release's etcd and etcdctl for this machine, unpacked once a run."""

    @functools.cache
    def unpacked(version: str) -> Path:
        place = tmp_path_factory.mktemp("release")
        with tarfile.open(archive_or_skip(version)) as tar:
            wanted = (entry for entry in tar if Path(entry.name).name in ("etcd", "etcdctl"))
            tar.extractall(place, wanted, filter="data")
        return next(place.glob("etcd-v*"))

    return unpacked


@pytest.fixture(scope="session")
def lab_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Keep one lab for each shape (and each further one of a shape in one test) until the run ends.

    Each worker of a run that goes side by side has its own; the first one sweeps for all.
    """
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0":
        labs.sweep()
    made: dict[str, labs.Lab] = {}
    state = tmp_path_factory.mktemp("labs")
    owner = labs.me()

    def take(shape: labs.Shape, number: int) -> labs.Lab:
        key = f"{shape} {number}"
        if key in made:
            faults.reset(made[key])
        else:
            owned = labs.Shape(shape.nodes, shape.os, shape.jump, shape.disks, owner)
            name = f"test-{owner.partition(':')[0]}-{len(made) + 1}"
            made[key] = labs.up(name, owned, state)
        return made[key]

    yield take
    for lab in made.values():
        labs.down(lab.name)


@pytest.fixture(scope="module")
def lab_for_module(lab_pool: Pool) -> Iterator[Callable[[labs.Shape, str], labs.Lab]]:
    """Give a fresh lab that a module's tests share: only while none of them takes one of its own."""
    given: list[labs.Lab] = []

    def make(shape: labs.Shape, version: str) -> labs.Lab:
        archive_or_skip(version)
        given.append(prepared(lab_pool(shape, 0), version))
        return given[-1]

    yield make
    secrets.quieten(given)


@pytest.fixture
def lab_factory(lab_pool: Pool, release: Release) -> Iterator[LabFactory]:
    """Give labs of any shape, fresh, with an inventory for the wanted release."""
    taken = itertools.count()
    given: list[labs.Lab] = []

    def make(nodes: int = 3, *, version: str = NEWEST, **special: Unpack[Special]) -> labs.Lab:
        release(version)
        given.append(prepared(lab_pool(labs.Shape(nodes, **special), next(taken)), version))
        return given[-1]

    yield make
    secrets.quieten(given)


def prepared(lab: labs.Lab, version: str) -> labs.Lab:
    """Give the lab an inventory, and remove what a former test left beside it: certificates, journals."""
    keep = {lab.key.name, f"{lab.key.name}.pub", lab.known_hosts.name}
    for path in sorted(lab.state.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        elif path.parent != lab.state or path.name not in keep:
            path.unlink()
    access.write_inventory(lab, version)
    return lab


@pytest.fixture
def lab3(lab_factory: LabFactory) -> labs.Lab:
    """Three fresh Debian 12 nodes, with an inventory for the newest tested release."""
    return lab_factory()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what tests told, which etcd versions the run really used, and why others were not."""
    used: Counter[str] = Counter()
    told: list[str] = []
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        if report.when == "call":
            named = [(name, str(value)) for name, value in report.user_properties]
            used.update({value for name, value in named if name == COVERED and report.passed})
            told += [f"{report.nodeid.rpartition('/')[2]} {value}" for name, value in named if name == TOLD]
    missing = {
        found[1]: found[2]
        for report in terminalreporter.getreports("skipped")
        if (found := re.search(r"no source here gives etcd (\S+) (.*)", str(report.longrepr)))
    }
    _section(terminalreporter, "what tests tell", sorted(told))
    covered = [f"etcd {version}: {tests} tests passed" for version, tests in sorted(used.items())]
    uncovered = [f"etcd {version}: not covered {why}" for version, why in sorted(missing.items())]
    _section(terminalreporter, "etcd versions covered", [*covered, *uncovered])


def _section(terminalreporter: pytest.TerminalReporter, title: str, lines: Sequence[str]) -> None:
    if lines:
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.line(line)
