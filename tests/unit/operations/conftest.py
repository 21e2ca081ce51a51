"""The world is in memory, and so are the certificates beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from etcdctl_remote.plan import execute
from tests.unit.memory import in_memory


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate of a fake that says no says so for ever: take its word after the fewest attempts."""
    monkeypatch.setattr(execute, "SETTLE", 0.0)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Wait for no disk."""
    with in_memory(tmp_path) as folder:
        yield folder
