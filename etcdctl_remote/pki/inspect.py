"""What a certificate says, and whether it still is what the inventory asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ..secret import Secret
from . import chain
from .authority import USAGES, Authority, load_key, plain_name
from .profiles import Profile, Usage

_ECDSA: Mapping[str, str] = {"secp256r1": "ecdsa-p256", "secp384r1": "ecdsa-p384"}


@dataclass(frozen=True)
class Leaf:
    """The facts of one certificate."""

    subject: str
    issuer: str
    names: frozenset[str]
    """DNS names, addresses and URIs as text."""
    usages: tuple[Usage, ...]
    serial: str
    """Hex, lower case, as `openssl x509 -serial` shows it but for the case."""
    fingerprint: str
    """SHA-256 of the DER, hex."""
    not_before: datetime
    not_after: datetime
    key_type: str
    key_matches: bool | None
    """None when no key was given."""
    certificate: x509.Certificate = field(repr=False, compare=False)
    carried: tuple[x509.Certificate, ...] = field(default=(), repr=False, compare=False)
    """Intermediates, which it is served with."""

    def days_left(self, now: datetime) -> int:
        """Whole days until it ends; negative once it has."""
        return (self.not_after - now) // timedelta(days=1)


def read_leaf(pem: bytes, key: Secret | None = None) -> Leaf:
    """Read a PEM certificate, and hold `key` against it; ValueError if either is unreadable.

    What stands behind the first certificate is what it carries: intermediates.
    """
    leaf = _read(pem)
    return leaf if key is None else replace(leaf, key_matches=key_matches(leaf.certificate, key))


@lru_cache(maxsize=1024)
def _read(pem: bytes) -> Leaf:
    certificate, *carried = chain.load(pem)
    return Leaf(
        subject=plain_name(certificate.subject),
        issuer=plain_name(certificate.issuer),
        names=_names(certificate),
        usages=_usages(certificate),
        serial=f"{certificate.serial_number:x}",
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key_type=key_type(certificate),
        key_matches=None,
        certificate=certificate,
        carried=tuple(carried),
    )


def why_renew(
    leaf: Leaf, profile: Profile, ca: Authority, now: datetime, within: timedelta | None = timedelta(0)
) -> list[str]:
    """Say each reason to replace `leaf`, or nothing. `within` None: the last third of its life.

    A leaf cut short by the end of its CA is not renewed before it expires: the next one would
    end on the same day. Common name and lifetime are no reasons, or a new default of
    ours would renew everybody's certificates.
    """
    reasons = [
        _ending(leaf, ca, now, within),
        _changed("names", _compared(leaf.names, profile.names, ca), profile.names),
        _changed("usages", frozenset(leaf.usages), frozenset(profile.usages)),
        "" if _whole(leaf, ca) else f"issuer changed: {leaf.issuer} → {ca.common_name}",
        "" if leaf.key_type == profile.key else f"key type changed: {leaf.key_type} → {profile.key}",
        "its key belongs to another certificate" if leaf.key_matches is False else "",
    ]
    return [reason for reason in reasons if reason]


def _compared(has: frozenset[str], wants: frozenset[str], ca: Authority) -> frozenset[str]:
    """An outside CA may add names of its own: only what is lacking counts."""
    return has & wants if ca.outside else has


def _whole(leaf: Leaf, ca: Authority) -> bool:
    """Whether the CA signed it, and it carries what leads from there to the root."""
    return ca.signed(leaf.certificate, leaf.carried) and (
        ca.outside or chain.pem(leaf.carried) == ca.intermediates
    )


def _ending(leaf: Leaf, ca: Authority, now: datetime, within: timedelta | None) -> str:
    if within is None:
        within = (leaf.not_after - leaf.not_before) / 3
    if leaf.not_after <= now:
        return f"expired on {leaf.not_after:%Y-%m-%d}"
    if ended := [one for one in leaf.carried if one.not_valid_after_utc <= now]:
        return f"{plain_name(ended[0].subject)} above it expired on {ended[0].not_valid_after_utc:%Y-%m-%d}"
    if leaf.not_after - now <= within and leaf.not_after < ca.not_after:
        return f"expires in {leaf.days_left(now)} days, on {leaf.not_after:%Y-%m-%d}"
    return ""


def _changed(what: str, has: frozenset[str], wants: frozenset[str]) -> str:
    parts = [f"+{name}" for name in sorted(wants - has)] + [f"-{name}" for name in sorted(has - wants)]
    return f"{what} changed: {' '.join(parts)}" if parts else ""


def key_type(certificate: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """The type of the public key, in the inventory's words where it has one."""
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _ECDSA.get(key.curve.name, f"ecdsa-{key.curve.name}")
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa-{key.key_size}"
    return type(key).__name__.removesuffix("PublicKey").lower()


def key_matches(certificate: x509.Certificate, key: Secret) -> bool:
    """Whether this private key is the certificate's; ValueError if it is unreadable."""
    try:
        return load_key(key).public_key() == certificate.public_key()
    except TypeError as error:  # encrypted
        raise ValueError(str(error)) from error


def signed_by(leaf: x509.Certificate, carried: bytes, bundle: bytes) -> bool:
    """Whether a CA of `bundle` (PEM) signed `leaf`, by way of the certificates in `carried` (PEM) or directly."""
    trusted = chain.load(bundle)
    return any(
        chain.signed(one, root)
        for one in chain.upwards(leaf, (*chain.load(carried), *trusted))
        for root in trusted
    )


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether the certificate says that it may sign others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(str(name.value) for name in san)


def _usages(certificate: x509.Certificate) -> tuple[Usage, ...]:
    try:
        listed = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(usage for usage, identifier in USAGES.items() if identifier in listed)
