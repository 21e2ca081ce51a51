"""What tests of the store share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from etcdctl_remote.desired.model import NodeSpec

NOW = datetime(2030, 5, 17, 12, tzinfo=UTC)
NODES = tuple(NodeSpec(f"n{i}", f"n{i}", address=f"10.0.0.{i}") for i in (1, 2, 3))


def contents(root: Path) -> dict[str, bytes]:
    """Read every file below a directory."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
