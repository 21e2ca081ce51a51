"""Requests (CSR) that we make for a CA elsewhere, and what came back, checked.

What others request of us is in `requests`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from ..secret import Secret
from . import chain
from .authority import (
    BACKDATE,
    Authority,
    Credential,
    key_pem,
    load_key,
    new_key,
    plain_name,
    requested_extensions,
)
from .inspect import Leaf, is_ca, key_type, read_leaf
from .profiles import Profile


@dataclass(frozen=True)
class Request:
    """One leaf that somebody else has to sign, or that waits for the CA's key to be opened."""

    owner: str
    """The node, or the application."""
    kind: str
    profile: Profile
    authority: Authority

    @property
    def label(self) -> str:
        """What its files are called, without the suffix."""
        return f"{self.owner}-{self.kind}"

    def __str__(self) -> str:
        """Say what is to be signed."""
        names = ", ".join((*self.profile.dns, *map(str, self.profile.addresses), *self.profile.uris))
        usages = ", ".join(f"{usage}Auth" for usage in self.profile.usages)
        return f"CN {self.profile.common_name}; names {names}; usages {usages}; {self.profile.days} days"


@dataclass(frozen=True)
class Asked:
    """A request as it went out, and the key that belongs to it."""

    csr: bytes
    key: Secret

    @classmethod
    def make(cls, profile: Profile) -> Asked:
        """Make a new key, and the request for it."""
        key = new_key(profile.key)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, profile.common_name)])
        builder = x509.CertificateSigningRequestBuilder(name)
        for extension, critical in requested_extensions(profile, key.public_key()):
            builder = builder.add_extension(extension, critical)
        csr = builder.sign(key, hashes.SHA384() if key.key_size == 384 else hashes.SHA256())
        return cls(csr.public_bytes(serialization.Encoding.PEM), key_pem(key))

    def fits(self, profile: Profile) -> bool:
        """Whether this still asks for `profile`, with the key that lies beside it."""
        try:
            csr, key = x509.load_pem_x509_csr(self.csr), load_key(self.key)
        except (ValueError, TypeError):
            return False
        wanted = requested_extensions(profile, key.public_key())
        return (
            csr.public_key() == key.public_key()
            and csr.is_signature_valid
            and plain_name(csr.subject) == profile.common_name
            and [(each.value, each.critical) for each in csr.extensions] == wanted
            and key_type(csr) == profile.key
        )

    def is_for(self, certificate: x509.Certificate) -> bool:
        """Whether this key is the certificate's."""
        return load_key(self.key).public_key() == certificate.public_key()


def accepted(
    asked: Asked, request: Request, answer: bytes, now: datetime
) -> tuple[Credential | None, list[str]]:
    """Check what came back; the credential, or everything that is wrong with it.

    It may begin a little later than `now`: it was signed since, by another clock. Each node's own
    is asked before anything is installed.
    """
    try:
        leaf = read_leaf(answer)
    except ValueError:
        return None, ["is no PEM certificate"]
    path = chain.upwards(leaf.certificate, (*leaf.carried, *request.authority.chain))
    wrong = [*_mistaken(asked, request, leaf, now), *_unproven(path, request.authority, now)]
    pem = chain.pem([leaf.certificate, *(one for one in path[1:] if not chain.is_root(one))])
    return (None, wrong) if wrong else (Credential(pem, asked.key), [])


def _mistaken(asked: Asked, request: Request, leaf: Leaf, now: datetime) -> Iterator[str]:
    profile = request.profile
    if not asked.is_for(leaf.certificate):
        yield "has another key than the request (the leaf must stand first)"
    if is_ca(leaf.certificate):
        yield "is the certificate of a CA"
    if leaf.subject != profile.common_name:
        yield f"has the common name {leaf.subject!r}, not {profile.common_name!r}: etcd takes it for a user"
    if lacking := sorted(profile.names - leaf.names):
        yield f"lacks the names {', '.join(lacking)}"
    if unable := [usage for usage in profile.usages if usage not in leaf.usages]:
        yield f"lacks the usages {', '.join(f'{usage}Auth' for usage in unable)}"
    if leaf.not_after <= now:
        yield f"expired on {leaf.not_after:%Y-%m-%d %H:%M} UTC"
    if leaf.not_before > now + BACKDATE:
        yield f"begins on {leaf.not_before:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M} here"


def _unproven(path: Sequence[x509.Certificate], trusted: Authority, now: datetime) -> Iterator[str]:
    if path[-1] not in trusted.chain:
        yield f"does not lead to {trusted.common_name!r}: it was signed by {plain_name(path[-1].issuer)!r}"
    for one in path[1:]:
        if not is_ca(one):
            yield f"was signed by {plain_name(one.subject)!r}, which is no CA"
        if one.not_valid_before_utc > now + BACKDATE or one.not_valid_after_utc <= now:
            yield f"was signed by {plain_name(one.subject)!r}, which is not valid now"
    for one in path:
        if not chain.is_root(one) and chain.weak(one):
            yield f"{plain_name(one.subject)!r} is signed with {chain.weak(one)}, which nobody accepts"
