"""Inventories and certificates that several tests share; the certificates are made-up bytes."""

from __future__ import annotations

from pathlib import Path

from etcdctl_remote.desired import inventory
from etcdctl_remote.desired.hostspec import Pki
from etcdctl_remote.desired.model import ClusterSpec
from etcdctl_remote.secret import Secret

PLAIN = """
cluster: demo
version: "{version}"
nodes: {{n1: 10.0.0.11, n2: 10.0.0.12, n3: 10.0.0.13}}
"""


def wish(text: str = PLAIN, version: str = "3.6.14", extra: str = "") -> ClusterSpec:
    """Parse an inventory, the three plain nodes if nothing else is said."""
    return inventory.parse(
        text.replace("{version}", version).replace("{{", "{").replace("}}", "}") + extra, HERE
    )


HERE = Path("/somewhere/inventory.yaml")


def pki(**changed: bytes) -> Pki:
    """Make up a node's files: `server_crt=b"x"` changes server.crt."""
    names = ("ca.crt", "server.crt", "peer-ca.crt", "peer.crt", "etcdctl.crt")
    found: dict[str, bytes | Secret] = {name: f"certificate {name}\n".encode() for name in names}
    found |= {name: Secret(f"key {name}\n".encode()) for name in ("server.key", "peer.key", "etcdctl.key")}
    for word, content in changed.items():
        name = word.replace("peer_ca", "peer-ca").replace("_", ".")
        found[name] = Secret(content) if name.endswith(".key") else content
    return found
