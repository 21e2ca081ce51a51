"""A certificate authority: made once, signs leaves, never leaves this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..errors import Refused, UsageError
from ..secret import Secret
from . import chain
from .profiles import KeyType, Profile, Usage
from .sealed import Sealed

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

BACKDATE = timedelta(minutes=5)
"""How far a node's clock may lag behind the laptop's before a new certificate is refused there."""

_RESTORE = "put the file back from a backup of this directory"
_CA_NAME = 55  # with a blank and eight digits: the 64 that RFC 5280 allows

USAGES: dict[Usage, x509.ObjectIdentifier] = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
}


@dataclass(frozen=True)
class Credential:
    """A leaf and its private key, both PEM; the key is PKCS#8. Intermediates stand behind the leaf."""

    certificate_pem: bytes
    key_pem: Secret

    @property
    def carried(self) -> tuple[x509.Certificate, ...]:
        """The intermediates behind the leaf."""
        return chain.load(self.certificate_pem)[1:]


@dataclass(frozen=True)
class Authority:
    """A CA certificate (PEM), its chain up to a root behind it, and its key where it is at hand."""

    certificate: bytes
    """The one that signs first; of an outside CA all roots that are trusted."""
    key: Secret | Sealed | None
    key_file: str = field(default="", compare=False)
    """Where the key lies or should lie: for messages."""
    outside: bool = False
    """Somebody else signs (`pki.external`): only whom to trust is known here."""

    @classmethod
    def create(cls, name: str, key_type: KeyType, days: int, now: datetime) -> Authority:
        """Make a self-signed CA that may sign leaves, but no further CA.

        A piece of the serial ends the common name, so that an old and a new CA of one cluster
        can be told apart in every log.
        """
        return cls.until(name, key_type, now, _seconds(now) + timedelta(days=days))

    @classmethod
    def until(cls, name: str, key_type: KeyType, now: datetime, end: datetime) -> Authority:
        """Make a self-signed CA that ends at `end`."""
        key, serial = new_key(key_type), x509.random_serial_number()
        subject = _name(f"{name[:_CA_NAME]} {serial % 16**8:08x}")
        start = _seconds(now) - BACKDATE
        usage = _key_usage(digital_signature=True, key_cert_sign=True, crl_sign=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = (
            x509.CertificateBuilder(subject, subject, key.public_key(), serial)
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(_authority_key(identifier), critical=False)
        )
        return cls(_pem(builder.sign(key, _digest(key))), key_pem(key))

    def issue(self, profile: Profile, now: datetime) -> Credential:
        """Sign a new leaf with a new key; it never outlives this CA."""
        self.refuse_outside_lifetime(now)
        key = new_key(profile.key)
        return Credential(self.certify(profile, key.public_key(), now), key_pem(key))

    def certify(self, profile: Profile, key: PublicKey, now: datetime, serial: int = 0) -> bytes:
        """Sign a leaf (PEM) for a key that may be somebody else's; it never outlives this CA."""
        self.refuse_outside_lifetime(now)
        start = max(_seconds(now) - BACKDATE, *(one.not_valid_before_utc for one in self.chain))
        end = min(_seconds(now) + timedelta(days=profile.days), self.not_after)
        builder = x509.CertificateBuilder(
            self.parsed.subject, _name(profile.common_name), key, serial or x509.random_serial_number()
        )
        builder = builder.not_valid_before(start).not_valid_after(end)
        for extension, critical in self._leaf_extensions(profile, key):
            builder = builder.add_extension(extension, critical)
        return _pem(builder.sign(self._signer, _digest(self._signer))) + self.intermediates

    def sign_list(self, builder: x509.CertificateRevocationListBuilder) -> x509.CertificateRevocationList:
        """Sign a list of revoked certificates."""
        return builder.sign(self._signer, _digest(self._signer))

    def _leaf_extensions(self, profile: Profile, key: PublicKey) -> list[tuple[x509.ExtensionType, bool]]:
        return [
            *requested_extensions(profile, key),
            (x509.SubjectKeyIdentifier.from_public_key(key), False),
            (_authority_key(self.identifier), False),
        ]

    def refuse_outside_lifetime(self, now: datetime) -> None:
        """Refuse to sign before this CA, or one above it, begins, or after it ends."""
        for ca in self.chain:
            if now >= ca.not_valid_after_utc and (not self.outside or self.not_after <= now):
                raise Refused(
                    f"the CA {plain_name(ca.subject)!r} expired on {ca.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
                    "it can sign nothing any more: replace it with `rotate-certs --ca`",
                )
            if now < ca.not_valid_before_utc:
                raise Refused(
                    f"the CA {plain_name(ca.subject)!r} begins on {ca.not_valid_before_utc:%Y-%m-%d %H:%M} UTC, "
                    f"but the clock of this machine says {now:%Y-%m-%d %H:%M} UTC",
                    "set the clock right",
                )

    @cached_property
    def parsed(self) -> x509.Certificate:
        """The certificate that signs, as an object; ValueError if it is no PEM certificate."""
        return self.chain[0]

    @cached_property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The certificate that signs, and those above it; of an outside CA its roots."""
        return chain.load(self.certificate)

    @cached_property
    def trust(self) -> bytes:
        """PEM of what stands in trust bundles: the root alone."""
        return chain.pem(chain.roots(self.chain))

    @cached_property
    def intermediates(self) -> bytes:
        """PEM of what leaves carry behind them, since no bundle holds it."""
        return chain.pem(one for one in self.chain if not chain.is_root(one))

    @property
    def common_name(self) -> str:
        """The CA's common name: what an issuer line shows."""
        return plain_name(self.parsed.subject)

    @cached_property
    def identifier(self) -> x509.SubjectKeyIdentifier:
        """The key identifier that leaves point to; computed for a CA that does not state one."""
        try:
            return self.parsed.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return x509.SubjectKeyIdentifier.from_public_key(self.parsed.public_key())

    @property
    def not_after(self) -> datetime:
        """When this CA ends, or one above it, and with it everything that it signed."""
        ends = [one.not_valid_after_utc for one in self.chain]
        return max(ends) if self.outside else min(ends)

    def signed(self, leaf: x509.Certificate, carried: Sequence[x509.Certificate] = ()) -> bool:
        """Whether this very CA (not only one of the same name) signed `leaf`.

        An outside CA may sign through intermediates of its own: those that the leaf carries.
        """
        if self.outside:
            return chain.upwards(leaf, (*carried, *self.chain))[-1] in self.chain
        return chain.signed(leaf, self.parsed)

    @property
    def waits(self) -> bool:
        """Whether signing takes somebody else, or a key that is sealed: it is done after consent."""
        return self.outside or isinstance(self.key, Sealed)

    @cached_property
    def opened(self) -> Secret:
        """The private key, PEM; asks for what opens it if it is sealed. Refused if it is not here."""
        if isinstance(self.key, Sealed):
            return self._fitting(self.key.open())
        if self.key is not None:
            return self.key
        if self.outside:
            raise Refused(
                f"the key of the CA {self.common_name!r} is not on this computer (`pki.external`): "
                "this cannot be signed here",
                "have it signed where the key is",
            )
        raise Refused(
            f"{self.key_file or 'ca.key'} is missing: without the key of the CA "
            f"{self.common_name!r} nothing can be signed",
            "put the key back from a backup; a new CA would be strange to the running cluster",
        )

    def _fitting(self, key: Secret) -> Secret:
        """Hold a key that was just opened against the certificate: nobody could before."""
        try:
            fits = load_key(key).public_key() == self.parsed.public_key()
        except (ValueError, TypeError) as error:
            raise UsageError(f"{self.key_file} holds no private key: {error}", _RESTORE) from error
        if not fits:
            raise UsageError(f"{self.key_file} is not the key of the CA {self.common_name!r}", _RESTORE)
        return key

    @cached_property
    def _signer(self) -> PrivateKey:
        return load_key(self.opened)


def requested_extensions(profile: Profile, key: PublicKey) -> list[tuple[x509.ExtensionType, bool]]:
    """What a leaf says of itself, and whether that is critical."""
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in profile.dns]
    names += [x509.IPAddress(address) for address in profile.addresses]
    names += [x509.UniformResourceIdentifier(uri) for uri in profile.uris]
    rsa_key = isinstance(key, rsa.RSAPublicKey)
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(digital_signature=True, key_encipherment=rsa_key), True),
        (x509.ExtendedKeyUsage([USAGES[usage] for usage in profile.usages]), False),
        (x509.SubjectAlternativeName(names), False),
    ]


def new_key(kind: KeyType) -> PrivateKey:
    """Generate a private key."""
    if kind == "ecdsa-p256":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "ecdsa-p384":
        return ec.generate_private_key(ec.SECP384R1())
    return rsa.generate_private_key(65537, int(kind.removeprefix("rsa-")))


def key_pem(key: PrivateKey) -> Secret:
    """Write a key as PKCS#8 PEM, which etcd and everything else reads."""
    encoding, layout = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return Secret(key.private_bytes(encoding, layout, serialization.NoEncryption()))


def load_key(pem: Secret) -> PrivateKey:
    """Read an unencrypted PEM key (PKCS#8, PKCS#1, SEC1); ValueError or TypeError if it is none.

    OpenSSL's primality checks on RSA keys are left out: they cost tens of milliseconds, and
    what a swapped or cut file looks like shows when the key is held against its certificate.
    """
    key = serialization.load_pem_private_key(pem.reveal, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError(f"neither an ECDSA nor an RSA key: {type(key).__name__}")
    return key


def plain_name(name: x509.Name) -> str:
    """The common name where there is one, else the whole name."""
    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else name.rfc4514_string()


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _seconds(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment.replace(microsecond=0)


def _digest(signer: PrivateKey) -> hashes.SHA256 | hashes.SHA384:
    return hashes.SHA384() if signer.key_size == 384 else hashes.SHA256()


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _authority_key(identifier: x509.SubjectKeyIdentifier) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _key_usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
