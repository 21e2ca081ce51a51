"""First starts cut off at every stage: what the judge says of them, and that etcd comes up in the end."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from etcdctl_remote.errors import Refused
from etcdctl_remote.lab.releases import FOR_TESTS
from etcdctl_remote.observed.holding import HOLDS, holding
from etcdctl_remote.observed.state import Data
from etcdctl_remote.plan.steps import SetAside
from tests.conftest import Release
from tests.ports import free_port
from tests.unit.observed.bolt import database
from tests.unit.operations.here import Local

pytestmark = pytest.mark.contract

SECONDS = 20.0
SEGMENT = "member/wal/0000000000000000-0000000000000000.wal"
HEAD = 80
"""Bytes of the records that a log begins with."""


@contextmanager
def etcd(programs: Path, data: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start a cluster of one, as `new`; whatever is left of it is killed."""
    client, peer = (f"127.0.0.1:{free_port()}" for _ in range(2))
    flags = (
        "--name=n1",
        f"--data-dir={data}",
        f"--listen-client-urls=http://{client}",
        f"--advertise-client-urls=http://{client}",
        f"--listen-peer-urls=http://{peer}",
        "--initial-advertise-peer-urls=http://127.0.0.1:1",
        "--initial-cluster=n1=http://127.0.0.1:1",
        "--initial-cluster-token=t",
        "--heartbeat-interval=10",
        "--election-timeout=100",
    )
    env = {"PATH": os.environ["PATH"], "ETCD_UNSUPPORTED_ARCH": "arm64"}
    with (data.parent / "log").open("wb") as log:
        process = subprocess.Popen([str(programs / "etcd"), *flags], stdout=log, stderr=log, env=env)
    try:
        yield process, client
    finally:
        process.kill()
        process.wait()


def comes_up(programs: Path, data: Path) -> bool:
    """Whether it elects itself in time; it is stopped then."""
    with etcd(programs, data) as (process, client):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and process.poll() is None:
            connection = http.client.HTTPConnection(client, timeout=5)
            with closing(connection), suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/health")
                if b'"true"' in connection.getresponse().read():
                    process.terminate()
                    process.wait(SECONDS)
                    return True
    return False


def set_aside_until(end: float, data: Path) -> None:
    """Try again and again: an etcd that starts cuts its log to measure and makes it big again."""
    while time.monotonic() < end:
        set_aside(data)


def leave_a_bare_log(data: Path) -> None:
    """As if the first start had been cut off behind the head of its log."""
    segment = (data / SEGMENT).read_bytes()
    (data / SEGMENT).write_bytes(segment[:HEAD].ljust(64 << 20, b"\0"))
    (data / "member/snap/db").write_bytes(database())


def wait_for(path: Path) -> None:
    """Return as soon as this is there."""
    end = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < end


def judged(data: Path) -> Data:
    """What the script and the judge say."""
    script = f"{HOLDS}data=$1 wal=\ndata_holds\n"
    done = subprocess.run(["sh", "-c", script, "sh", str(data)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return holding(done.stdout.splitlines())[0]


def set_aside(data: Path, active: str = "inactive") -> None:
    """Do on this machine what the step does on a host, where systemd says this of the unit."""
    programs = data.parent / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "systemctl").write_text(f"#!/bin/sh\necho {active}\n")
    (programs / "systemctl").chmod(0o755)
    here: Any = Local("n1", path=f"{programs}:{Local.path}")
    SetAside("n1", str(data)).run(here, lambda done, total: None)


@pytest.fixture(params=FOR_TESTS)
def member(request: pytest.FixtureRequest, programs: Release, tmp_path: Path) -> tuple[Path, Path]:
    """A release, and where its data goes."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    return programs(str(request.param)), data


@pytest.mark.parametrize("seen", ["member/snap/db", "member/wal"])
def test_a_first_start_killed_on_its_way_is_known_for_one(member: tuple[Path, Path], seen: str) -> None:
    """Killed once this is there: never taken for somebody's data; cleared, etcd forms its cluster."""
    programs, data = member
    with etcd(programs, data):
        wait_for(data / seen)
    assert judged(data) in (Data.EMPTY, Data.BEGUN, Data.STUCK, Data.MEMBER)
    set_aside(data)
    assert judged(data) in (Data.EMPTY, Data.BEGUN, Data.MEMBER)
    assert comes_up(programs, data)


def test_what_an_etcd_has_open_stays_where_it_is(member: tuple[Path, Path]) -> None:
    """Started by hand, so systemd knows of none; nor is it moved while systemd starts it again and again."""
    programs, data = member
    with etcd(programs, data):
        wait_for(data / "member/wal")
    leave_a_bare_log(data)
    with etcd(programs, data) as (process, _):
        end = time.monotonic() + SECONDS
        while subprocess.run(["flock", "-n", data / "member/snap/db", "true"], check=False).returncode == 0:
            assert time.monotonic() < end
        with pytest.raises(Refused, match=r"n1: .*/member/snap/db is locked .*nothing was moved") as refused:
            set_aside_until(end, data)
        assert f"stop what has {data} open" in refused.value.hint
        assert process.poll() is None
    leave_a_bare_log(data)
    for active in ("activating", "active", "deactivating", ""):
        with pytest.raises(Refused, match=f"n1: systemd says that etcd.service is {active or 'in no state'}"):
            set_aside(data, active)
    assert sorted(each.name for each in data.iterdir()) == ["member"]
    assert judged(data) is Data.STUCK
    set_aside(data, "failed")
    assert judged(data) is Data.EMPTY
    assert comes_up(programs, data)


def test_a_member_without_its_log_is_no_first_start(member: tuple[Path, Path]) -> None:
    """Not even one that was never written to; with a bare log it is set aside, and nothing is lost."""
    programs, data = member
    assert comes_up(programs, data)
    segment = (data / SEGMENT).read_bytes()
    assert judged(data) is Data.MEMBER
    (data / SEGMENT).write_bytes(segment[:HEAD].ljust(len(segment), b"\0"))
    assert judged(data) is Data.MEMBER
    shutil.rmtree(data / "member/wal")
    assert judged(data) is Data.TORN
    set_aside(data)
    assert judged(data) is Data.TORN
    (data / "member/wal").mkdir()
    (data / SEGMENT).write_bytes(segment[:HEAD].ljust(len(segment), b"\0"))
    (data / "member/snap/db").write_bytes(database())
    assert judged(data) is Data.STUCK
    set_aside(data)
    assert judged(data) is Data.EMPTY
    (aside,) = data.glob("moved-aside.*")
    assert (aside / SEGMENT).read_bytes()[:HEAD] == segment[:HEAD]
    assert comes_up(programs, data)
