"""Whether a port takes a certificate: a new connection, in the words of each protocol it speaks.

etcd looks at its list of revoked certificates after the handshake, and closes without a word. So a
certificate is refused if the server showed its own, and then ended instead of answering; silence is
neither an answer nor a refusal.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from ..pki.authority import Credential
from ..remote.host import Host
from .tls import Stream, offering
from .wire import DIAL_SECONDS, reached

Protocol = Literal["h2", "http/1.1"]
"""gRPC speaks HTTP/2, all else HTTP/1.1; etcd parts them after the handshake."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_GET = b"GET /version HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Taken:
    """How a port received a certificate."""

    accepted: bool | None
    """None: it can't be told."""
    seen: str


def taken(host: Host, address: str, port: int, own: Credential, protocol: Protocol) -> Taken:
    """Dial a port from `host` and show `own`."""
    try:
        tunnel = reached(host, address, port)
    except OSError as failure:
        return Taken(None, f"cannot be dialled: {failure.strerror or failure}")
    context = offering(own)
    context.set_alpn_protocols([protocol])
    try:
        stream = Stream(tunnel, context, address, DIAL_SECONDS)
        return _received(stream, protocol)
    finally:
        with suppress(OSError, EOFError):
            tunnel.close()


def _received(stream: Stream, protocol: Protocol) -> Taken:
    shown = False
    try:
        stream.handshake()
        shown = True
        stream.send(_PREFACE + _SETTINGS if protocol == "h2" else _GET)
        text = stream.receive()
    except TimeoutError:
        return Taken(None, "it did not answer in time")
    except ssl.SSLError as failure:
        alert = "ALERT" in (failure.reason or "")
        return Taken(
            False if alert or shown else None, (failure.reason or str(failure)).lower().replace("_", " ")
        )
    except (OSError, EOFError) as failure:
        return Taken(False if shown else None, str(failure) or "the connection was closed")
    if not text:
        return Taken(False, "closed without an answer")
    if text.startswith(b"HTTP/1.") or (protocol == "h2" and text[3:4] == b"\x04"):
        return Taken(True, "answered")
    return Taken(None, "it answered something unknown")
