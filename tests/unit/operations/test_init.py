"""Writing the first inventory: never over a file, and never a traceback for a folder that does not fit."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest

from etcdctl_remote.errors import UsageError
from etcdctl_remote.operations import init as operation
from tests.unit.program import run

WORDS = ("--cluster", "demo", "--node", "n1=10.0.0.11")


def write(path: Path) -> Path:
    return operation.init(str(path), cluster="demo", nodes=["n1=10.0.0.11"], version="", user="")


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    """It is somebody's inventory."""
    path = write(tmp_path / "inventory.yaml")
    path.write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        write(path)
    assert path.read_text() == "mine"


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    """One line, exit 2, and the command that makes the folder."""
    done = run("init", "-i", "sub dir/b.yaml", *WORDS, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: sub dir/b.yaml cannot be written: No such file or directory",
        "  → make its folder first: mkdir -p 'sub dir'",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to() -> None:
    """Not even root makes a file in sysfs."""
    with pytest.raises(UsageError, match=r"/sys/b\.yaml cannot be written: ") as caught:
        write(Path("/sys/b.yaml"))
    assert caught.value.hint == "choose another --inventory, in a folder you may write to"


def test_a_full_disk_leaves_no_half_inventory(tmp_path: Path) -> None:
    """It would stand in the way of the next try."""
    begun = tmp_path / "inventory.yaml"
    begun.touch()
    with pytest.raises(OSError, match="No space left"):
        operation._fill(Full(), "text", begun)
    assert not begun.exists()


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")
