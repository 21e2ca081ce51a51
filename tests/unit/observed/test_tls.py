"""Handshakes over a tunnel, with real certificates on both ends."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from etcdctl_remote.observed.tls import Stream, answer, call, contexts
from etcdctl_remote.pki.store import Store
from etcdctl_remote.remote.tunnels import SshTunnel

from ..preflight.wish import NOW, certificates, cluster

ROLES = contexts(certificates(), ["n1", "n2"])


def meet(serve: ssl.SSLContext, dial: ssl.SSLContext, host: str) -> None:
    """Let a client call a server; raise what the client sees."""
    ours, theirs = (SshTunnel(end) for end in socket.socketpair())

    def server() -> None:
        answer(theirs, serve, 5)
        theirs.close()

    thread = threading.Thread(target=server, daemon=True)
    thread.start()
    try:
        call(ours, dial, host, 5)
    finally:
        ours.close()
        thread.join(5)


@pytest.mark.parametrize("kind", ["client", "peer"])
def test_the_right_certificates_shake_hands(kind: str) -> None:
    """n2 dials n1 under n1's address, on either port; both ends take the other's certificate."""
    server = ROLES["n1"].serve[kind]
    before = server.session_stats()["accept_good"]
    meet(server, ROLES["n2"].dial[kind], "10.226.82.11")
    assert server.session_stats()["accept_good"] == before + 1


def test_a_server_at_another_address_is_found_out() -> None:
    """n1 answering where n2 is expected: the certificate is for somebody else."""
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        meet(ROLES["n1"].serve["peer"], ROLES["n2"].dial["peer"], "10.226.82.12")


def test_the_client_certificate_does_not_open_the_peer_port() -> None:
    """Separate CAs: whoever may use the database may not speak raft."""
    files = ROLES["n2"].dial
    with pytest.raises((ssl.SSLError, ConnectionError)):
        meet(ROLES["n1"].serve["peer"], files["client"], "10.226.82.11")


def test_another_clusters_client_is_turned_away() -> None:
    """In TLS 1.3 the client learns it only after its own handshake is done."""
    other = Store(Path("/elsewhere")).prepare(cluster(), NOW)
    loose = contexts(other, ["n2"])["n2"].dial["peer"]
    loose.check_hostname = False
    loose.verify_mode = ssl.CERT_NONE
    with pytest.raises((ssl.SSLError, ConnectionError)):
        meet(ROLES["n1"].serve["peer"], loose, "10.226.82.11")


def test_a_server_that_says_nothing_is_a_timeout() -> None:
    """A live etcd that waits for its quorum takes connections and does not answer."""
    ours, _theirs = (SshTunnel(end) for end in socket.socketpair())
    with pytest.raises(TimeoutError):
        call(ours, ROLES["n1"].dial["client"], "10.226.82.11", 0.1)


def test_a_closed_connection_is_no_answer() -> None:
    """The end of the stream after the handshake is told as such."""
    ours, theirs = (SshTunnel(end) for end in socket.socketpair())
    theirs.close()
    stream = Stream(ours, ROLES["n1"].dial["client"], "10.226.82.11", 1)
    with pytest.raises((ssl.SSLError, OSError)):
        stream.handshake()


@pytest.mark.parametrize("memory", [True, False])
def test_keys_lie_on_disk_for_a_moment_only(
    memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at all where files can lie in memory; else the private directory is gone afterwards."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none" if memory else tmp_path))
    if not memory:
        monkeypatch.delattr("os.memfd_create", raising=False)
    contexts(certificates(), ["n3"])
    assert list(tmp_path.iterdir()) == []
