"""The lab as its tasks give it: an inventory that works at once, a list, and nothing left afterwards."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from etcdctl_remote.lab import nodes
from tests.cluster.drive import PROGRAM, ROOT

pytestmark = pytest.mark.cluster


def run(folder: Path, *words: str) -> str:
    """Run one task in a folder; it has to succeed."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environ = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [*PROGRAM, *words], cwd=folder, env=environ, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done
    return done.stdout


def test_a_lab_by_its_tasks(tmp_path: Path, lab_pool: object) -> None:
    """up, list, a cluster on its inventory, down: as the README has it, in a folder of one's own."""
    name = f"tasks-{nodes.me().partition(':')[0]}"
    inventory = str(tmp_path / ".lab" / name / "inventory.yaml")
    try:
        assert f"`deploy -i {inventory}`" in run(tmp_path, "lab.up", "--nodes", "1", "--name", name)
        (node,) = nodes.find(name).nodes  # type: ignore[union-attr]
        listed = [line for line in run(tmp_path, "lab.list").splitlines() if name in line]
        assert len(listed) == 1
        assert node.address in listed[0]
        run(tmp_path, "deploy", "-y", "-i", inventory)
        assert f"https://{node.address}:2379 is healthy" in run(tmp_path, "health", "-i", inventory)
        assert f"{name} is gone" in run(tmp_path, "lab.down", "--name", name)
    finally:
        nodes.down(name)
    assert name not in run(tmp_path, "lab.list")
    assert not Path(inventory).exists()
