"""The fsync probe: what dd prints, what it means, and that nothing of it stays."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from etcdctl_remote.observed.findings import Result
from etcdctl_remote.preflight.disk import SIZE, WRITES, Latency, command, judge, read
from etcdctl_remote.remote.privilege import script

ONE = "1+0 records in\n1+0 records out\n2300 bytes (2.3 kB, 2.2 KiB) copied, {} s, 6.9 MB/s\n"


def test_times_are_read_from_dd() -> None:
    """Milliseconds, sorted, scientific notation too."""
    text = "".join(ONE.format(seconds) for seconds in ("0.000331021", "0.0021", "9.9e-05"))
    assert read(text).writes == pytest.approx((0.099, 0.331021, 2.1))


def test_the_percentile_is_one_of_the_writes() -> None:
    """Nearest rank: of a hundred writes the 99th, of ten the slowest."""
    assert Latency(tuple(float(n) for n in range(1, 101))).percentile(0.99) == 99
    assert Latency(tuple(float(n) for n in range(1, 11))).percentile(0.99) == 10


@pytest.mark.parametrize(("slow", "result"), [(1.0, Result.PASS), (11.0, Result.WARN), (600.0, Result.WARN)])
def test_etcd_wants_ten_milliseconds(slow: float, result: Result) -> None:
    """Two slow writes of a hundred decide; however slow, a deploy would go on: it is a warning."""
    found = judge("n1", "/var/lib/etcd", sorted([0.5] * 98 + [slow] * 2))
    assert found.result is result
    assert f"{slow:.3g} ms" in found.message


def test_no_write_in_time_is_a_warning() -> None:
    """A probe that measured nothing says so."""
    assert judge("n1", "/d", []).result is Result.WARN


def test_the_probe_writes_measures_and_removes(tmp_path: Path) -> None:
    """On a real disk: a hundred times or two seconds, and the directory is as before."""
    data = tmp_path / "var" / "etcd"
    probe = command(str(data))
    assert probe.writes
    done = subprocess.run(
        ["sh"], input=script(probe), capture_output=True, check=True, env={"PATH": "/usr/bin:/bin"}
    )
    writes = read(done.stdout.decode()).writes
    assert 0 < len(writes) <= WRITES
    assert f"{SIZE} bytes".encode() in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_data_is_never_written_to(tmp_path: Path) -> None:
    """An existing data directory stays untouched: the probe goes beside it, on the same disk."""
    data = tmp_path / "etcd"
    data.mkdir()
    before = data.stat().st_mtime_ns
    subprocess.run(["sh"], input=script(command(str(data))), capture_output=True, check=True)
    assert data.stat().st_mtime_ns == before
