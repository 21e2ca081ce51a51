"""Lists of revoked certificates (CRL), as etcd reads them.

etcd compares serials only: neither issuer nor signature nor dates of a list mean anything to it. It
reads the file at each connection, and refuses everybody while it is missing or unreadable. So
nothing is shipped that was not read back, by the rules of Go's `x509.ParseRevocationList`: DER
(3.6 and later take no PEM), version 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ..errors import UsageError
from . import chain
from .authority import Authority
from .inspect import is_ca

Port = Literal["client", "peer"]

FILES: Mapping[Port, str] = {"client": "ca.crl", "peer": "peer-ca.crl"}
"""The file of each port, beside its bundle of CAs."""
FAR = timedelta(days=36500)
"""A list says when the next one comes; etcd does not look, and other readers shall not stumble."""

_RESTORE = "put the file back from a backup of this directory"


@dataclass(frozen=True)
class Revoked:
    """One certificate that shall be refused."""

    serial: str
    """Hex, as in `Leaf.serial`."""
    name: str
    """Whose it was; empty if only the serial is known."""
    when: datetime
    until: datetime | None
    """When it ends and need not be listed any more; None if that is not known."""
    ports: tuple[Port, ...]
    """Where it would be accepted."""


@dataclass(frozen=True)
class Revocations:
    """All that was ever revoked, and the lists that members read."""

    entries: tuple[Revoked, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    """DER by file name; a port for which nothing was ever revoked has none."""

    @property
    def serials(self) -> frozenset[str]:
        """Of everything that is revoked."""
        return frozenset(entry.serial for entry in self.entries)

    def document(self) -> list[dict[str, object]]:
        """As `generation.json` holds it."""
        return [
            {
                "serial": entry.serial,
                "name": entry.name,
                "when": entry.when.isoformat(),
                "until": entry.until and entry.until.isoformat(),
                "ports": list(entry.ports),
            }
            for entry in self.entries
        ]

    def listed(self, port: Port, now: datetime) -> dict[str, Revoked]:
        """What the list of a port has to hold: what would be accepted otherwise."""
        return {
            entry.serial: entry
            for entry in self.entries
            if port in entry.ports and (entry.until is None or now < entry.until)
        }

    def forgotten(self, port: Port, theirs: frozenset[str]) -> frozenset[str]:
        """Of the serials that a port refuses, those that it would accept again by our list.

        Compared are serials, not numbers: the lists of a CA's owner are numbered otherwise, and the higher
        number may be of a store that lacks a revocation.
        """
        ours = serials(self.files[FILES[port]]) if FILES[port] in self.files else frozenset()
        return theirs - ours - {entry.serial for entry in self.entries if port in entry.ports}


def revoke(
    held: Revocations, new: Iterable[Revoked], signers: Mapping[Port, Authority], now: datetime
) -> Revocations:
    """Add to what is revoked, and sign the lists of the ports concerned."""
    added = tuple(new)
    later = replace(held, entries=(*held.entries, *added))
    ports: dict[Port, None] = {port: None for entry in added for port in entry.ports}
    files = {FILES[port]: _signed(signers[port], later.listed(port, now), now) for port in ports}
    return replace(later, files={**held.files, **files})


def _signed(signer: Authority, listed: Mapping[str, Revoked], now: datetime) -> bytes:
    start = now.replace(microsecond=0)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.parsed.subject)
        .last_update(start)
        .next_update(start + FAR)
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1_000_000)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer.identifier), critical=False
        )
    )
    for serial, entry in listed.items():
        one = x509.RevokedCertificateBuilder().serial_number(int(serial, 16))
        builder = builder.add_revoked_certificate(
            one.revocation_date(entry.when.replace(microsecond=0)).build()
        )
    der = signer.sign_list(builder).public_bytes(Encoding.DER)
    if serials(der) != frozenset(listed):
        raise ValueError("the list does not say what was signed")
    return der


def serials(der: bytes) -> frozenset[str]:
    """Read a list as strictly as etcd does; ValueError says why etcd would refuse everybody."""
    if not _version_2(der):
        raise ValueError("not a list of version 2 in DER, the only one that etcd 3.6 reads")
    found = x509.load_der_x509_crl(der)
    tuple(found.extensions)
    for entry in found:
        tuple(entry.extensions)
    return frozenset(f"{entry.serial_number:x}" for entry in found)


def _version_2(der: bytes) -> bool:
    """Whether the signed part begins with a version; without one it is version 1 (RFC 5280, 5.1)."""
    outer = _inside(der)
    inner = _inside(outer) if outer else None
    return inner is not None and inner.startswith(b"\x02\x01\x01")


def _inside(der: bytes) -> bytes | None:
    """The content of a DER sequence; None if it is none."""
    if len(der) < 2 or der[0] != 0x30:
        return None
    if der[1] < 0x80:
        return der[2:]
    return der[2 + (der[1] & 0x7F) :]


def taken(
    content: bytes,
    source: str,
    signers: Mapping[Port, Authority],
    carried: Sequence[x509.Certificate] = (),
) -> tuple[tuple[Port, ...], bytes]:
    """Take in a list that the owner of the CA made, PEM or DER: whose it is, and its DER.

    UsageError unless one of our CAs signed it and etcd can read it; or an intermediate below one, of
    those that leaves carry.
    """
    try:
        pem = b"-----BEGIN" in content
        found = x509.load_pem_x509_crl(content) if pem else x509.load_der_x509_crl(content)
        der = found.public_bytes(Encoding.DER)
        serials(der)
    except ValueError as error:
        raise UsageError(
            f"{source} is no list of revoked certificates that etcd reads: {error}",
            "make one of version 2 (openssl ca -gencrl with crl_extensions), PEM or DER",
        ) from error
    ports = tuple(port for port, signer in signers.items() if _signer_of(found, signer, carried))
    if not ports:
        names = " or ".join(dict.fromkeys(repr(signer.common_name) for signer in signers.values()))
        raise UsageError(f"{source} was not signed by {names}", "have the owner of that CA make it")
    return ports, der


def _signer_of(
    found: x509.CertificateRevocationList, trusted: Authority, carried: Sequence[x509.Certificate]
) -> bool:
    """Whether this CA signed a list, or one that leads to it."""
    return any(
        found.is_signature_valid(_public(one))
        for one in (*trusted.chain, *filter(is_ca, carried))
        if chain.upwards(one, (*carried, *trusted.chain))[-1] in trusted.chain
    )


def _public(one: x509.Certificate) -> Any:
    return one.public_key()


def read(directory: Path, document: object) -> Revocations:
    """Read what is revoked from a generation; UsageError names what is damaged.

    A garbled list on the members would shut out everybody, so it is none already here.
    """
    files = {name: path.read_bytes() for name in FILES.values() if (path := directory / name).exists()}
    try:
        entries = tuple(_entry(about) for about in document) if isinstance(document, list) else ()
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{directory}: what is revoked is damaged: {error!r}", _RESTORE) from error
    for port, name in FILES.items():
        if name not in files and any(port in entry.ports for entry in entries):
            raise UsageError(f"{directory / name} is missing: a store copied in part?", _RESTORE)
    for name, der in files.items():
        try:
            serials(der)
        except ValueError as error:
            raise UsageError(f"{directory / name} is damaged: {error}", _RESTORE) from error
    return Revocations(entries, files)


def _entry(about: Mapping[str, Any]) -> Revoked:
    until = about["until"]
    ports: list[Port] = [port for port in FILES if port in about["ports"]]
    return Revoked(
        f"{int(about['serial'], 16):x}",
        str(about["name"]),
        datetime.fromisoformat(about["when"]),
        until and datetime.fromisoformat(until),
        tuple(ports),
    )
