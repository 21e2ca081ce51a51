"""TCP connections through an SSH connection: from the host outwards, and from the host to us."""

from __future__ import annotations

import queue
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .host import Tunnel

if TYPE_CHECKING:
    from .connection import Link


RELAY_SECONDS = 30
"""A relay ends by itself after this time, whatever became of us."""

_RELAY = r"""
exec 4<>"/dev/tcp/$0/$1" || exit 1
cat <&4 & answers=$!
cat >&4
kill $answers
"""


def relaying(address: str, port: int) -> tuple[str, ...]:
    """Return the program that carries a TCP connection over its standard input and output.

    For hosts whose sshd forbids forwarding: whoever may run commands there may connect from there.
    """
    return ("timeout", str(RELAY_SECONDS), "bash", "-c", _RELAY, address, str(port))


class TunnelChannel(Protocol):
    """What we use of a forwarded TCP connection."""

    def sendall(self, s: bytes) -> None: ...
    def recv(self, nbytes: int) -> bytes: ...
    def settimeout(self, timeout: float | None) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class SshTunnel:
    """A TCP connection made by the host, as bytes; see `Tunnel`."""

    channel: TunnelChannel

    def send(self, data: bytes) -> None:
        self.channel.sendall(data)

    def recv(self, size: int) -> bytes:
        return self.channel.recv(size)

    def settimeout(self, seconds: float) -> None:
        self.channel.settimeout(seconds)

    def close(self) -> None:
        self.channel.close()


class SshListener:
    """A port of the host whose connections come to us; see `Listener`."""

    def __init__(self, link: Link, address: str) -> None:
        self._link, self._address = link, address
        self._arrived: queue.Queue[TunnelChannel] = queue.Queue()
        self.port = link.listen(address, self._arrived.put)

    def accept(self, timeout: float) -> Tunnel:
        """The next connection; TimeoutError if none comes."""
        try:
            return SshTunnel(self._arrived.get(timeout=timeout))
        except queue.Empty as empty:
            raise TimeoutError(
                f"{self._link.host}: nobody connected to port {self.port} in {timeout:g} s"
            ) from empty

    def close(self) -> None:
        """Stop listening and drop what nobody accepted."""
        self._link.unlisten(self._address, self.port)
        while not self._arrived.empty():
            self._arrived.get_nowait().close()
