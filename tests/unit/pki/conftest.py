"""A cluster of three, and its store of certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdctl_remote.desired.model import ClusterSpec, Version
from etcdctl_remote.pki.store import Store

from .stores import NODES, NOW


@pytest.fixture
def cluster(tmp_path: Path) -> ClusterSpec:
    return ClusterSpec("demo", Version(3, 6, 14), NODES, tmp_path / "inventory.yaml")


@pytest.fixture
def store(cluster: ClusterSpec) -> Store:
    """A store that holds its first generation."""
    store = Store.beside(cluster)
    store.save(store.prepare(cluster, NOW))
    return store
