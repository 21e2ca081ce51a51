"""Real TLS handshakes with what the store gives out, between OpenSSL and itself."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, PkiSpec, Version
from etcdctl_remote.pki.generation import Generation, begin, renewed
from etcdctl_remote.pki.profiles import Kind

from . import shaking


def _generation(pki: PkiSpec | None = None) -> Generation:
    nodes = (
        NodeSpec("n1", "n1", address="10.0.0.1", names=("n1.example",)),
        NodeSpec("n2", "n2", address="fd00::2"),
    )
    cluster = ClusterSpec("demo", Version(3, 6, 14), nodes, Path("inventory.yaml"), pki=pki or PkiSpec())
    now = datetime.now(UTC)
    return renewed(begin(cluster, now), cluster, now)


@pytest.fixture(scope="module")
def separate() -> Generation:
    return _generation()


Shake = Callable[..., tuple[str, str]]


@pytest.fixture
def shake(tmp_path: Path) -> Shake:
    return partial(shaking.shake, tmp_path)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "n1", "10.0.0.1", "n1.example"])
def test_etcdctl_reaches_the_server_by_each_name(separate: Generation, shake: Shake, name: str) -> None:
    """Every name of the node is accepted with the client certificate of either node."""
    server = separate.credential("n1", Kind.SERVER)
    seen = shake(server, separate.ca_bundle, name, separate.client("n2"), separate.ca_bundle)
    assert seen == ("etcd-server-n1", "etcdctl-n2")


@pytest.mark.parametrize("name", ["n2", "fd00::2", "10.0.0.2", "n3.example"])
def test_one_node_cannot_pose_as_another(separate: Generation, shake: Shake, name: str) -> None:
    """A node's certificate carries its own names only."""
    server = separate.credential("n1", Kind.SERVER)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        shake(server, separate.ca_bundle, name, separate.client("n1"), separate.ca_bundle)


def test_without_a_certificate_nobody_gets_in(separate: Generation, shake: Shake) -> None:
    """The client port demands one."""
    server = separate.credential("n1", Kind.SERVER)
    with pytest.raises(ssl.SSLError, match=r"(?i)peer.did.not.return.a.certificate"):
        shake(server, separate.ca_bundle, "n1", None, separate.ca_bundle)


def test_peers_talk_in_both_directions(separate: Generation, shake: Shake) -> None:
    """Each peer certificate serves and dials."""
    one, two = (separate.credential(node, Kind.PEER) for node in ("n1", "n2"))
    there = shake(one, separate.peer_ca_bundle, "10.0.0.1", two, separate.peer_ca_bundle)
    back = shake(two, separate.peer_ca_bundle, "fd00::2", one, separate.peer_ca_bundle)
    assert (there, back) == (("etcd-peer-n1", "etcd-peer-n2"), ("etcd-peer-n2", "etcd-peer-n1"))


@pytest.mark.parametrize("kind", [Kind.CLIENT, Kind.SERVER])
def test_the_peer_port_refuses_the_client_ca(separate: Generation, shake: Shake, kind: Kind) -> None:
    """Who may read keys may not speak raft."""
    peer, stranger = separate.credential("n1", Kind.PEER), separate.credential("n2", kind)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(peer, separate.peer_ca_bundle, "10.0.0.1", stranger, separate.peer_ca_bundle)


def test_the_client_port_refuses_the_peer_ca(separate: Generation, shake: Shake) -> None:
    """A stolen peer key does not read the data by the front door."""
    server, peer = separate.credential("n1", Kind.SERVER), separate.credential("n2", Kind.PEER)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server, separate.ca_bundle, "n1", peer, separate.ca_bundle)


def test_an_etcdctl_certificate_cannot_serve(separate: Generation, shake: Shake) -> None:
    """Its usage is that of a client only."""
    client = separate.client("n1")
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        shake(client, separate.ca_bundle, "n1", client, separate.ca_bundle)


def test_another_cluster_is_a_stranger(separate: Generation, shake: Shake) -> None:
    """Two clusters of the same name and addresses do not trust each other."""
    other = _generation()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(
            separate.credential("n1", Kind.SERVER),
            separate.ca_bundle,
            "n1",
            other.client("n1"),
            separate.ca_bundle,
        )


def test_with_one_ca_for_all_every_leaf_is_of_it(shake: Shake) -> None:
    """`peer_ca: same` gives two equal bundles."""
    shared = _generation(PkiSpec(peer_ca="same"))
    assert shared.ca_bundle == shared.peer_ca_bundle
    peer, client = shared.credential("n1", Kind.PEER), shared.client("n2")
    shake(peer, shared.peer_ca_bundle, "10.0.0.1", client, shared.ca_bundle)


@pytest.mark.parametrize("key", ["ecdsa-p384", "rsa-2048"])
def test_other_key_types_shake_hands_too(shake: Shake, key: str) -> None:
    """The inventory's key type is the CAs' and the leaves'."""
    other = _generation(PkiSpec(key="ecdsa-p384" if key == "ecdsa-p384" else "rsa-2048"))
    assert {leaf.key_type for leaf in other.leaves.values()} == {key}
    shake(other.credential("n1", Kind.SERVER), other.ca_bundle, "n1", other.client("n1"), other.ca_bundle)
