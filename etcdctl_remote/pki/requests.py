"""Requests (CSR) of others that we sign: their keys never leave their owners.

Of a request we take the public key and the proof that its owner has the private one. Names,
usages and whatever else it asks for are never copied: what is signed is decided here. What we
request of a CA elsewhere is in `csr`.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ..errors import UsageError
from .authority import PublicKey
from .profiles import Usage

LIMIT = 1 << 16
"""Bytes; the largest RSA request has some thousands."""
_SMALLEST_RSA, _LARGEST_RSA = 2048, 8192  # Go's crypto/tls verifies no larger one
_CURVES = ("secp256r1", "secp384r1")
_WANTED = "RSA from 2048 to 8192 bits, ECDSA P-256 or P-384, for clients also Ed25519"


def requested_key(content: bytes, source: str, usages: tuple[Usage, ...]) -> PublicKey:
    """Return the public key of a request, PEM or DER; UsageError if it is not to be signed."""
    request = _parsed(content, source)
    try:
        proven, key = request.is_signature_valid, request.public_key()
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError) as error:
        raise UsageError(
            f"{source}: its key or its signature is of a kind that cannot be used", f"make one: {_WANTED}"
        ) from error
    if not proven:
        raise UsageError(
            f"{source}: the signature is not that of the key in it: changed or cut on its way",
            "have its owner make it again",
        )
    return _fit(key, source, usages)


def _parsed(content: bytes, source: str) -> x509.CertificateSigningRequest:
    read = x509.load_pem_x509_csr if b"-----BEGIN" in content else x509.load_der_x509_csr
    try:
        if len(content) > LIMIT:
            raise ValueError
        return read(content)
    except ValueError as error:
        raise UsageError(
            f"{source} is no request for a certificate (PKCS#10, PEM or DER): {_instead(content)}",
            "make one: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
            "-keyout app.key -subj /CN=app -out app.csr",
        ) from error


def _instead(content: bytes) -> str:
    """Say what it is instead, as far as that can be seen."""
    if len(content) > LIMIT:
        return f"it has more than {LIMIT} bytes"
    if not content.strip():
        return "it is empty"
    if b"PRIVATE KEY-----" in content:
        return "it holds a private key, which stays with its owner"
    if b"-----BEGIN CERTIFICATE-----" in content:
        return "it holds a certificate"
    return "it is damaged, or something else"


def _fit(key: object, source: str, usages: tuple[Usage, ...]) -> PublicKey:
    """Refuse weak keys, and those that one side of a handshake may not know.

    Go, and so etcd, takes an Ed25519 client; many a client refuses an Ed25519 server.
    """
    if isinstance(key, rsa.RSAPublicKey) and _SMALLEST_RSA <= key.key_size <= _LARGEST_RSA:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key
    if isinstance(key, ed25519.Ed25519PublicKey) and "server" not in usages:
        return key
    raise UsageError(f"{source}: its key is {_described(key)}", f"make one that is {_WANTED}")


def _described(key: object) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA of {key.key_size} bits"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA on {key.curve.name}"
    return type(key).__name__.removesuffix("PublicKey")
