"""Requests for certificates: the key is taken, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from etcdctl_remote.errors import UsageError
from etcdctl_remote.pki.applications import Asked, application
from etcdctl_remote.pki.authority import Authority
from etcdctl_remote.pki.inspect import read_leaf
from etcdctl_remote.pki.requests import requested_key
from tests.unit.operations.here import cluster

from .stores import NOW

WEAK = 1024


def request(key: Any, encoding: Encoding = Encoding.PEM) -> bytes:
    """A request that asks for far more than a client needs."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "root"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"),
        ]
    )
    builder = (
        x509.CertificateSigningRequestBuilder(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("evil.example")]), critical=False)
    )
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(encoding)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_nothing_but_the_key_is_copied(encoding: Encoding) -> None:
    """Neither the extensions, nor the subject: what was asked for here decides."""
    key = ec.generate_private_key(ec.SECP256R1())
    taken = requested_key(request(key, encoding), "f", ("client",))
    profile = application(cluster(), Asked("app", names="app.example")).profile
    leaf = read_leaf(Authority.create("ca", "ecdsa-p256", 10, NOW).certify(profile, taken, NOW))
    assert leaf.certificate.public_key() == key.public_key()
    assert leaf.certificate.subject.rfc4514_string() == "CN=app"
    assert leaf.names == {"app.example"}
    assert leaf.usages == ("client",)
    basic = leaf.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not basic.ca


def test_a_request_whose_signature_is_wrong_is_refused() -> None:
    """Whoever sent it does not prove to have the key."""
    der = bytearray(request(ec.generate_private_key(ec.SECP256R1()), Encoding.DER))
    place = der.index(b"evil.example")
    der[place] ^= 1
    with pytest.raises(UsageError, match="the signature is not that of the key"):
        requested_key(bytes(der), "f", ("client",))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "it is empty"),
        (b"garbage", "it is damaged, or something else"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "it is damaged"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n", "it holds a private key"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "it holds a certificate"),
        (b"0" * 70_000, "it has more than 65536 bytes"),
    ],
)
def test_garbage_is_refused(content: bytes, what: str) -> None:
    """With the file's name, what it is in our words, and how to make a request."""
    with pytest.raises(UsageError, match="f is no request for a certificate") as caught:
        requested_key(content, "f", ("client",))
    assert "openssl req -new" in caught.value.hint
    assert f"(PKCS#10, PEM or DER): {what}" in caught.value.message
    assert "ParseError" not in caught.value.message
    assert "https:" not in caught.value.message


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (rsa.generate_private_key(65537, WEAK), "RSA of 1024 bits"),
        (ec.generate_private_key(ec.SECP521R1()), "ECDSA on secp521r1"),
        (ec.generate_private_key(ec.SECP256K1()), "ECDSA on secp256k1"),
    ],
)
def test_keys_that_are_weak_or_unknown_to_others_are_refused(key: Any, said: str) -> None:
    """With what it is, and what would do."""
    with pytest.raises(UsageError, match=said):
        requested_key(request(key), "f", ("client",))


def test_ed25519_is_for_clients_only() -> None:
    """Go takes such a client; many a client refuses such a server."""
    content = request(ed25519.Ed25519PrivateKey.generate())
    assert isinstance(requested_key(content, "f", ("client",)), ed25519.Ed25519PublicKey)
    with pytest.raises(UsageError, match="Ed25519"):
        requested_key(content, "f", ("server", "client"))
