"""Ports for servers that tests start."""

from __future__ import annotations

import random
import socket

FIRST, LAST = 20000, 32000
"""Below the ports that the kernel takes for outgoing connections: none of those gets there first."""


def free_port() -> int:
    """Name a TCP port of loopback where nobody listens."""
    while True:
        port = random.randint(FIRST, LAST)  # noqa: S311 (no secret)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
