"""What deploy leaves to other tasks, on real clusters: seen, named, and nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from etcdctl_remote.lab.model import Lab
from tests.unit.mirror import Mirror, serve

from . import drive

pytestmark = pytest.mark.cluster

DATA = "/var/lib/etcd"


def only(lab: Lab, *names: str) -> None:
    """Write these nodes into the inventory, and no other."""
    text = "".join(f"\n  {lab.node(name).name}: {lab.node(name).address}" for name in names)
    drive.edit(lab, nodes=text.removeprefix(" "))


def refused(lab: Lab, *said: str) -> None:
    """Assert that plan and deploy name host, difference and task."""
    for task in ("plan", "deploy"):
        drive.tells(drive.fails(lab, 4, "nothing was changed", task=task), *said)


def test_membership_and_version_are_other_tasks(lab3: Lab, release: Callable[[str], Path]) -> None:
    """Members come, go and are upgraded by tasks of their own; the release comes from a mirror, once."""
    archive = release("3.6.14")
    sums = archive.with_name("SHA256SUMS").read_text("utf-8")
    (pin,) = [line.split()[0] for line in sums.splitlines() if line.endswith(archive.name)]
    mirror = Mirror({f"/v3.6.14/{archive.name}": archive.read_bytes()})
    server = serve(mirror)
    try:
        drive.edit(lab3, release=f"{{url: '{mirror.url}', sha256: {{'{archive.name}': {pin}}}}}")
        only(lab3, "n1", "n2")
        cache = {"XDG_CACHE_HOME": str(lab3.state / "cache")}
        done = drive.run(lab3, "deploy", "-y", env=cache)
        assert done.code == 0, done
        drive.tells(done, f"fetching {mirror.url}/v3.6.14/{archive.name}")
        assert "nothing to do" in drive.run(lab3, "deploy", "-y", env=cache).out
        assert [name for name, _ in mirror.asked] == [archive.name]
    finally:
        server.shutdown()
        server.server_close()
    with drive.untouched(lab3, DATA):
        only(lab3, "n1", "n2", "n3")
        refused(lab3, "n3:", "is no member of the cluster", "add-node")
        only(lab3, "n1")
        refused(lab3, "n2:", "is in no inventory", "remove-node")
        only(lab3, "n2", "n1")
        assert "nothing to do" in drive.run(lab3, "plan").out, "their order is no change"
        drive.edit(lab3, version='"3.6.13"', release="{}")
        refused(lab3, "n1:", "runs etcd 3.6.14, the inventory wants 3.6.13", "upgrade")
