"""What the applications that write through a rotation have lost."""

from __future__ import annotations

from collections.abc import Mapping

from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab
from etcdctl_remote.lab.writer import Client, Seen, equip, writing

__all__ = ["Client", "equip", "lost", "writing"]


def lost(lab: Lab, found: Mapping[str, Seen]) -> list[str]:
    """Return the acknowledged writes that some member does not have."""
    missing = []
    for node in lab.nodes:
        for mode, seen in found.items():
            text = execute(node, f"etcdctl.sh get --prefix {mode}/").split()
            held = dict(zip(text[::2], text[1::2], strict=True))
            missing += [
                f"{node.name}: {mode}/{number}"
                for number, _ in seen.acked
                if held.get(f"{mode}/{number}") != str(number)
            ]
    return missing
