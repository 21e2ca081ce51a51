"""Chains of certificates: which signed which, up to a root."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization


def load(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Read every certificate of a PEM file, in its order; ValueError if there is none."""
    return tuple(x509.load_pem_x509_certificates(pem))


def pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Write certificates one behind the other, without any text between them."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


@lru_cache(maxsize=1024)
def signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` (not only one of the same name) signed `certificate`."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
        return False
    return True


WEAK = ("md2", "md4", "md5", "sha1")
"""Hashes under which a signature proves nothing; Go refuses them too."""


def weak(certificate: x509.Certificate) -> str:
    """Name the hash under which it is signed, if nobody accepts that any more."""
    digest = certificate.signature_hash_algorithm
    return digest.name if digest is not None and digest.name in WEAK else ""


@lru_cache(maxsize=256)
def is_root(certificate: x509.Certificate) -> bool:
    """Whether it signed itself: where a chain ends.

    A root is trusted for what it is, so one under a weak hash, which cannot be verified, is one too.
    """
    named = certificate.subject == certificate.issuer
    return named and (bool(weak(certificate)) or signed(certificate, certificate))


def roots(certificates: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Keep those that signed themselves."""
    return tuple(one for one in certificates if is_root(one))


def upwards(first: x509.Certificate, pool: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Follow the issuers of `first` through `pool` as far as they go: `first` included, a root last."""
    found = [first]
    while not is_root(found[-1]):
        issuer = next((one for one in pool if one not in found and signed(found[-1], one)), None)
        if issuer is None:
            break
        found.append(issuer)
    return tuple(found)
