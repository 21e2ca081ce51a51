"""The world is in memory, and so are the certificates beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.memory import in_memory


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Wait for no disk."""
    with in_memory(tmp_path) as folder:
        yield folder
