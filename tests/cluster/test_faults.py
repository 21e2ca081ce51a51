"""What goes wrong before and during a first deploy: it is told, nothing is half done, a rerun mends it."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from etcdctl_remote.lab import faults
from etcdctl_remote.lab.hosts import execute, write
from etcdctl_remote.lab.model import Lab, Node, each
from tests.conftest import NEWEST, LabFactory, Release

from . import drive

pytestmark = pytest.mark.cluster

DATA = "/var/lib/etcd"
FOREIGN_UNIT = f"""[Service]
Type=notify
ExecStart=/srv/etcd/etcd --name=theirs --data-dir={DATA} --log-level=error
[Install]
WantedBy=multi-user.target
"""


# -- what is somebody else's -----------------------------------------------------------------


def test_what_is_somebody_elses_is_refused_and_left_alone(lab3: Lab, release: Release) -> None:
    """Files, an etcd that runs, and the data it leaves: each is named with its host, nothing is touched."""
    theirs = lab3.node("n3")
    execute(lab3.node("n2"), 'mkdir -p "$1" && echo precious >"$1/notes.txt"', DATA)
    _install_foreign_etcd(theirs, release(NEWEST))
    execute(theirs, "systemctl enable --now etcd && /srv/etcd/etcdctl put theirs kept")
    with drive.untouched(lab3, but=f"n3:{DATA}/"):
        done = drive.fails(lab3, 4, "nothing was changed")
    drive.tells(done, "n2:", DATA, "not etcd's")
    drive.tells(done, "n3:", "a unit that is not ours", "/srv/etcd/etcd")
    assert "kept" in execute(theirs, "/srv/etcd/etcdctl get theirs")
    execute(theirs, "systemctl disable --now etcd 2>/dev/null")
    with drive.untouched(lab3):
        done = drive.fails(lab3, 4, "nothing was changed")
    drive.tells(done, "n3:", DATA, "an etcd that is not ours")
    assert list(drive.lines_with(drive.run(lab3, "check").out, " data ", " fail ", "n3")), (
        "check tells the same"
    )
    assert not (lab3.state / "certs").exists()


def _install_foreign_etcd(node: Node, archive: Path) -> None:
    write(node, "/srv/etcd.tar.gz", archive.read_bytes())
    execute(node, "mkdir /srv/etcd && tar -xzf /srv/etcd.tar.gz -C /srv/etcd --strip-components=1")
    write(node, "/etc/systemd/system/etcd.service", FOREIGN_UNIT.encode())
    execute(node, "systemctl daemon-reload")


# -- the archive -----------------------------------------------------------------------------


def test_a_bad_archive_changes_nothing(lab3: Lab, release: Release, tmp_path: Path) -> None:
    """Missing, without a sum, with another's sum, cut short: what was expected and seen, and no host is touched."""
    good = release(NEWEST)
    theirs, ours = good.read_bytes(), tmp_path / good.name
    drive.edit(lab3, release=f'{{archive: "{tmp_path}/etcd-v{{version}}-linux-{{arch}}.tar.gz"}}')
    sums = tmp_path / "SHA256SUMS"
    right = hashlib.sha256(theirs).hexdigest()
    with drive.untouched(lab3):
        drive.fails(lab3, 2, f"{ours}: there is no such archive", "release.archive")
        checked = drive.run(lab3, "check", "-o", "json")
        (bad,) = (row for row in checked.json()["result"] if row["result"] == "fail")
        assert (checked.code, bad["node"], bad["check"]) == (1, "laptop", "release")
        assert f"{ours}: there is no such archive" in bad["message"]
        ours.write_bytes(theirs)
        drive.fails(lab3, 2, f"{ours}: no checksum", "SHA256SUMS")
        sums.write_text(f"{'0' * 64}  {good.name}\n")
        drive.fails(lab3, 1, f"expected {'0' * 64}", str(sums), f"seen     {right}")
        ours.write_bytes(theirs[: len(theirs) // 2])
        sums.write_text(f"{right}  {good.name}\n")
        drive.fails(lab3, 1, f"expected {right}", f"({len(theirs) // 2} bytes)", "cut short")
    assert not (lab3.state / "certs").exists()


def test_an_archive_that_holds_no_etcd_is_told_and_mended(
    lab3: Lab, release: Release, tmp_path: Path
) -> None:
    """With the right sum of the wrong bytes no host keeps a release, and a good archive then deploys."""
    good = release(NEWEST)
    wrong = tmp_path / good.name
    drive.edit(lab3, release=f'{{archive: "{tmp_path}/etcd-v{{version}}-linux-{{arch}}.tar.gz"}}')
    for content, told in ((b"no gzip at all", "gzip"), (_archive_of(b"\x7fELF for another machine"), "run")):
        wrong.write_bytes(content)
        (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(content).hexdigest()}  {good.name}\n")
        done = drive.fails(lab3, 1, "unpack", good.name, told)
        for node in lab3.nodes:
            drive.tells(done, f"{node.name}:")
            assert execute(node, "find /opt/etcd -mindepth 1 -type d") == ""
    wrong.write_bytes(good.read_bytes())
    (tmp_path / "SHA256SUMS").write_bytes(good.with_name("SHA256SUMS").read_bytes())
    _deploy_in_the_end(lab3)
    assert drive.leftovers(lab3) == []


def _archive_of(program: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in ("etcd", "etcdctl", "etcdutl"):
            entry = tarfile.TarInfo(f"etcd/{name}")
            entry.mode, entry.size = 0o755, len(program)
            tar.addfile(entry, io.BytesIO(program))
    return packed.getvalue()


# -- ports -----------------------------------------------------------------------------------


def test_a_taken_port_is_refused_before_the_first_change(lab3: Lab) -> None:
    """The process that has it is named, with its pid; so is a line of the unit that systemd would ignore."""
    node = lab3.node("n2")
    drive.edit(lab3, service="{MemoryMax: lots, Foo: 1}")
    with _holding(node, 2380):
        pid = execute(node, "systemctl show -P MainPID thief").strip()
        with drive.untouched(lab3):
            done = drive.fails(lab3, 4, "nothing was changed")
    drive.tells(done, "port 2380", f"pid {pid}", "systemd-socket")
    drive.tells(done, "unit", "MemoryMax=lots", "Invalid memory limit", "Foo=1", "→ mend it under `service`")
    assert drive.leftovers(lab3) == []
    assert "n2:" in done.err
    assert not (lab3.state / "certs").exists()


def test_a_port_taken_after_the_preflight_fails_the_start(lab3: Lab) -> None:
    """Node, journal line and way out are told; when the port is free again, a rerun goes on from there."""
    node = lab3.node("n2")
    with _holding(node, 2380, when="[ -e /opt/etcd/v* ]"):
        done = drive.fails(lab3, 1, "Start all members together", "ss -ltnp")
        address = f"{node.address}:2380"
        drive.tells(done, f"listen tcp {address}: bind: address already in use")
        drive.tells(done, "n2:", f"another process listens on {address}")
    _deploy_in_the_end(lab3)
    assert drive.leftovers(lab3) == []


def test_a_start_that_systemd_cuts_short_is_explained(lab_factory: LabFactory) -> None:
    """A TimeoutStartSec of somebody's own: etcd is ready only once a leader is elected."""
    lab = lab_factory(1)
    drive.edit(lab, service="{TimeoutStartSec: 30ms}")
    done = drive.fails(lab, 1, "Start all members together")
    drive.tells(done, "n1:", "systemd ended etcd before it was ready")
    drive.tells(done, "start operation timed out")
    drive.tells(done, "take TimeoutStartSec out of `service`")
    drive.edit(lab, service="{}")
    _deploy_in_the_end(lab)


@contextmanager
def _holding(node: Node, port: int, when: str = "true") -> Iterator[None]:
    """Have a stranger listen on a port of a node, as soon as a condition is true there."""
    listen = f"exec systemd-socket-activate -l {node.address}:{port} sleep 600"
    script = f"until {when}; do sleep 0.02; done; {listen}"
    execute(node, 'systemd-run -q --unit=thief sh -c "$1"', script)
    if when == "true":
        execute(node, f"until ss -Hltn 'sport = :{port}' | grep -q .; do sleep 0.02; done")
    try:
        yield
    finally:
        execute(node, "systemctl stop thief")


# -- disks -----------------------------------------------------------------------------------


@pytest.fixture
def small(lab_factory: LabFactory) -> Lab:
    """Three nodes whose releases and data lie on small disks of their own."""
    lab = lab_factory(disks={"/opt": 320, "/mnt/disk": 320})
    drive.edit(lab, paths="{data: /mnt/disk/etcd}")
    return lab


def test_a_full_disk_is_refused_before_the_first_change(small: Lab) -> None:
    """Where a release or the data would not fit: what is free, what is needed, for what."""
    faults.fill(small.node("n2"), "/opt", leave_kb=40 << 10)
    faults.fill(small.node("n3"), "/mnt/disk", leave_kb=40 << 10)
    with drive.untouched(small):
        done = drive.fails(small, 4, "nothing was changed")
    opt, data = "only 40 MiB free on /opt", "only 40 MiB free on /mnt/disk"
    drive.tells(done, "n2:", opt, "256 MiB are needed to install a release")
    drive.tells(done, "n3:", data, "256 MiB are needed")
    assert not (small.state / "certs").exists()


def test_a_disk_that_fills_up_half_way(small: Lab) -> None:
    """First the releases', then the data's: what df says and the way out are told, and a rerun converges."""
    second, third = small.node("n2"), small.node("n3")
    with _filling(second, "/opt", when="id etcd"):
        done = drive.fails(small, 1, "/opt has", "KiB free", "KiB are needed", "free some space")
    assert "n2" in done.err
    assert execute(second, "find /opt/etcd -mindepth 1 -type d") == "", done
    assert [path for path in drive.leftovers(small) if path.startswith("n2:")] == []
    once = "test -e /run/etcd-filled || { touch /run/etcd-filled; fallocate -l 318M /mnt/disk/lab-ballast; }"
    drop_in(third, f"[Service]\nExecStartPre=-+/bin/sh -c '{once}'\n")
    done = drive.fails(small, 1, "no space left on device", "df -h")
    drive.tells(done, "n3:", "the disk is full")
    execute(third, "rm /etc/systemd/system/etcd.service.d/odd.conf")
    faults.free(third, "/mnt/disk")
    _deploy_in_the_end(small)
    assert drive.leftovers(small) == []


@contextmanager
def _filling(node: Node, folder: str, when: str) -> Iterator[None]:
    """Fill a disk of a node, but for 10 MiB, as soon as a condition is true there; free it at the end."""
    script = f"""until {when}; do sleep 0.01; done
        free=$(df -Pk {folder} | awk 'NR==2 {{print $4}}'); fallocate -l $((free - 10240))K {folder}/lab-ballast"""
    execute(node, 'systemd-run -q --unit=thief sh -c "$1"', script)
    try:
        yield
    finally:
        execute(node, "systemctl stop thief 2>/dev/null; true")
        faults.free(node, folder)


# -- a start that fails ----------------------------------------------------------------------


def drop_in(node: Node, text: str) -> None:
    """Write an operator's drop-in; deploy never touches it, and takes it into account."""
    execute(node, "mkdir -p /etc/systemd/system/etcd.service.d")
    write(node, "/etc/systemd/system/etcd.service.d/odd.conf", text.encode())


def test_a_failed_first_start_is_explained_node_by_node(lab3: Lab) -> None:
    """An unknown flag, a user who may not read, a key of another certificate: line, meaning and fix of each."""
    flag, user, pair = lab3.nodes
    drop_in(flag, "[Service]\nExecStart=\nExecStart=/usr/local/bin/etcd --no-such-flag=1\n")
    drop_in(user, "[Service]\nUser=nobody\n")
    drop_in(pair, f"[Service]\nBindReadOnlyPaths={drive.PKI}/etcdctl.key:{drive.PKI}/peer.key\n")
    done = drive.fails(lab3, 1, "Start all members together")
    drive.tells(done, "n1:", "does not know the flag --no-such-flag")
    drive.tells(done, "flag provided but not defined: -no-such-flag")
    drive.tells(done, "n2:", "may not read or write")
    drive.tells(done, "permission denied")
    drive.tells(done, "n3:", "do not belong together")
    drive.tells(done, "private key does not match public key")
    drive.tells(done, "→", "take `no-such-flag` out", "namei -l")
    each(lab3.nodes, lambda node: execute(node, "rm /etc/systemd/system/etcd.service.d/odd.conf"))
    _deploy_in_the_end(lab3)
    assert drive.leftovers(lab3) == []


# -- the network -----------------------------------------------------------------------------


def test_two_nodes_that_do_not_reach_each_other(lab3: Lab) -> None:
    """The preflight names source, destination and port, both ways, before the first change."""
    first, second, third = lab3.nodes
    faults.cut(first, second)
    with drive.untouched(lab3):
        done = drive.fails(lab3, 4, "nothing was changed")
    for one, other in ((first, second), (second, first)):
        words = (f"port 2380 of {one.name} ({one.address})", f"from {other.name} ({other.address})")
        drive.tells(done, *words)
    assert f"of {third.name} " not in done.err
    faults.heal(first, second)
    assert drive.run(lab3, "check").code == 0


# -- what tests share ------------------------------------------------------------------------


def _deploy_in_the_end(lab: Lab) -> None:
    """Deploy; then nothing is left to do, and every member reads what one was given."""
    drive.deploy(lab)
    drive.settle_nothing(lab)
    drive.put(lab.nodes[0], "deployed", "in the end")
    assert [drive.get(node, "deployed") for node in lab.nodes] == ["in the end"] * len(lab.nodes)
