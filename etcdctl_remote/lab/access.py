"""A lab's files: the SSH key, the nodes' host keys, an inventory that works at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from . import releases

if TYPE_CHECKING:
    from .model import Lab, Node


def make_key(folder: Path) -> None:
    """Make a fresh ed25519 key pair; the folder is the owner's alone."""
    from cryptography.hazmat.primitives import serialization as ser
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.OpenSSH, ser.NoEncryption())
    public = key.public_key().public_bytes(ser.Encoding.OpenSSH, ser.PublicFormat.OpenSSH)
    path = folder / "id_ed25519"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private)
    (folder / "id_ed25519.pub").write_bytes(public + b" etcdctl-remote-lab\n")


def write_known_hosts(lab: Lab, keys: Mapping[Node, str]) -> None:
    """Write the keys that the nodes themselves showed, so that strict checking just works."""
    lines = []
    for node, text in keys.items():
        names = ",".join(filter(None, [node.address, node.address6]))
        lines += [f"{names} {' '.join(line.split()[:2])}" for line in sorted(text.splitlines())]
    lab.known_hosts.write_text("\n".join(lines) + "\n", encoding="ascii")


def write_inventory(lab: Lab, version: str) -> None:
    """Write the inventory of the whole lab."""
    lab.inventory.write_text(inventory(lab, version), encoding="utf-8")


def inventory(lab: Lab, version: str) -> str:
    """The inventory's text: the smallest that works.

    A container without CAP_SYS_RESOURCE needs no `service:` overrides: systemd 252 and 257 give
    etcd the closest LimitNOFILE they may, and skip a negative OOMScoreAdjust (measured).
    """
    jump = f", jump: ops@{lab.jump.address}" if lab.jump else ""
    lines = [
        f"# Written by `invoke lab.up --name {lab.name}`.",
        f"cluster: {lab.name}",
        f'version: "{version}"',
        f"ssh: {{user: ops, key: {lab.key}, known_hosts: {lab.known_hosts}{jump}}}",
        "nodes:",
        *(f"  {node.name}: {node.address}" for node in lab.nodes),
        "release:",
        f'  archive: "{releases.pattern()}"',
    ]
    return "\n".join(lines) + "\n"
