"""What a port shows to a new connection: real handshakes, over a pair of sockets."""

from __future__ import annotations

import socket
import ssl
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache

from etcdctl_remote.observed.state import Served
from etcdctl_remote.observed.tls import answer, contexts
from etcdctl_remote.observed.wire import look
from etcdctl_remote.pki.authority import Credential
from etcdctl_remote.pki.generation import Generation, begin, renewed
from etcdctl_remote.pki.inspect import read_leaf
from etcdctl_remote.pki.profiles import Kind
from etcdctl_remote.remote.host import Host, Tunnel
from etcdctl_remote.remote.tunnels import SshTunnel
from tests.unit.operations.here import Canned, session

from .sights import CLUSTER


@cache
def generation() -> Generation:
    """Certificates that are good today: both ends of a handshake look at their clocks."""
    now = datetime.now(UTC)
    return renewed(begin(CLUSTER, now), CLUSTER, now)


@dataclass
class Serving(Canned):
    """A host whose member serves both ports with its own certificates."""

    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3

    def dial(self, address: str, port: int, timeout: float) -> Tunnel:
        ours, theirs = (SshTunnel(end) for end in socket.socketpair())
        serve = contexts(generation(), ["n1"])["n1"].serve["client" if port == 2379 else "peer"]
        serve.maximum_version = self.newest

        def member() -> None:
            answer(theirs, serve, 5)
            theirs.close()

        threading.Thread(target=member, daemon=True).start()
        return ours


@dataclass
class Closed(Canned):
    """A host on which nobody listens."""

    def dial(self, address: str, port: int, timeout: float) -> Tunnel:
        raise ConnectionRefusedError(111, "Connection refused")


def host(one: Canned) -> Host:
    return session(one).fleet.hosts["n1"]


def shown(kind: Kind) -> str:
    return generation().leaf("n1", kind).fingerprint


def fingerprint(served: Served) -> str:
    return read_leaf(served.certificate).fingerprint


def mismatched() -> Generation:
    """A laptop whose client key belongs to another node's certificate."""
    held, slot = generation(), ("n1", Kind.CLIENT)
    pair = Credential(held.client("n1").certificate_pem, held.client("n2").key_pem)
    leaf = read_leaf(pair.certificate_pem, pair.key_pem)
    return replace(held, credentials={**held.credentials, slot: pair}, leaves={**held.leaves, slot: leaf})


def test_a_member_that_takes_us() -> None:
    """Both ports show their own certificate, and answer."""
    wire = look(CLUSTER, generation(), host(Serving("n1")))
    assert (fingerprint(wire.client), fingerprint(wire.peer)) == (shown(Kind.SERVER), shown(Kind.PEER))
    assert wire.client.accepted
    assert wire.peer.accepted
    assert wire.client.error == wire.peer.error == ""


def test_without_a_certificate_of_ours() -> None:
    """TLS 1.3 shows the server's first: it is seen, and that we are turned away."""
    wire = look(CLUSTER, None, host(Serving("n1")))
    assert (fingerprint(wire.client), fingerprint(wire.peer)) == (shown(Kind.SERVER), shown(Kind.PEER))
    assert not wire.client.accepted
    assert "alert" in wire.client.error


def test_a_key_of_another_certificate_hides_nothing() -> None:
    """It is not shown, for no handshake would begin; the other port is not concerned."""
    wire = look(CLUSTER, mismatched(), host(Serving("n1")))
    assert fingerprint(wire.client) == shown(Kind.SERVER)
    assert (wire.client.accepted, wire.peer.accepted) == (False, True)


def test_tls_1_2_shows_nothing_to_a_stranger() -> None:
    """There the handshake is not done before our certificate was judged: it says so."""
    wire = look(CLUSTER, None, host(Serving("n1", newest=ssl.TLSVersion.TLSv1_2)))
    assert wire.client.certificate == b""
    assert wire.client.error
    assert look(CLUSTER, generation(), host(Serving("n1", newest=ssl.TLSVersion.TLSv1_2))).client.accepted


def test_a_closed_port() -> None:
    """The reason, and no exception."""
    wire = look(CLUSTER, generation(), host(Closed("n1")))
    assert wire.client == wire.peer == Served(error="Connection refused")
