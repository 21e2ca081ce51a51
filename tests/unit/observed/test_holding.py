"""What a data directory holds: the script in a real shell, and the judge."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etcdctl_remote.observed.holding import HOLDS, bare_log, holding
from etcdctl_remote.observed.state import Data

from .bolt import PAGE, Buckets, database, log

AUTH: Buckets = {"auth": {"authRevision": b"\1"}, "key": {}, "members": {}, "meta": {}}
USED: Buckets = {"key": {}, "members": {"8e9e05c52164694d": b"{}"}, "meta": {"consistent_index": b"\4"}}
FIRST, SECOND = "0000000000000000-0000000000000000.wal", "0000000000000001-0000000000000040.wal"
HEAD = log(4, 1, 5, size=64 << 10)


ORDINARY: dict[str, Any] = {} if os.geteuid() else {"user": "nobody"}
"""Whom modes hold back: root reads everything."""


def holds(data: Path, wal: Path | None = None, **who: Any) -> tuple[Data, Data]:
    script = f"{HOLDS}data=$1 wal=$2\ndata_holds\n"
    words = ["sh", "-c", script, "sh", str(data), str(wal or "")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, **who)
    assert done.stderr == ""
    return holding(done.stdout.splitlines())


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may look into, unlike those that pytest makes."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def lay(folder: Path, files: dict[str, bytes | None]) -> Path:
    """Make files, and directories where there is no content."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name
        (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
        if content is not None:
            path.write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({".touch": b""}, Data.EMPTY),
        ({"member/.touch": b""}, Data.EMPTY),
        ({"member/snap/db": b""}, Data.EMPTY),
        ({"member/snap/db": database()[:PAGE]}, Data.STUCK),
        ({"member/snap/db": database()[: 3 * PAGE]}, Data.STUCK),
        ({"member/snap/db": bytes(4 * PAGE)}, Data.STUCK),
        ({"member/snap/db": bytes(5 * PAGE)}, Data.TORN),
        ({"member/snap/db": database()}, Data.BEGUN),
        ({"member/snap/db": database(), "member/wal.tmp/0.wal": HEAD}, Data.BEGUN),
        ({"member/snap/db": database(), "member/wal": None}, Data.BEGUN),
        ({"member/snap/db": database(AUTH, 6, 3, 16 << 20)}, Data.BEGUN),
        ({"member/snap/db": database(AUTH, 5, 4)}, Data.BEGUN),
        ({"member/snap/db": database(USED, 7, 3)}, Data.TORN),
        ({"member/snap/db": database({"auth": {"authEnabled": b"\1"}}, 7, 3)}, Data.TORN),
        ({"member/snap/db": database({"key": {"authRevision": b"\1"}}, 7, 3)}, Data.TORN),
        ({"member/snap/db": database(AUTH, 900, 40)}, Data.TORN),
        ({"member/snap/db": database(AUTH, 6, 3)[: 2 * PAGE]}, Data.TORN),
        ({"member/snap/db": b"not a database" * 100}, Data.TORN),
        ({"member/snap/db": database(), "notes": b"mine"}, Data.OTHER),
        ({f"member/wal/{FIRST}": HEAD}, Data.STUCK),
        ({"member/snap/db": database(), f"member/wal/{FIRST}": HEAD}, Data.STUCK),
        ({"member/snap/db": database(AUTH, 6, 3), f"member/wal/{FIRST}": HEAD}, Data.STUCK),
        ({"member/snap/db": database(USED, 7, 3), f"member/wal/{FIRST}": HEAD}, Data.MEMBER),
        ({"member/snap/db": database(), f"member/wal/{FIRST}": log(4, 1, 5, 3)}, Data.MEMBER),
        ({"member/snap/db": database(), f"member/wal/{FIRST}": log(4, 1, 5, 2)}, Data.MEMBER),
        ({"member/snap/db": database(), f"member/wal/{FIRST}": b""}, Data.MEMBER),
        ({"member/snap/db": database(), f"member/wal/{SECOND}": HEAD}, Data.MEMBER),
        ({f"member/wal/{FIRST}": HEAD, f"member/wal/{SECOND}": HEAD}, Data.MEMBER),
        ({f"member/wal/{FIRST}": log(4, 1, 5, *[2] * 40)}, Data.MEMBER),
        ({f"member/wal/{FIRST}": HEAD, "notes": b"mine"}, Data.OTHER),
    ],
)
def test_what_a_first_start_leaves_is_told_from_data(
    tmp_path: Path, files: dict[str, bytes | None], found: Data
) -> None:
    """Begun or stuck only where nothing was written: an entry, a vote, a key, or doubt is none of it."""
    assert holds(lay(tmp_path / "data", files)) == (found, Data.ABSENT)


@pytest.mark.parametrize(
    ("data", "wal", "found"),
    [
        ({"member/snap/db": database()}, {}, (Data.BEGUN, Data.EMPTY)),
        ({"member/snap/db": database()}, {f"wal/{FIRST}": HEAD}, (Data.STUCK, Data.STUCK)),
        ({}, {f"wal/{FIRST}": HEAD}, (Data.STUCK, Data.STUCK)),
        ({}, {f"wal/{FIRST}": log(4, 1, 5, 2)}, (Data.EMPTY, Data.MEMBER)),
        ({"member/snap/db": database()}, {f"wal/{FIRST}": log(4, 1, 5, 2)}, (Data.MEMBER, Data.MEMBER)),
        ({"member/snap/db": database(USED, 7)}, {}, (Data.TORN, Data.EMPTY)),
        ({"member/snap/db": database(USED, 7)}, {"notes": b"mine"}, (Data.TORN, Data.OTHER)),
        ({"member/snap/db": database()}, {"notes": b"mine"}, (Data.OTHER, Data.OTHER)),
    ],
)
def test_a_log_elsewhere_is_judged_with_its_database(
    tmp_path: Path, data: dict[str, bytes | None], wal: dict[str, bytes | None], found: tuple[Data, Data]
) -> None:
    """Both directories tell what each holds; what they mean comes from both."""
    assert holds(lay(tmp_path / "data", data), lay(tmp_path / "wal", wal)) == found


@pytest.mark.parametrize(
    ("files", "closed", "mode"),
    [
        ({"member/snap/db": database()}, "member", 0o000),
        ({"member/snap/db": database()}, "member", 0o444),
        ({"member/snap/db": database()}, "member/snap", 0o000),
        ({"member/snap/db": database()}, "member/snap", 0o444),
        ({"member/snap/db": database()}, "member/snap/db", 0o000),
        ({f"member/wal/{FIRST}": HEAD, "member/snap/db": database()}, "member/wal", 0o000),
        ({"member/wal": None}, "member/wal", 0o000),
        ({}, ".", 0o000),
    ],
)
def test_what_cannot_be_read_is_unknown(
    open_folder: Path, files: dict[str, bytes | None], closed: str, mode: int
) -> None:
    """Never empty, and never a first start: at each depth, for whoever may not look."""
    data = lay(open_folder / "data", files)
    assert holds(data, **ORDINARY)[0] is not Data.UNKNOWN
    before = (data / closed).stat().st_mode
    (data / closed).chmod(mode)
    assert holds(data, **ORDINARY) == (Data.UNKNOWN, Data.ABSENT)
    (data / closed).chmod(before)


def test_a_log_elsewhere_that_cannot_be_read_leaves_both_unknown(open_folder: Path) -> None:
    """What a database without a log means depends on that log."""
    data = lay(open_folder / "data", {"member/snap/db": database()})
    wal = lay(open_folder / "log", {f"wal/{FIRST}": HEAD})
    assert holds(data, wal, **ORDINARY) == (Data.STUCK, Data.STUCK)
    (wal / "wal").chmod(0o000)
    assert holds(data, wal, **ORDINARY) == (Data.UNKNOWN, Data.UNKNOWN)
    (wal / "wal").chmod(0o755)


def test_an_answer_that_is_cut_off_proves_nothing() -> None:
    """Neither a log nor a database of which not all was sent is taken for an empty one."""
    assert holding([]) == (Data.UNKNOWN, Data.ABSENT)
    assert holding(["odd"]) == (Data.UNKNOWN, Data.ABSENT)
    assert holding(["empty", "db 20480 "]) == (Data.TORN, Data.ABSENT)
    assert holding(["empty", "db 20480 %%"]) == (Data.TORN, Data.ABSENT)
    assert holding(["empty", "unread /d/member", "db 0 "]) == (Data.UNKNOWN, Data.ABSENT)
    assert holding(["empty", "log "]) == (Data.MEMBER, Data.ABSENT)
    assert not bare_log(log(4, 1, 5, size=48)[:40])
