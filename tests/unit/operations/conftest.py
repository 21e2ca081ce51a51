"""The world is in memory, and so are the certificates beside it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from etcdctl_remote.operations import fitting, settle
from etcdctl_remote.plan import execute
from tests.unit.memory import in_memory
from tests.unit.operations.rotating import Town, shown_in, town


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate of a fake that says no says so for ever: take its word after the fewest attempts."""
    monkeypatch.setattr(execute, "SETTLE", 0.0)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Wait for no disk."""
    with in_memory(tmp_path) as folder:
        yield folder


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Town]:
    """Found a town: a deployed cluster whose hosts are dialled in the world, and waited for by nobody."""
    monkeypatch.setattr(settle, "SETTLE", 0.0)
    monkeypatch.setattr(settle, "INTERVAL", 0.0)
    numbers = itertools.count()

    def build(size: int = 3, **wishes: Any) -> Town:
        folder = tmp_path / f"town-{next(numbers)}"
        folder.mkdir()
        made = town(folder, size, **wishes)
        monkeypatch.setattr(fitting, "shown", shown_in(made.world))
        return made

    return build
