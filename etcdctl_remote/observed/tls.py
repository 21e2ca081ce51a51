"""TLS over SSH tunnels: the handshakes etcd will make, made from here with the same certificates."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..pki.authority import Credential
from ..pki.generation import Generation
from ..remote.host import Tunnel
from ..secret import Secret

T = TypeVar("T")

REQUEST = b"GET /version HTTP/1.1\r\nHost: probe\r\n\r\n"
"""What both etcd's ports answer without a quorum, the peer port too."""
_CHAIN, _DER = "get_unverified_chain", 2
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Contexts:
    """One node's four roles: it serves and dials on both ports."""

    serve: Mapping[str, ssl.SSLContext]
    """By `client` and `peer`: the port's server side."""
    dial: Mapping[str, ssl.SSLContext]


def contexts(generation: Generation, nodes: Iterable[str]) -> dict[str, Contexts]:
    """Load every node's certificates, as etcd on that node will use them."""
    return {
        node: _contexts(_trusting_stand_ins(generation, node), _presented(generation, node)) for node in nodes
    }


def _trusting_stand_ins(generation: Generation, node: str) -> dict[str, bytes | Secret]:
    """What is not signed yet shakes hands all the same: it is the network that is looked at."""
    trust = {"ca.crt": generation.ca_bundle, "peer-ca.crt": generation.peer_ca_bundle}
    return {
        **generation.node_files(node),
        **{name: bundle + generation.stand_in_trust for name, bundle in trust.items()},
    }


def _presented(generation: Generation, node: str) -> dict[str, bytes | Secret]:
    """What a dialler shows in the place of stand-ins, if it has anything: a member that runs knows that."""
    files: dict[str, bytes | Secret] = {}
    for (name, kind), credential in generation.present.items():
        if name == node:
            files |= {f"{kind.stem}.crt": credential.certificate_pem, f"{kind.stem}.key": credential.key_pem}
    return files


def _contexts(files: Mapping[str, bytes | Secret], presented: Mapping[str, bytes | Secret]) -> Contexts:
    """etcd's client port shows `server`, etcdctl shows `etcdctl`; peers show `peer` both ways."""
    server, client = ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT
    shown = {**files, **presented}
    return Contexts(
        serve={
            "client": _context(server, files, "server", "ca.crt"),
            "peer": _context(server, files, "peer", "peer-ca.crt"),
        },
        dial={
            "client": _context(client, shown, "etcdctl", "ca.crt"),
            "peer": _context(client, shown, "peer", "peer-ca.crt"),
        },
    )


def _context(protocol: int, files: Mapping[str, bytes | Secret], stem: str, ca: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=_bytes(files[ca]).decode())
    context.set_alpn_protocols(["http/1.1"])
    with _file(_bytes(files[f"{stem}.crt"]) + _bytes(files[f"{stem}.key"])) as pair:
        context.load_cert_chain(pair)
    return context


def offering(own: Credential | None) -> ssl.SSLContext:
    """Be a client that shows `own`, or none, and takes any certificate: for looking at what is served."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    if own is None:
        return context
    with _file(own.certificate_pem + own.key_pem.reveal) as pair:
        context.load_cert_chain(pair)
    return context


@contextmanager
def _file(content: bytes) -> Iterator[Path]:
    """Name a file with this content: the ssl module reads keys from files only.

    Where the system can, it lies in memory, so that not even a killed run leaves a key behind;
    elsewhere in a private directory for a moment.
    """
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        with os.fdopen(os.memfd_create("pair"), "wb") as stream:
            stream.write(content)
            stream.flush()
            yield Path(f"/proc/self/fd/{stream.fileno()}")
        return
    with tempfile.TemporaryDirectory(prefix="etcdctl-remote-") as private:
        pair = Path(private, "pair.pem")
        pair.touch(0o600)
        pair.write_bytes(content)
        yield pair


def _bytes(content: bytes | Secret) -> bytes:
    return content.reveal if isinstance(content, Secret) else content


class Stream:
    """One TLS connection over a tunnel. Raises ssl.SSLError, TimeoutError and OSError."""

    def __init__(self, tunnel: Tunnel, context: ssl.SSLContext, host: str | None, timeout: float) -> None:
        """With `host` we are the client and want the server's certificate to name it."""
        self.tunnel = tunnel
        self.tunnel.settimeout(timeout)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=host is None, server_hostname=host)

    def handshake(self) -> None:
        """Make the handshake, our own checks of the other side's certificate included."""
        self._pump(self._tls.do_handshake)

    @property
    def certificate(self) -> bytes | None:
        """The other side's certificate (DER), once the handshake is made."""
        return self._tls.getpeercert(binary_form=True)

    @property
    def chain(self) -> tuple[bytes, ...] | None:
        """All that the other side showed (DER), its own first; None where this Python cannot tell.

        Before 3.13 only the object inside has it, and returns objects instead of bytes.
        """
        inner = getattr(self._tls, "_sslobj", None)
        told = getattr(self._tls, _CHAIN, None) or getattr(inner, _CHAIN, None)
        shown = told() if told else None
        if shown is None:
            return None
        return tuple(one if isinstance(one, bytes) else one.public_bytes(_DER) for one in shown)

    def send(self, data: bytes) -> None:
        """Send all of a short message."""
        self._pump(lambda: self._tls.write(data))

    def receive(self) -> bytes:
        """Receive what comes next; empty if the other side has closed.

        In TLS 1.3 it is only here that a client learns whether the server took its certificate.
        """
        try:
            return self._pump(lambda: self._tls.read(1 << 14))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def _pump(self, call: Callable[[], T]) -> T:
        while True:
            try:
                done = call()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except ssl.SSLError:
                with suppress(OSError, EOFError):
                    self._flush()  # the alert that tells the other side why
                raise
            else:
                self._flush()
                return done

    def _flush(self) -> None:
        if self._out.pending:
            self.tunnel.send(self._out.read())

    def _fill(self) -> None:
        data = self.tunnel.recv(1 << 16)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()


def answer(tunnel: Tunnel, context: ssl.SSLContext, timeout: float) -> None:
    """Be the server for one connection: handshake, read the request, answer it."""
    stream = Stream(tunnel, context, None, timeout)
    with suppress(OSError, EOFError):  # the dialler sees and tells the same
        stream.handshake()
        if stream.receive():
            stream.send(ANSWER)


def call(tunnel: Tunnel, context: ssl.SSLContext, host: str, timeout: float) -> None:
    """Be the client: handshake for `host`, ask, get an answer. ConnectionError if there is none."""
    stream = Stream(tunnel, context, host, timeout)
    stream.handshake()
    stream.send(REQUEST)
    if not stream.receive().startswith(b"HTTP/1."):
        raise ConnectionResetError("the connection was closed after the TLS handshake")
