"""What a data directory holds: the script in a real shell, and the judge."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from etcdctl_remote.observed.holding import HOLDS, bare_log, holding
from etcdctl_remote.observed.state import Data

from .bolt import PAGE, Buckets, database, log

AUTH: Buckets = {"auth": {"authRevision": b"\1"}, "key": {}, "members": {}, "meta": {}}
USED: Buckets = {"key": {}, "members": {"8e9e05c52164694d": b"{}"}, "meta": {"consistent_index": b"\4"}}
FIRST, SECOND = "0000000000000000-0000000000000000.wal", "0000000000000001-0000000000000040.wal"
HEAD = log(4, 1, 5, size=64 << 10)


def holds(data: Path, wal: Path | None = None) -> tuple[Data, Data]:
    script = f"{HOLDS}data=$1 wal=$2\ndata_holds\n"
    words = ["sh", "-c", script, "sh", str(data), str(wal or "")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return holding(done.stdout.splitlines())


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


def test_an_answer_that_is_cut_off_proves_nothing() -> None:
    """Neither a log nor a database of which not all was sent is taken for an empty one."""
    assert holding([]) == (Data.UNKNOWN, Data.ABSENT)
    assert holding(["odd"]) == (Data.UNKNOWN, Data.ABSENT)
    assert holding(["empty", "db 20480 "]) == (Data.TORN, Data.ABSENT)
    assert holding(["empty", "db 20480 %%"]) == (Data.TORN, Data.ABSENT)
    assert holding(["empty", "log "]) == (Data.MEMBER, Data.ABSENT)
    assert not bare_log(log(4, 1, 5, size=48)[:40])
