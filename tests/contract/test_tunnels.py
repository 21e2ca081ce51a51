"""Tunnels carry real bytes both ways, and a forbidding sshd is named."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest

from etcdctl_remote.remote.host import Command, Tunnel
from etcdctl_remote.remote.ssh_host import SshHost
from tests.ports import free_port

from .conftest import Connect, Start

BYTES = bytes(range(256)) * 2000


@pytest.fixture
def echo() -> Iterator[int]:
    """A TCP server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    dialled, _ = server.accept()
                except OSError:
                    return
                with dialled:
                    while data := dialled.recv(65536):
                        dialled.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        port: int = server.getsockname()[1]
        yield port
        server.shutdown(socket.SHUT_RDWR)


def read(tunnel: Tunnel, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = tunnel.recv(65536)
        assert piece, "the tunnel ended early"
        data += piece
    return data


def test_dial_carries_bytes_both_ways(host: SshHost, echo: int) -> None:
    """What goes in comes back."""
    tunnel = host.dial("127.0.0.1", echo, 5)
    tunnel.settimeout(5)
    sender = threading.Thread(target=tunnel.send, args=(BYTES,))
    sender.start()
    assert read(tunnel, len(BYTES)) == BYTES
    sender.join()
    tunnel.settimeout(0.1)
    with pytest.raises(TimeoutError):
        tunnel.recv(1)
    tunnel.close()


def test_dial_to_a_closed_port(host: SshHost) -> None:
    """Nobody listens: ConnectionRefusedError with host and port."""
    port = free_port()
    with pytest.raises(ConnectionRefusedError, match=f"n1: to 127.0.0.1 port {port}"):
        host.dial("127.0.0.1", port, 5)


def test_tls_through_a_tunnel(host: SshHost, echo: int) -> None:
    """A tunnel feeds ssl.MemoryBIO: it needs no file descriptor."""
    tunnel = host.dial("127.0.0.1", echo, 5)
    tunnel.settimeout(5)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="x")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    tunnel.send(outgoing.read())
    incoming.write(tunnel.recv(65536))
    with pytest.raises(ssl.SSLError):  # the echo is our own hello: no server's answer
        client.do_handshake()
    tunnel.close()


def test_listen_back_carries_bytes_both_ways(host: SshHost) -> None:
    """A connection to a port of the host arrives here; two listeners do not mix."""
    listeners = [host.listen_back(), host.listen_back()]
    assert listeners[0].port != listeners[1].port
    for number, listener in enumerate(listeners):
        with socket.create_connection(("127.0.0.1", listener.port), 5) as dialled:
            tunnel = listener.accept(5)
            tunnel.settimeout(5)
            dialled.sendall(b"to us %d" % number)
            assert read(tunnel, 7) == b"to us %d" % number
            tunnel.send(b"back")
            assert dialled.recv(10) == b"back"
            tunnel.close()
            assert dialled.recv(10) == b""
    listeners[0].close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", listeners[0].port), 5)
    with socket.create_connection(("127.0.0.1", listeners[1].port), 5):
        listeners[1].accept(5).close()
    listeners[1].close()


def test_nobody_comes(host: SshHost) -> None:
    """accept ends with TimeoutError."""
    listener = host.listen_back()
    with pytest.raises(TimeoutError, match="nobody connected"):
        listener.accept(0.1)
    listener.close()


def test_forbidden_forwarding_is_named(start: Start, connect: Connect) -> None:
    """AllowTcpForwarding no: both ways raise an OSError that says so, and commands still work."""
    host = connect(start("strict", "AllowTcpForwarding no")).hosts["n1"]
    with pytest.raises(PermissionError, match=r"n1: .*sshd forbids forwarding"):
        host.dial("127.0.0.1", 22, 5)
    with pytest.raises(PermissionError, match="n1: sshd forbids remote forwarding"):
        host.listen_back()
    assert host.run(Command("echo on", root=False, writes=False)).text == "on\n"


def test_a_relay_carries_what_forwarding_may_not(start: Start, connect: Connect, echo: int) -> None:
    """The host's bash connects: bytes go both ways, a closed port is an end, and nothing stays behind."""
    host = connect(start("strict", "AllowTcpForwarding no")).hosts["n1"]
    tunnel = host.relay("127.0.0.1", echo)
    tunnel.settimeout(5)
    tunnel.send(b"\x00binary\xff")
    assert read(tunnel, 8) == b"\x00binary\xff"
    tunnel.close()
    nobody = host.relay("127.0.0.1", free_port())
    nobody.settimeout(5)
    assert nobody.recv(1) == b""
    nobody.close()
    left = Command("! pgrep -f [d]ev/tcp.*$1", (str(echo),), root=False, writes=False)
    deadline = time.monotonic() + 5
    while host.run(left, check=False).exit and time.monotonic() < deadline:
        time.sleep(0.05)
    assert host.run(left, check=False).exit == 0, "the relay lives on"
