"""Take in a CA that somebody else made: cfssl's, kubeadm's, openssl's, easy-rsa's.

It is checked for all that would show only when members refuse each other, and everything that is
wrong with it is said at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from ..errors import UsageError
from ..secret import Secret
from . import chain
from .authority import Authority, PrivateKey, key_pem, plain_name
from .constraints import forbidden
from .inspect import is_ca, key_type
from .profiles import Profile

TAKEN = "taken are RSA from 2048 bits, ECDSA P-256 and P-384"

Ask = Callable[[str], Secret]
"""Asks for the passphrase of a file."""


@dataclass
class Candidate:
    """A CA that is to be taken in: what was read of it, and what is wrong with that."""

    authority: Authority | None = None
    wrong: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Use:
    """What the CA is for."""

    profiles: Sequence[Profile]
    """The leaves that it will sign."""
    now: datetime
    passphrase: Ask


def pair(text: str, flag: str) -> tuple[Path, Path]:
    """Part `CERT,KEY`."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(parts):
        raise UsageError(f"{flag} {text!r}: expected two files, CERT,KEY", f"{flag} ca.crt,ca.key")
    return Path(parts[0]).expanduser(), Path(parts[1]).expanduser()


def candidate(certificate: Path, key_file: Path, use: Use) -> Candidate:
    """Read a CA and its key, and check them for fitness."""
    found = Candidate()
    certificates = _certificates(certificate, found)
    key = _key(key_file, use.passphrase, found)
    if not certificates:
        return found
    signer = certificates[0]
    if key:
        matching = [one for one in certificates if one.public_key() == key.public_key()]
        signer = matching[0] if matching else signer
        if not matching:
            names = ", ".join(repr(plain_name(one.subject)) for one in certificates)
            found.wrong.append(f"{key_file} is not the key of {certificate}: that is of {names}")
    path = chain.upwards(signer, certificates)
    found.wrong += [f"{certificate}: {what}" for what in _unfit(path, certificates, use)]
    found.warnings += [f"{certificate}: {what}" for what in _short(path, use)]
    if key and not found.wrong:
        found.authority = Authority(chain.pem(path), key_pem(key))
    return found


def _certificates(path: Path, found: Candidate) -> tuple[x509.Certificate, ...]:
    try:
        return chain.load(path.read_bytes())
    except OSError as error:
        found.wrong.append(f"{path} cannot be read: {error.strerror}")
    except ValueError:
        found.wrong.append(f"{path} holds no PEM certificate")
    return ()


def _key(path: Path, passphrase: Ask, found: Candidate) -> PrivateKey | None:
    try:
        content = Secret(path.read_bytes())
        key = _opened(content, path, passphrase)
    except OSError as error:
        found.wrong.append(f"{path} cannot be read: {error.strerror}")
        return None
    except ValueError as error:
        found.wrong.append(f"{path}: {error}")
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        return key
    found.wrong.append(
        f"{path} is a key of the type {type(key).__name__.removesuffix('PrivateKey')}; {TAKEN}"
    )
    return None


def _opened(content: Secret, path: Path, passphrase: Ask) -> object:
    """Read a private key; asks for the passphrase only if there is one."""
    try:
        return serialization.load_pem_private_key(content.reveal, None)
    except TypeError:
        given = passphrase(f"of {path}")
    except ValueError:
        raise ValueError("holds no private key as PEM (PKCS#1, PKCS#8, SEC1)") from None
    try:
        return serialization.load_pem_private_key(content.reveal, given.reveal)
    except (ValueError, TypeError):
        raise ValueError("does not open: the passphrase is wrong, or the file is damaged") from None


def _unfit(path: Sequence[x509.Certificate], given: Sequence[x509.Certificate], use: Use) -> Iterator[str]:
    """Say everything for which members would refuse what this CA signs."""
    for depth, one in enumerate(path):
        yield from (f"{plain_name(one.subject)!r} {what}" for what in _one(one, depth, use.now))
    if not chain.is_root(path[-1]):
        yield (
            f"the chain ends at {plain_name(path[-1].subject)!r}: the certificate of its issuer "
            f"{plain_name(path[-1].issuer)!r} belongs behind it, up to the root"
        )
    strange = [plain_name(one.subject) for one in given if one not in path]
    if strange:
        yield f"{', '.join(map(repr, strange))} is not of this chain: leave it out"
    for one in path:
        yield from (f"{plain_name(one.subject)!r} {what}" for what in forbidden(one, use.profiles))


def _one(one: x509.Certificate, depth: int, now: datetime) -> Iterator[str]:
    if not is_ca(one):
        yield "is no CA (basicConstraints)"
    yield from _uses(one, depth)
    if one.not_valid_after_utc <= now:
        yield f"expired on {one.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if one.not_valid_before_utc > now:
        yield f"is not valid before {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    kind = key_type(one)
    if kind not in ("ecdsa-p256", "ecdsa-p384") and not _long_rsa(one):
        yield f"has a key of the type {kind}; {TAKEN}"
    if not chain.is_root(one) and chain.weak(one):
        yield f"is signed with {chain.weak(one)}, which nobody accepts"


def _long_rsa(one: x509.Certificate) -> bool:
    key = one.public_key()
    return isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048


def _uses(one: x509.Certificate, depth: int) -> Iterator[str]:
    """Say what its extensions keep it from: signing, so many CAs below it, leaves of both usages."""
    both = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    for extension in one.extensions:
        match extension.value:
            case x509.KeyUsage(key_cert_sign=False):
                yield "may not sign certificates (keyUsage lacks keyCertSign)"
            case x509.BasicConstraints(path_length=int(length)) if length < depth:
                yield f"allows {length} CAs below it, and here are {depth} (path length)"
            case x509.ExtendedKeyUsage() as usages:
                if not both <= set(usages) and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usages:
                    yield "allows its leaves not to be both server and client (extendedKeyUsage)"


def _short(path: Sequence[x509.Certificate], use: Use) -> Iterator[str]:
    """Warn of a CA that ends before the leaves would."""
    end = min(one.not_valid_after_utc for one in path)
    days = max((profile.days for profile in use.profiles), default=0)
    if use.now < end < use.now + timedelta(days=days):
        yield (
            f"ends on {end:%Y-%m-%d}, before certificates of {days} days would (`pki.leaf_days`): "
            "they are cut to that day"
        )
