"""Our certificates against etcd itself: one member on loopback, of each release that is at hand."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, Version
from etcdctl_remote.lab.releases import FOR_TESTS
from etcdctl_remote.pki.authority import Credential
from etcdctl_remote.pki.generation import Generation
from etcdctl_remote.pki.profiles import Kind
from etcdctl_remote.pki.store import Store
from etcdctl_remote.secret import Secret
from tests.conftest import Release
from tests.ports import free_port

pytestmark = pytest.mark.contract

START_SECONDS = 20.0
# n1 cannot be resolved on this machine, and n2 is at another address than its traffic comes from.
NODES = (
    NodeSpec("n1", "127.0.0.1", address="127.0.0.1"),
    NodeSpec("n2", "192.0.2.2", address="192.0.2.2", names=("n2.invalid",)),
)


@dataclass(frozen=True)
class Member:
    """A running etcd with n1's certificates."""

    programs: Path
    pki: Path
    generation: Generation
    client_port: int
    peer_port: int
    metrics_port: int

    def ask(
        self,
        port: int,
        path: str,
        own: Credential | None,
        trust: bytes,
        body: str | None = None,
        name: str = "127.0.0.1",
    ) -> tuple[int, str]:
        """One https request from this process; the status and the answer."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=trust.decode())
        if own:
            both = self.pki.parent / "presented.pem"
            both.write_bytes(own.certificate_pem + own.key_pem.reveal)
            context.load_cert_chain(both)
        connection = http.client.HTTPSConnection(name, port, timeout=10, context=context)
        try:
            connection.request("POST" if body else "GET", path, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def etcdctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the release's etcdctl as a person on the node would."""
        env = {
            "PATH": os.environ["PATH"],
            "ETCDCTL_API": "3",
            "ETCDCTL_ENDPOINTS": f"https://localhost:{self.client_port}",
            "ETCDCTL_CACERT": str(self.pki / "ca.crt"),
            "ETCDCTL_CERT": str(self.pki / "etcdctl.crt"),
            "ETCDCTL_KEY": str(self.pki / "etcdctl.key"),
        }
        return subprocess.run(
            [str(self.programs / "etcdctl"), *words],
            env=env,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )


def _flags(pki: Path, data: Path, ports: list[int]) -> list[str]:
    client, peer, metrics = (f"https://127.0.0.1:{port}" for port in ports)
    return [
        "--name=n1",
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=n1={peer}",
        f"--listen-metrics-urls={metrics}",
        f"--cert-file={pki}/server.crt",
        f"--key-file={pki}/server.key",
        f"--trusted-ca-file={pki}/ca.crt",
        "--client-cert-auth",
        f"--peer-cert-file={pki}/peer.crt",
        f"--peer-key-file={pki}/peer.key",
        f"--peer-trusted-ca-file={pki}/peer-ca.crt",
        "--peer-client-cert-auth",
    ]


@pytest.fixture(scope="module", params=FOR_TESTS)
def member(
    request: pytest.FixtureRequest, programs: Release, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Member]:
    """Issue for two nodes, start the first."""
    version = str(request.param)
    place = tmp_path_factory.mktemp("etcd")
    release = programs(version)
    cluster = ClusterSpec("demo", Version.parse(version), NODES, place / "inventory.yaml")
    store = Store.beside(cluster)
    generation = store.prepare(cluster, datetime.now(UTC))
    store.save(generation)
    pki, ports = place / "pki", [free_port() for _ in range(3)]
    pki.mkdir()
    for name, content in generation.node_files("n1").items():
        (pki / name).write_bytes(content.reveal if isinstance(content, Secret) else content)
    running = Member(release, pki, generation, *ports)
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(release / "etcd"), *_flags(pki, place / "data", ports)],
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"], "ETCD_UNSUPPORTED_ARCH": "arm64"},
        )
    try:
        _await_health(running, process, place / "log")
        yield running
    finally:
        process.terminate()
        process.wait(10)


def _await_health(member: Member, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline, last = time.monotonic() + START_SECONDS, "never asked"
    while time.monotonic() < deadline and process.poll() is None:
        done = member.etcdctl("endpoint", "health")
        if done.returncode == 0:
            return
        last = done.stderr
        time.sleep(0.1)
    pytest.fail(f"etcd did not become healthy: {last}\n{log.read_text()[-3000:]}")


def test_etcdctl_writes_and_reads(member: Member) -> None:
    """gRPC with the node's own client certificate, by the name localhost."""
    assert member.etcdctl("put", "greeting", "hello").stdout == "OK\n"
    assert member.etcdctl("get", "greeting").stdout == "greeting\nhello\n"


def test_health_needs_a_client_certificate(member: Member) -> None:
    """With one the answer is good, without one there is no answer; 127.0.0.1 is a name of it."""
    trust = member.generation.ca_bundle
    status, answer = member.ask(member.client_port, "/health", member.generation.client("n2"), trust)
    assert (status, json.loads(answer)["health"]) == (200, "true")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        member.ask(member.client_port, "/health", None, trust)


def test_the_json_gateway_works(member: Member) -> None:
    """It dials etcd with the *server* certificate: without client usage this would be code 14."""
    trust, own = member.generation.ca_bundle, member.generation.client("n1")
    status, answer = member.ask(member.client_port, "/v3/kv/range", own, trust, '{"key": "AA=="}')
    assert status == 200, answer
    assert "header" in json.loads(answer)


def test_a_peer_at_its_address_is_let_in(member: Member) -> None:
    """The source address is among the names; that the DNS name beside it is unknown does not matter."""
    own = member.generation.credential("n1", Kind.PEER)
    status, answer = member.ask(member.peer_port, "/members", own, member.generation.peer_ca_bundle)
    assert (status, [one["name"] for one in json.loads(answer)]) == (200, ["n1"])


def test_a_peer_from_a_strange_address_is_refused(member: Member) -> None:
    """A certificate of the right CA, but of another node: stolen, it opens nothing from here."""
    own = member.generation.credential("n2", Kind.PEER)
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        member.ask(member.peer_port, "/members", own, member.generation.peer_ca_bundle)


@pytest.mark.parametrize("kind", [Kind.CLIENT, Kind.SERVER])
def test_the_peer_port_refuses_the_client_ca(member: Member, kind: Kind) -> None:
    """Clients, and servers, never speak raft."""
    own = member.generation.credential("n1", kind)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        member.ask(member.peer_port, "/members", own, member.generation.peer_ca_bundle)


def test_the_client_port_refuses_the_peer_ca(member: Member) -> None:
    """And peers never read keys with that certificate."""
    own = member.generation.credential("n1", Kind.PEER)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        member.ask(member.client_port, "/health", own, member.generation.ca_bundle)


def test_https_metrics_take_a_client_of_any_node(member: Member) -> None:
    """etcd holds DNS and IP names of a client against its address there; a URI it leaves alone."""
    own, trust = member.generation.client("n2"), member.generation.ca_bundle
    status, answer = member.ask(member.metrics_port, "/metrics", own, trust)
    assert status == 200
    assert "etcd_server_has_leader 1" in answer
