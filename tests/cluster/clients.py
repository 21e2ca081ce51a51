"""What the applications that write through a rotation have seen and lost, and who takes them."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Mapping
from pathlib import Path

from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab
from etcdctl_remote.lab.writer import Client, Seen, equip, trust, writing

__all__ = ["accepted", "equip", "lost", "told", "trust", "writing"]

REFUSALS = {"TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE"}
"""What a member says to a certificate of a CA that it does not trust. All else is no answer."""


def told(found: Mapping[str, Seen]) -> str:
    """Say in one line what was written, for whoever reads the run."""
    return "; ".join(
        f"{mode} {len(seen.acked)} writes, {len(seen.retried)} tried again, {len(seen.failed)} failed, "
        f"longest gap {seen.longest_gap:.2f} s"
        for mode, seen in found.items()
    )


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


def accepted(lab: Lab, folder: Path) -> dict[str, bool]:
    """Tell which members take the client in a folder; one that just starts is waited for."""
    return {node.name: _takes(f"https://{node.address}:2379", folder) for node in lab.nodes}


def _takes(url: str, folder: Path) -> bool:
    client, deadline = Client(folder, "fresh", []), time.monotonic() + 30
    while True:
        try:
            client.put(url, "probe", "1")
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, ssl.SSLError) and error.reason in REFUSALS:
                return False
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return True
