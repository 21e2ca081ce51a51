"""A destroy undone as docs/operations.md says, also where one member's data is lost."""

from __future__ import annotations

import pytest

from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, each

from . import drive

pytestmark = pytest.mark.cluster

UNDO = r"""
mv -T /var/lib/etcd.2* /var/lib/etcd
install -d -m 0750 /etc/etcd
mv /var/lib/etcd/etcdctl-remote.identity /etc/etcd/identity
ln -sT identity /etc/etcd/member
"""


def test_a_destroy_is_undone_without_one_member(lab3: Lab) -> None:
    """Two of three come back with their keys; the third is named until it is replaced."""
    drive.deploy(lab3)
    drive.put(lab3.nodes[0], "kept", "yes")
    drive.must(lab3, "destroy", "--confirm", lab3.name, "-y")
    store = lab3.state / "certs" / lab3.name
    before, _ = sorted(path.name for path in (store / "generations").iterdir())
    (store / "current").unlink()
    (store / "current").symlink_to(f"generations/{before}")
    each(lab3.nodes[:2], lambda node: execute(node, UNDO))
    drive.fails(lab3, 4, "has lost its quorum", "take n3 out of the inventory for one deploy")

    whole = lab3.inventory.read_text(encoding="utf-8")
    fewer = [line for line in whole.splitlines(keepends=True) if not line.startswith("  n3:")]
    lab3.inventory.write_text("".join(fewer), encoding="utf-8")
    drive.fails(lab3, 4, "the deploy did what it had planned", "is in no inventory")
    lab3.inventory.write_text(whole, encoding="utf-8")
    assert drive.get(lab3.nodes[1], "kept") == "yes"
    assert drive.document(lab3, "status")["tolerates"] == 0
    drive.fails(lab3, 4, "n3: was member", "must be replaced, never started")
