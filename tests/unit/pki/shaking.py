"""Shake hands in memory, as strictly as OpenSSL can."""

from __future__ import annotations

import ssl
from pathlib import Path

from etcdctl_remote.pki.authority import Credential


def shake(
    folder: Path, server: Credential, trust: bytes, name: str, client: Credential | None, roots: bytes
) -> tuple[str, str]:
    """The listener demands a certificate of `trust`, the dialler dials `name` and trusts `roots`.

    Returns whom each end saw: the common name in the listener's certificate, and in the dialler's.
    """
    listener = _context(ssl.PROTOCOL_TLS_SERVER, folder / "server", server, trust)
    listener.verify_mode = ssl.CERT_REQUIRED
    dialler = _context(ssl.PROTOCOL_TLS_CLIENT, folder / "client", client, roots)
    return _pump(listener, dialler, name)


def _context(protocol: int, place: Path, own: Credential | None, trust: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=trust.decode())
    if own:
        place.write_bytes(own.certificate_pem + own.key_pem.reveal)
        context.load_cert_chain(place)
    return context


def _pump(listener: ssl.SSLContext, dialler: ssl.SSLContext, name: str) -> tuple[str, str]:
    """Carry bytes between both ends until each has finished; raise what either raises."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = listener.wrap_bio(up, down, server_side=True)
    client = dialler.wrap_bio(down, up, server_hostname=name)
    waiting = {server, client}
    for _ in range(10):
        for end in (client, server):
            try:
                end.do_handshake()
                waiting.discard(end)
            except ssl.SSLWantReadError:
                continue
    assert not waiting, "the handshake never ended"
    return _common_name(client), _common_name(server)


def _common_name(end: ssl.SSLObject) -> str:
    """Return the common name in the certificate that one end was shown by the other."""
    shown = end.getpeercert()
    assert shown
    names = [value for part in shown["subject"] for key, value in part if key == "commonName"]  # type: ignore[str-unpack]
    return str(*names)
