"""Another etcd than the inventory's, put on a host by hand: seen, refused, and what the way out does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import Version
from etcdctl_remote.errors import Refused
from etcdctl_remote.observed.state import HostState, PathState
from etcdctl_remote.operations.converge import plan
from etcdctl_remote.operations.refusals import refuse_unsafe
from tests.unit.operations.test_deploy import deployed, wish

BIN = "/usr/local/bin/etcd"
FILE = PathState("file", 0o755, "root", "root")
QEMU = "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"


def with_release(host: HostState, version: str | None, program: str | None = None) -> HostState:
    """The same host, whose etcd says it is of this release (None: it says nothing)."""
    assert host.endpoint
    endpoint = replace(host.endpoint, version=version) if version else None
    members = host.members if version else None
    unit = replace(host.unit, program=program or host.unit.program)
    return replace(host, endpoint=endpoint, members=members, unit=unit)


def with_bin(host: HostState, place: PathState) -> HostState:
    """The same host, with something else where our link goes."""
    return replace(host, paths={**host.paths, BIN: place})


@pytest.mark.parametrize("copied", ["over the link", "through the link"])
def test_refuses_to_undo_an_upgrade_by_hand(tmp_path: Path, copied: str) -> None:
    """All members run a newer etcd: its data is not for ours. What runs counts, whatever its path is."""
    want = wish(tmp_path)
    now = deployed(want).observe()
    program = BIN if copied == "over the link" else None
    hosts = {name: with_release(host, "3.7.1", program) for name, host in now.hosts.items()}
    if program:
        hosts = {name: with_bin(host, FILE) for name, host in hosts.items()}
    now = replace(now, hosts=hosts)
    with pytest.raises(Refused) as caught:
        plan(want, now)
    assert set(caught.value.hosts) == {"n1", "n2", "n3"}
    for seen in caught.value.hosts.values():
        assert "runs etcd 3.7.1, the inventory wants 3.6.14: put 3.7.1 into the inventory" in seen
    taken = replace(want, cluster=replace(want.cluster, version=Version(3, 7, 1)))
    assert len(plan(taken, now).stages) == 6, "the way out: each is restarted from our own copy of it"


@pytest.mark.parametrize(("version", "named"), [("3.6.14", {"n1"}), ("3.7.1", {"n2", "n3"})])
def test_refuses_half_an_upgrade_by_hand(tmp_path: Path, version: str, named: set[str]) -> None:
    """Both releases are named, whichever the inventory wants."""
    want = wish(tmp_path)
    want = replace(want, cluster=replace(want.cluster, version=Version.parse(version)))
    now = deployed(wish(tmp_path)).observe()
    hosts = {**now.hosts, "n1": with_release(now.hosts["n1"], "3.7.1", BIN)}
    with pytest.raises(Refused) as caught:
        plan(want, replace(now, hosts=hosts))
    assert set(caught.value.hosts) == named
    assert all(
        "members have 3.6.14 and 3.7.1; give all the same" in seen for seen in caught.value.hosts.values()
    )


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("place", [FILE, PathState("link", target="/root/etcd-v3.7.1/etcd")])
def test_refuses_a_program_of_unknown_release(tmp_path: Path, running: bool, place: PathState) -> None:
    """No etcd answers, and what lies there may be newer. Once it is moved away it is in nobody's way."""
    want = wish(tmp_path)
    world = deployed(want)
    if not running:
        world.stop("n2")
    now = world.observe()
    host = with_release(now.hosts["n2"], None, BIN) if running else now.hosts["n2"]
    with pytest.raises(Refused) as caught:
        refuse_unsafe(want, replace(now, hosts={**now.hosts, "n2": with_bin(host, place)}))
    assert set(caught.value.hosts) == {"n2"}
    assert f"{BIN} is no link of ours" in caught.value.hosts["n2"]
    assert f"`{BIN} --version`" in caught.value.hosts["n2"]
    away = replace(host, paths={path: state for path, state in host.paths.items() if path != BIN})
    refuse_unsafe(want, replace(now, hosts={**now.hosts, "n2": away}))


@pytest.mark.parametrize("version", ["3.6.14", None])
def test_an_emulated_program_is_no_other_release(tmp_path: Path, version: str | None) -> None:
    """/proc names the emulator; the answer, or else our link, says which release it runs."""
    want = wish(tmp_path)
    now = deployed(want).observe()
    emulated = with_release(now.hosts["n1"], version, QEMU)
    assert not plan(want, replace(now, hosts={**now.hosts, "n1": emulated}))


def test_another_link_is_mended_where_the_answer_is_as_wanted(tmp_path: Path) -> None:
    """Somebody put a file there and restarted nobody: the link comes back before it is ever started."""
    want = wish(tmp_path)
    now = deployed(want).observe()
    todo = plan(want, replace(now, hosts={**now.hosts, "n1": with_bin(now.hosts["n1"], FILE)}))
    (step,) = [step for stage in todo.stages for step in stage.steps]
    assert (step.host, BIN in str(step)) == ("n1", True)
