"""What members show on the wire: a new TLS connection to each port, dialled from the member's own host.

Files on a disk say what will be shown; only a connection says what is. The served certificate is
taken as it comes and judged afterwards, so that an expired or a wrong one can be named.
"""

from __future__ import annotations

import http.client
import io
import re
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..desired.model import ClusterSpec
from ..pki.authority import Credential
from ..pki.generation import Generation, Slot
from ..pki.profiles import Kind
from ..remote.host import Host, Tunnel
from .state import Served, Wire
from .tls import Stream, offering

DIAL_SECONDS = 3.0
"""Seconds for the connection, and again for the handshake: all is on one host."""

_LIMIT = 8 << 20
_ACTIVE = re.compile(r'^etcd_network_active_peers\{Local="\w+",Remote="(\w+)"\} (\d+)', re.M)
CLOSED = "it closed the connection"
"""The error where the other side went away without a word."""
_REQUEST = "GET {path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n"


def look(cluster: ClusterSpec, generation: Generation | None, host: Host) -> Wire:
    """Dial both ports of a member with the certificates the laptop holds for its node, if it does.

    Never raises: what could not be seen says why.
    """
    node = cluster.node(host.name)
    own = {kind: _own(generation, (node.name, kind)) for kind in (Kind.CLIENT, Kind.PEER)}
    client, text = shown(host, node.bind, cluster.ports.client, own[Kind.CLIENT], "/metrics")
    peer, _ = shown(host, node.bind, cluster.ports.peer, own[Kind.PEER], "/version")
    return Wire(client, peer, active_peers(text))


def _own(generation: Generation | None, slot: Slot) -> Credential | None:
    """Choose what to show; nothing where the key is another certificate's, which no handshake takes."""
    if generation is None or slot not in generation.leaves:
        return None
    return None if generation.leaves[slot].key_matches is False else generation.credentials.get(slot)


def shown(host: Host, address: str, port: int, own: Credential | None, path: str) -> tuple[Served, str]:
    """Dial a port from `host` with the certificate `own`: what it shows, and what it answers to a GET.

    A server that refuses `own`, or that it is given none, shows its certificate all the same in TLS
    1.3, where it comes first; in TLS 1.2 its refusal is all that is seen.
    """
    pem, carried, text, error = b"", None, "", ""
    try:
        tunnel = reached(host, address, port)
    except OSError as failure:
        return Served(error=str(failure.strerror or failure) or type(failure).__name__), ""
    try:
        stream = Stream(tunnel, offering(own), address, DIAL_SECONDS)
        stream.handshake()
        pem, carried = _pem(stream.certificate or b""), _behind(stream.chain)
        _ask(stream, path)
        text = _answer(stream)
    except ssl.SSLError as failure:
        error = (failure.reason or str(failure)).lower().replace("_", " ")
    except http.client.RemoteDisconnected:
        error = CLOSED
    except http.client.HTTPException:
        error = "it answers, but not in HTTP"
    except TimeoutError:
        error = f"no answer in {DIAL_SECONDS:g} s"
    except (OSError, EOFError) as failure:
        error = str(failure) or CLOSED
    finally:
        with suppress(OSError, EOFError):
            tunnel.close()
    return Served(pem, not error, error, carried), text


def _behind(chain: Sequence[bytes] | None) -> bytes | None:
    return None if chain is None else b"".join(map(_pem, chain[1:]))


def _pem(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).encode()


def reached(host: Host, address: str, port: int) -> Tunnel:
    """Connect from the host: through its sshd, or where that forbids it by a program there."""
    try:
        return host.dial(address, port, DIAL_SECONDS)
    except PermissionError:
        return host.relay(address, port)


def _ask(stream: Stream, path: str) -> None:
    """Send a request; where the other side has closed by then, what it said before is still to be read."""
    try:
        stream.send(_REQUEST.format(path=path).encode())
    except (ssl.SSLError, TimeoutError):
        raise
    except OSError:
        return


class _Incoming(io.RawIOBase):
    """A TLS stream as the standard library reads HTTP from one."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._rest = stream, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._rest or self._stream.receive()
        given, self._rest = data[: len(view)], data[len(view) :]
        view[: len(given)] = given
        return len(given)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)


def _answer(stream: Stream) -> str:
    """Read the body of an HTTP answer; ConnectionError if there is none: the other side turned us away."""
    response = http.client.HTTPResponse(_Incoming(stream))  # type: ignore[arg-type]
    response.begin()
    return response.read(_LIMIT).decode("utf-8", "replace")


def active_peers(metrics: str) -> frozenset[int] | None:
    """Read from a member's metrics to which peers its links stand; None if it does not tell."""
    found: Mapping[str, str] = dict(_ACTIVE.findall(metrics))
    if not metrics or "etcd_server_id" not in metrics:
        return None
    return frozenset(int(peer, 16) for peer, active in found.items() if active != "0")
