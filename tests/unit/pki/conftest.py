"""A cluster of three, and its store of certificates."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import ClusterSpec, Version
from etcdctl_remote.pki.store import Store

from .stores import NODES, NOW


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, where there is such: the store syncs thousands of times in these tests."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK | os.X_OK):
        with tempfile.TemporaryDirectory(dir=memory) as made:
            yield Path(made)
    else:
        yield tmp_path


@pytest.fixture
def cluster(folder: Path) -> ClusterSpec:
    return ClusterSpec("demo", Version(3, 6, 14), NODES, folder / "inventory.yaml")


@pytest.fixture
def store(cluster: ClusterSpec) -> Store:
    """A store that holds its first generation."""
    store = Store.beside(cluster)
    store.save(store.prepare(cluster, NOW))
    return store
