"""What tests of the store share."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from etcdctl_remote.desired.model import NodeSpec
from etcdctl_remote.pki.disk import Disk

NOW = datetime(2030, 5, 17, 12, tzinfo=UTC)
NODES = tuple(NodeSpec(f"n{i}", f"n{i}", address=f"10.0.0.{i}") for i in (1, 2, 3))


def contents(root: Path) -> dict[str, bytes]:
    """Read every file below a directory."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def killed_at(change: int, work: Callable[[Disk], object], kind: str = "") -> int:
    """Work in a process that kills itself ahead of a change to the disk, counted from 0; its wait status.

    With `kind` only such changes count.
    """
    count = itertools.count()

    def die(step: str) -> None:
        if kind in step and next(count) == change:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            work(Disk(die))
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]
