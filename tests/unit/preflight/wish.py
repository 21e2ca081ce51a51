"""A cluster, its certificates and hosts that are in good order, for the tests of the preflight."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from etcdctl_remote.desired import service
from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, SshSpec, Version
from etcdctl_remote.observed.state import Data
from etcdctl_remote.pki.generation import Generation
from etcdctl_remote.pki.store import Store
from etcdctl_remote.preflight import facts
from etcdctl_remote.preflight.facts import Facts

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
OUTPUT = Path(__file__).with_name("debian12.txt")
"""What the script really printed on a Debian 12 node with a running member."""


def cluster(nodes: int = 3, prefix: str = "10.226.82.1") -> ClusterSpec:
    """Give a cluster of `nodes` members at 10.226.82.11 and on."""
    members = tuple(
        NodeSpec(f"n{n}", f"{prefix}{n}", f"{prefix}{n}", ssh=SshSpec(user="ops"))
        for n in range(1, nodes + 1)
    )
    wish = ClusterSpec("pre", Version(3, 6, 14), members, Path("/nowhere/inventory.yaml"))
    return replace(wish, service=service.resolve({}))


@cache
def certificates() -> Generation:
    """Issue certificates for it, in memory, as if held; the token is the one in `debian12.txt`."""
    made = Store(Path("/nowhere")).prepare(cluster(), NOW)
    return replace(made, token="0123456789abcdef" * 2, new_authorities=False)


def deployed(node: str = "n1") -> Facts:
    """Read the facts of a node on which our etcd runs."""
    return facts.read(cluster(), node, OUTPUT.read_text(encoding="utf-8"))


def fresh(node: str = "n1") -> Facts:
    """Give a node as the first deploy finds it: nothing of ours, nothing in the way."""
    return replace(
        deployed(node),
        clock=NOW.timestamp(),
        asked_at=NOW.timestamp(),
        user_exists=False,
        unit={"MainPID": "0", "ActiveState": "inactive", "FragmentPath": ""},
        token=None,
        marker=None,
        data=Data.ABSENT,
        listening=(),
        owners={},
        addresses=(("lo", "127.0.0.1/8"), ("eth0", f"10.226.82.1{node[1:]}/24")),
    )
