"""A cluster of three, and its store of certificates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import ClusterSpec, Version
from etcdctl_remote.pki.store import Store
from tests.unit.memory import in_memory

from .stores import NODES, NOW


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Wait for no disk: these tests save stores by the hundred."""
    with in_memory(tmp_path) as folder:
        yield folder


@pytest.fixture
def cluster(tmp_path: Path) -> ClusterSpec:
    return ClusterSpec("demo", Version(3, 6, 14), NODES, tmp_path / "inventory.yaml")


@pytest.fixture
def store(cluster: ClusterSpec) -> Store:
    """A store that holds its first generation."""
    store = Store.beside(cluster)
    store.save(store.prepare(cluster, NOW))
    return store
