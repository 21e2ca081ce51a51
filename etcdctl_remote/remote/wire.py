"""The bytes below SSH: how a server is dialled, how long we wait, how we know that it lives."""

from __future__ import annotations

import re
import socket
import subprocess
from dataclasses import dataclass
from typing import Any

from ..errors import Unreachable
from .ssh_config import Endpoint


@dataclass(frozen=True)
class Patience:
    """How long we wait, in seconds."""

    connect: float = 10.0
    """For the TCP connection, the banner, the key exchange and the login, each."""
    ask_after: float = 3.0
    """Silence after which the peer is asked whether it lives."""
    lost_after: float = 9.0
    """Silence after which it counts as lost, whatever it was doing."""


class Pulse:
    """A socket that counts what arrives: any byte shows that the peer lives."""

    def __init__(self, sock: Any) -> None:
        self.sock, self.seen = sock, 0
        self.settimeout, self.send, self.close = sock.settimeout, sock.send, sock.close

    def recv(self, size: int) -> bytes:
        data: bytes = self.sock.recv(size)
        self.seen += len(data)
        return data

    def getpeername(self) -> Any:
        return self.sock.getpeername()

    @property
    def _closed(self) -> bool:
        """paramiko's stop_thread looks at this attribute of a real socket."""
        return bool(getattr(self.sock, "_closed", getattr(self.sock, "closed", False)))


def dial(server: Endpoint, patience: Patience) -> socket.socket:
    """A connected byte stream to the server: direct, or by ProxyCommand."""
    if server.proxy_command:
        return proxied(server)
    dialled = socket.create_connection((server.host, server.port), patience.connect)
    dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return dialled


def proxied(server: Endpoint) -> socket.socket:
    """Run ProxyCommand with a socket as its standard input and output, as OpenSSH does."""
    words = {"h": server.host, "p": str(server.port), "r": server.user, "n": server.host, "%": "%"}
    line = re.sub("%([hprn%])", lambda found: words[found[1]], server.proxy_command or "")
    ours, theirs = socket.socketpair()
    with theirs:
        subprocess.Popen(["sh", "-c", f"exec {line}"], stdin=theirs.fileno(), stdout=theirs.fileno())  # noqa: S603, S607
    return ours


def mute(server: Endpoint, host: str, patience: Patience, *, greeted: bool) -> Unreachable:
    """Say that somebody accepts the connection, and how far it came."""
    seen = "sshd greets, then says nothing" if greeted else "TCP is accepted, and then nothing is said"
    return Unreachable(
        f"{host}: cannot connect to {server}: {seen} for {patience.connect:g} s",
        "the host is frozen or overloaded (look at its console), or no sshd listens on that port (`ssh.port`); "
        "`ssh.timeout` gives it longer",
    )


def not_connected(error: Exception, server: Endpoint, host: str) -> Unreachable:
    """Say what was tried and seen, and what usually helps."""
    hints = {
        ConnectionRefusedError: "nothing listens there: see that sshd runs, and `ssh.port`",
        TimeoutError: "the host is down, or a firewall drops packets; `ssh.timeout` gives it longer",
        socket.gaierror: "the name does not resolve: mend the address or `host` in the inventory",
        PermissionError: "the jump host does not forward: see AllowTcpForwarding there",
    }
    hint = next((text for kind, text in hints.items() if isinstance(error, kind)), "see that the host is up")
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    if server.proxy_command:
        reason, hint = (
            f"ProxyCommand gave no connection ({reason})",
            f"try it by hand: `{server.proxy_command}`",
        )
    elif "protocol banner" in reason or isinstance(error, (EOFError, ConnectionResetError)):
        reason = "TCP is accepted, and then closed before sshd greets"
        hint = "see `journalctl -u ssh -u sshd` there (MaxStartups, PerSourcePenalties), and `ssh.port`"
    if "protocol version" in reason:
        hint = "what listens there is no sshd: see `ssh.port`"
    return Unreachable(f"{host}: cannot connect to {server}: {reason}", hint)
