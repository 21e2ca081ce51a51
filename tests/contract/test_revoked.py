"""Our lists of revoked certificates against etcd itself, of each release that honours them."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, Version
from etcdctl_remote.desired.versions import deaf_to_lists
from etcdctl_remote.lab.releases import FOR_TESTS
from etcdctl_remote.observed.refusal import Taken, taken
from etcdctl_remote.operations.certs_issue import issue
from etcdctl_remote.operations.dialled import SPOKEN
from etcdctl_remote.pki import crl
from etcdctl_remote.pki.applications import Asked
from etcdctl_remote.pki.authority import Credential
from etcdctl_remote.pki.crl import Port, Revoked
from etcdctl_remote.pki.generation import Generation
from etcdctl_remote.pki.profiles import Kind, Profile, node_profiles
from etcdctl_remote.pki.store import Store
from etcdctl_remote.secret import Secret
from tests.conftest import Release
from tests.ports import free_port

pytestmark = pytest.mark.contract

HONOUR = [version for version in FOR_TESTS if not deaf_to_lists(Version.parse(version))]
START_SECONDS = 20.0


@dataclass(frozen=True)
class Connected:
    """A TCP connection of this machine, as a tunnel."""

    socket: socket.socket

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def recv(self, size: int) -> bytes:
        return self.socket.recv(size)

    def settimeout(self, seconds: float) -> None:
        self.socket.settimeout(seconds)

    def close(self) -> None:
        self.socket.close()


class Loopback:
    """This machine as a host that only dials."""

    name = "n1"

    def dial(self, address: str, port: int, timeout: float) -> Connected:
        return Connected(socket.create_connection((address, port), timeout))


@dataclass
class Member:
    """A running etcd, and the certificates beside it."""

    cluster: ClusterSpec
    pki: Path
    ports: dict[Port, int]
    held: Generation

    def shown(self, port: Port, own: Credential) -> list[Taken]:
        """Show a certificate to a port, in each protocol it speaks."""
        here: Any = Loopback()
        return [taken(here, "127.0.0.1", self.ports[port], own, protocol) for protocol in SPOKEN[port]]

    def accepts(self, port: Port, own: Credential) -> set[bool | None]:
        return {answer.accepted for answer in self.shown(port, own)}

    def revoke(self, serial: str) -> None:
        """Write longer lists where the running etcd reads them."""
        entry = Revoked(serial, "", datetime.now(UTC), None, ("client", "peer"))
        authorities = self.held.authorities
        signers: dict[Port, Any] = {"client": authorities.client, "peer": authorities.peer}
        lists = crl.revoke(self.held.revocations, (entry,), signers, datetime.now(UTC))
        self.held = replace(self.held, revocations=lists)
        self.write()

    def write(self) -> None:
        for name, content in self.held.node_files("n1").items():
            (self.pki / name).write_bytes(content.reveal if isinstance(content, Secret) else content)


@pytest.fixture(scope="module", params=HONOUR)
def member(
    request: pytest.FixtureRequest, programs: Release, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Member]:
    """Start a member whose lists hold one serial that nobody has."""
    place, version = tmp_path_factory.mktemp("etcd"), str(request.param)
    release = programs(version)
    node = NodeSpec("n1", "127.0.0.1", address="127.0.0.1")
    cluster = ClusterSpec("demo", Version.parse(version), (node,), place / "inventory.yaml")
    store = Store.beside(cluster)
    store.save(store.prepare(cluster, datetime.now(UTC)))
    held = store.load()
    assert held is not None
    ports: dict[Port, int] = {"client": free_port(), "peer": free_port()}
    found = Member(cluster, place, ports, held)
    found.revoke("1")
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(release / "etcd"), *flags(found)],
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"], "ETCD_UNSUPPORTED_ARCH": "arm64"},
        )
    try:
        end = time.monotonic() + START_SECONDS
        while found.accepts("client", held.client("n1")) != {True}:
            assert process.poll() is None, (place / "log").read_text()[-3000:]
            assert time.monotonic() < end, (place / "log").read_text()[-3000:]
        yield found
    finally:
        process.terminate()
        process.wait(10)


def flags(member: Member) -> list[str]:
    client, peer = (f"https://127.0.0.1:{port}" for port in member.ports.values())
    pki = member.pki
    return [
        "--name=n1",
        f"--data-dir={pki}/data",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=n1={peer}",
        f"--cert-file={pki}/server.crt",
        f"--key-file={pki}/server.key",
        f"--trusted-ca-file={pki}/ca.crt",
        f"--client-crl-file={pki}/ca.crl",
        "--client-cert-auth",
        f"--peer-cert-file={pki}/peer.crt",
        f"--peer-key-file={pki}/peer.key",
        f"--peer-trusted-ca-file={pki}/peer-ca.crt",
        f"--peer-crl-file={pki}/peer-ca.crl",
        "--peer-client-cert-auth",
    ]


def test_an_application_is_refused_from_the_next_connection_on(member: Member) -> None:
    """In gRPC and in HTTP, without a restart; others are not."""
    one = issue(member.cluster, Asked("app"), datetime.now(UTC)).certificate
    assert one.credential
    assert member.accepts("client", one.credential) == {True}
    member.revoke(one.leaf.serial)
    assert member.accepts("client", one.credential) == {False}
    assert member.accepts("client", member.held.client("n1")) == {True}
    assert member.accepts("peer", member.held.credential("n1", Kind.PEER)) == {True}


def test_a_peer_is_refused_as_well(member: Member) -> None:
    """By the list of the peer port, and there only: the certificate of another node's."""
    good = member.held.credential("n1", Kind.PEER)
    stolen = member.held.authorities.peer.issue(
        replace(profile(member), common_name="etcd-peer-gone"), datetime.now(UTC)
    )
    assert member.accepts("peer", stolen) == {True}
    member.revoke(f"{serial(stolen):x}")
    assert member.accepts("peer", stolen) == {False}
    assert member.accepts("peer", good) == {True}
    assert member.accepts("client", member.held.client("n1")) == {True}


def test_while_the_list_is_unreadable_everybody_is_refused(member: Member) -> None:
    """So it must never be; and the dial tells a refusal from silence."""
    kept = (member.pki / "ca.crl").read_bytes()
    (member.pki / "ca.crl").write_bytes(b"garbage")
    assert member.accepts("client", member.held.client("n1")) == {False}
    (member.pki / "ca.crl").write_bytes(kept)
    assert member.accepts("client", member.held.client("n1")) == {True}


def profile(member: Member) -> Profile:
    return node_profiles(member.cluster, member.cluster.nodes[0])[Kind.PEER]


def serial(own: Credential) -> int:
    return x509.load_pem_x509_certificate(own.certificate_pem).serial_number
