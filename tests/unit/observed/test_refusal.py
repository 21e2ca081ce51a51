"""Whether a port takes a certificate: an answer, a refusal, and silence are three things."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from etcdctl_remote.observed import refusal
from etcdctl_remote.observed.refusal import Protocol, Taken, taken
from etcdctl_remote.observed.tls import Stream, contexts
from etcdctl_remote.pki.profiles import Kind
from etcdctl_remote.remote.tunnels import SshTunnel

from ..preflight.wish import certificates

HELD = certificates()
SERVE = contexts(HELD, ["n1"])["n1"].serve
SETTINGS = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00"

Behave = Callable[[Stream], None]


class Port:
    """A host whose only port behaves as it is told once the handshake is made."""

    name = "n1"

    def __init__(self, behave: Behave | None, kind: str = "client") -> None:
        self.behave, self.kind = behave, kind
        self.done = threading.Event()

    def dial(self, address: str, port: int, timeout: float) -> Any:
        if self.behave is None:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = (SshTunnel(end) for end in socket.socketpair())
        threading.Thread(target=self._serve, args=(theirs,), daemon=True).start()
        return ours

    def _serve(self, tunnel: SshTunnel) -> None:
        assert self.behave
        with suppress(OSError, EOFError):
            stream = Stream(tunnel, SERVE[self.kind], None, 5)
            stream.handshake()
            self.behave(stream)
        tunnel.close()


def asked(behave: Behave | None, protocol: Protocol = "http/1.1", kind: str = "client") -> Taken:
    host: Any = Port(behave, kind)
    return taken(host, "10.0.0.1", 2379, HELD.credential("n1", Kind.CLIENT), protocol)


def says(data: bytes) -> Behave:
    def behave(stream: Stream) -> None:
        stream.receive()
        stream.send(data)

    return behave


def closes(stream: Stream) -> None:
    """As etcd does with what is revoked."""


@pytest.mark.parametrize(("protocol", "answer"), [("http/1.1", b"HTTP/1.1 200 OK\r\n\r\n"), ("h2", SETTINGS)])
def test_an_answer_is_an_answer(protocol: Protocol, answer: bytes) -> None:
    """In HTTP any status, in gRPC the server's settings."""
    assert asked(says(answer), protocol).accepted is True


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_a_close_after_the_handshake_is_a_refusal(protocol: Protocol) -> None:
    """etcd looks at the list only then."""
    assert asked(closes, protocol).accepted is False


def test_an_alert_is_a_refusal() -> None:
    """The peer port does not trust the CA for clients."""
    assert asked(says(b"HTTP/1.1 200 OK\r\n\r\n"), kind="peer").accepted is False


def test_silence_and_what_is_not_understood_are_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy member must not pass for one that refuses."""
    monkeypatch.setattr(refusal, "DIAL_SECONDS", 0.2)
    over = threading.Event()

    def silent(stream: Stream) -> None:
        over.wait(5)

    try:
        assert asked(silent) == Taken(None, "it did not answer in time")
    finally:
        over.set()
    assert asked(says(b"SSH-2.0-x\r\n")).accepted is None
    assert asked(None) == Taken(None, "cannot be dialled: Connection refused")


def test_what_ends_before_the_handshake_tells_nothing() -> None:
    """Something else may listen there."""

    class Rude(Port):
        def _serve(self, tunnel: SshTunnel) -> None:
            tunnel.close()

    host: Any = Rude(closes)
    own = HELD.credential("n1", Kind.CLIENT)
    assert taken(host, "10.0.0.1", 2379, own, "h2").accepted is None
