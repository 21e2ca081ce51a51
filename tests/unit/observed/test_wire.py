"""What members show on the wire: real TLS servers on this machine, with real certificates."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import PkiSpec
from etcdctl_remote.observed import wire
from etcdctl_remote.observed.state import Served
from etcdctl_remote.observed.tls import Stream, contexts
from etcdctl_remote.observed.wire import active_peers, look, shown
from etcdctl_remote.pki.authority import Credential
from etcdctl_remote.pki.generation import Generation
from etcdctl_remote.pki.profiles import Kind
from etcdctl_remote.pki.store import Store
from etcdctl_remote.remote.tunnels import SshTunnel

from ..preflight.wish import cluster

METRICS = """\
# HELP etcd_network_active_peers The current number of active peer connections.
# TYPE etcd_network_active_peers gauge
etcd_network_active_peers{Local="8211f1d0f64f3269",Remote="91bc3c398fb3c146"} 1
etcd_network_active_peers{Local="8211f1d0f64f3269",Remote="fd422379fda50e48"} 0
# TYPE etcd_server_id gauge
etcd_server_id{server_id="8211f1d0f64f3269"} 1
"""


def issued(days_ago: int = 0) -> Generation:
    wish = replace(cluster(), pki=PkiSpec(leaf_days=90, ca_days=3650))
    return Store(Path("/nowhere")).prepare(wish, datetime.now(UTC) - timedelta(days=days_ago))


OURS, OTHERS = issued(), issued()


def said(body: str, *, chunked: bool = False) -> bytes:
    """An HTTP answer."""
    head = "HTTP/1.1 200 OK\r\n"
    data = body.encode()
    if not chunked:
        return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data
    pieces = [data[at : at + 5000] for at in range(0, len(data), 5000)]
    parts = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces)
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + parts + b"0\r\n\r\n"


@contextmanager
def serving(context: ssl.SSLContext | None, answer: bytes | None, *, abrupt: bool = False) -> Iterator[int]:
    """Answer one connection; None says nothing until the test is over. Without a context not even TLS.

    `abrupt` drops the connection with our request unread.
    """
    over = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            plain, _ = listener.accept()
            with plain:
                if context is None:
                    over.wait(10) if answer is None else plain.sendall(answer)
                    return
                stream = Stream(SshTunnel(plain), context, None, 10)
                try:
                    stream.handshake()
                except ssl.SSLError:
                    plain.shutdown(socket.SHUT_WR)
                    while not abrupt and plain.recv(1 << 14):
                        pass  # what is left unread would turn the alert into a reset
                    return
                stream.receive()
                if answer is None:
                    over.wait(10)
                for at in range(0, len(answer or b""), 8192):
                    stream.send((answer or b"")[at : at + 8192])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        over.set()
        thread.join(10)


@dataclass
class Near:
    """A host whose connections begin on this machine."""

    name: str = "n1"
    ports: dict[int, int] = field(default_factory=dict)
    """Where the servers of a test really listen."""
    dialled: list[tuple[str, int]] = field(default_factory=list)

    def dial(self, address: str, port: int, timeout: float) -> SshTunnel:
        self.dialled.append((address, port))
        return SshTunnel(socket.create_connection(("127.0.0.1", self.ports.get(port, port)), timeout))


def dialled(
    context: ssl.SSLContext | None, answer: bytes | None, own: Credential | None = None
) -> tuple[Served, str]:
    with serving(context, answer) as port:
        return shown(Near(), "127.0.0.1", port, own or OURS.client("n2"), "/version")  # type: ignore[arg-type]


def server(
    generation: Generation = OURS, *, port: str = "client", version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    """n1's side of one of its ports."""
    context = contexts(generation, ["n1"])["n1"].serve[port]
    context.maximum_version = version
    return context


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2])


@VERSIONS
def test_what_is_served_is_seen(version: ssl.TLSVersion) -> None:
    """The certificate and the answer."""
    served, text = dialled(server(version=version), said("hello"))
    assert (served.accepted, served.error, text) == (True, "", "hello")
    assert served.fingerprint == OURS.leaf("n1", Kind.SERVER).fingerprint
    assert not served.refused


@VERSIONS
def test_what_is_served_behind_the_leaf_is_seen(version: ssl.TLSVersion) -> None:
    """The chain as it came, without the leaf; of any CA."""
    own, behind = OURS.credential("n1", Kind.SERVER), OTHERS.authorities.client.certificate
    slot = ("n1", Kind.SERVER)
    longer = Credential(own.certificate_pem + behind, own.key_pem)
    serves = replace(OURS, credentials={**OURS.credentials, slot: longer})
    served, _ = dialled(server(serves, version=version), said("hello"))
    assert (served.carried, served.accepted) == (behind, True)


@VERSIONS
def test_a_refused_certificate_is_told(version: ssl.TLSVersion) -> None:
    """In TLS 1.3 the served one is seen all the same; in 1.2 the refusal is."""
    served, text = dialled(server(version=version), said("hello"), OTHERS.client("n2"))
    assert (served.accepted, text) == (False, "")
    assert "alert" in served.error
    assert served.refused
    if version is ssl.TLSVersion.TLSv1_3:
        assert served.fingerprint == OURS.leaf("n1", Kind.SERVER).fingerprint


def test_the_peer_port_refuses_the_client_certificate() -> None:
    """Another CA."""
    own = OURS.credential("n2", Kind.PEER)
    assert dialled(server(port="peer"), said("x"), own)[0].accepted
    assert dialled(server(port="peer"), said("x"))[0].refused


def test_an_expired_server_certificate_is_seen() -> None:
    """It is taken as it comes, and judged by whoever asked."""
    old = issued(days_ago=100)
    context = server(old)
    context.verify_mode = ssl.CERT_NONE
    served, _ = dialled(context, said("x"))
    assert served.accepted
    leaf = old.leaf("n1", Kind.SERVER)
    assert served.fingerprint == leaf.fingerprint
    assert leaf.not_after < datetime.now(UTC)


def test_a_certificate_of_ours_that_has_expired_is_refused() -> None:
    """That is what makes an expired leaf show."""
    old = issued(days_ago=100)
    served, _ = dialled(server(old), said("x"), old.client("n2"))
    assert served.refused
    assert "expired" in served.error


def test_a_refusal_whose_reason_was_lost_is_one() -> None:
    """The connection was reset before the alert came through: the certificate was seen, no answer was."""
    with serving(server(), said("x"), abrupt=True) as port:
        served, _ = shown(Near(), "127.0.0.1", port, OTHERS.client("n2"), "/version")  # type: ignore[arg-type]
    assert served.refused
    assert served.error


def test_nobody_listens() -> None:
    """Nothing was seen, and that is no refusal of our certificate."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    served, text = shown(Near(), "127.0.0.1", port, OURS.client("n2"), "/version")  # type: ignore[arg-type]
    assert (served, text) == (Served(error="Connection refused"), "")
    assert not served.refused
    assert served.fingerprint == ""


def test_closed_without_an_answer() -> None:
    """The handshake was made and nothing said: not accepted."""
    served, _ = dialled(server(), b"")
    assert (served.accepted, served.error) == (False, "it closed the connection")
    assert served.certificate


def test_closed_before_the_handshake() -> None:
    """Something listens that closes at once."""
    served, _ = dialled(None, b"")
    assert not served.accepted
    assert served.error
    assert not served.refused


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_port_that_speaks_no_tls(answer: bytes) -> None:
    """Another program listens there."""
    served, _ = dialled(None, answer)
    assert not served.accepted
    assert not served.certificate
    assert served.error


def test_an_answer_that_is_not_http() -> None:
    """The certificate was seen, and no more."""
    served, text = dialled(server(), b"220 mail ready\r\n")
    assert (served.error, text) == ("it answers, but not in HTTP", "")
    assert served.certificate


@pytest.mark.parametrize("secure", [True, False])
def test_a_port_that_never_answers(secure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs seconds, not for ever; before and after the handshake."""
    monkeypatch.setattr(wire, "DIAL_SECONDS", 0.2)
    served, _ = dialled(server() if secure else None, None)
    assert (served.accepted, served.error) == (False, "no answer in 0.2 s")
    assert bool(served.certificate) is secure


@pytest.mark.parametrize("chunked", [True, False])
def test_long_answers_are_read_whole(chunked: bool) -> None:
    """Metrics are larger than a TLS record, and etcd sends them in chunks."""
    body = "".join(f"metric_{number} {number}\n" for number in range(9000))
    assert len(body) > 1 << 17
    served, text = dialled(server(), said(body, chunked=chunked))
    assert served.accepted
    assert text == body


def test_a_member_is_dialled_on_both_ports() -> None:
    """From its own host, at the address it binds, each port with the certificate it wants."""
    with (
        serving(server(), said(METRICS, chunked=True)) as client,
        serving(server(port="peer"), said("{}")) as peer,
    ):
        host = Near(ports={2379: client, 2380: peer})
        seen = look(cluster(), OURS, host)  # type: ignore[arg-type]
    assert (seen.client.accepted, seen.peer.accepted) == (True, True)
    assert seen.client.fingerprint == OURS.leaf("n1", Kind.SERVER).fingerprint
    assert seen.peer.fingerprint == OURS.leaf("n1", Kind.PEER).fingerprint
    assert seen.links == frozenset((0x91BC3C398FB3C146,))
    assert host.dialled == [("10.226.82.11", 2379), ("10.226.82.11", 2380)]


def test_a_member_that_is_down_raises_nothing() -> None:
    """What could not be seen says why, port by port."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    seen = look(cluster(), OURS, Near(ports={2379: port, 2380: port}))  # type: ignore[arg-type]
    assert seen.client == seen.peer == Served(error="Connection refused")
    assert seen.links is None


@pytest.mark.parametrize(
    ("text", "links"),
    [
        (METRICS, {0x91BC3C398FB3C146}),
        (METRICS.replace("} 0", "} 1"), {0x91BC3C398FB3C146, 0xFD422379FDA50E48}),
        (METRICS.replace('"} 1', '"} 0'), set()),
        ('etcd_server_id{server_id="8211f1d0f64f3269"} 1\n', set()),
        ("", None),
        ("404 page not found\n", None),
        ("go_goroutines 7\n", None),
    ],
)
def test_links_are_read_from_the_metrics(text: str, links: set[int] | None) -> None:
    """A member alone has none; a page that is not etcd's does not tell."""
    assert active_peers(text) == links


def test_a_failure_of_any_kind_closes_the_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    """An SSH connection has few channels."""
    closed: list[bool] = []
    close: Callable[[SshTunnel], None] = SshTunnel.close

    def note(tunnel: SshTunnel) -> None:
        closed.append(True)
        close(tunnel)

    monkeypatch.setattr(SshTunnel, "close", note)
    dialled(server(), said("x"))
    dialled(server(), said("x"), OTHERS.client("n2"))
    dialled(None, b"")
    assert closed == [True] * 3
