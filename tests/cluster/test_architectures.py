"""amd64 and arm64 side by side: each host gets the archive of its own architecture, and it runs."""

from __future__ import annotations

import pytest

from etcdctl_remote.errors import Failed
from etcdctl_remote.lab import machine, releases, variants
from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, each
from tests.conftest import NEWEST

from . import drive

pytestmark = pytest.mark.cluster

KINDS = {"amd64": ("x86_64", "3e00"), "arm64": ("aarch64", "b700")}
"""What `uname -m` says of an architecture, and how an ELF file names its machine."""


def test_a_mixed_cluster(lab3: Lab) -> None:
    """One of three is of the other architecture, its programs run by emulation: quorum, data, no second change."""
    here = machine.arch()
    there = "arm64" if here == "amd64" else "amd64"
    try:
        machine.emulate(there)
        releases.ensure(NEWEST, machine=there)
    except Failed as error:
        pytest.skip(str(error))
    odd = lab3.nodes[0]
    variants.architecture(odd, KINDS[there][0])
    drive.deploy(lab3)
    elf = "od -An -tx1 -j18 -N2 /usr/local/bin/etcd | tr -d ' \n'"
    assert each(lab3.nodes, lambda node: execute(node, elf)) == [
        KINDS[there if node is odd else here][1] for node in lab3.nodes
    ]
    drive.settle_nothing(lab3)
    assert drive.document(lab3, "health")["healthy"] is True
    drive.put(odd, "written", "by emulation")
    assert drive.get(lab3.nodes[1], "written") == "by emulation"
    drive.edit(lab3, settings="{heartbeat-interval: 120}")
    drive.deploy(lab3)
    drive.settle_nothing(lab3)
