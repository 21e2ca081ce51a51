"""What each extension means to those who verify."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import verification
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdctl_remote.errors import Refused
from etcdctl_remote.pki.authority import Authority, Credential, load_key
from etcdctl_remote.pki.profiles import KeyType, Profile, split_names

NOW = datetime(2030, 5, 17, 12, 0, 0, 123456, tzinfo=UTC)
SERVER = Profile(
    "etcd-server-n1",
    ("localhost", "n1"),
    (ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("fd00::1")),
    ("server", "client"),
    365,
)
CLIENT = Profile("etcdctl-n1", (), (), ("client",), 365, uris=("urn:etcdctl-remote:demo:n1",))
KEYS: tuple[KeyType, ...] = ("ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072")


def _parsed(credential: Credential) -> x509.Certificate:
    return x509.load_pem_x509_certificate(credential.certificate_pem)


def _policy(ca: Authority) -> verification.PolicyBuilder:
    store = verification.Store([ca.parsed])
    return verification.PolicyBuilder().store(store).time(NOW.replace(tzinfo=None))


@pytest.fixture(scope="module")
def ca() -> Authority:
    return Authority.create("demo etcd CA", "ecdsa-p256", 3650, NOW)


@pytest.mark.parametrize("key", KEYS)
def test_strict_verifiers_accept_every_key_type(key: KeyType) -> None:
    """Servers pass by each of their names and as clients; clients pass as clients."""
    ca = Authority.create("demo etcd CA", key, 3650, NOW)
    server = _parsed(ca.issue(replace(SERVER, key=key), NOW))
    for name in SERVER.dns:
        assert _policy(ca).build_server_verifier(x509.DNSName(name)).verify(server, [])
    for address in SERVER.addresses:
        assert _policy(ca).build_server_verifier(x509.IPAddress(address)).verify(server, [])
    assert _policy(ca).build_client_verifier().verify(server, []).chain[0] == server
    client = _parsed(ca.issue(replace(CLIENT, key=key), NOW))
    assert _policy(ca).build_client_verifier().verify(client, []).chain[0] == client


def test_a_client_certificate_serves_nobody(ca: Authority) -> None:
    """Whoever steals an etcdctl certificate cannot pose as a server with it."""
    client = _parsed(ca.issue(replace(CLIENT, dns=("n1",)), NOW))
    with pytest.raises(verification.VerificationError):
        _policy(ca).build_server_verifier(x509.DNSName("n1")).verify(client, [])


def test_another_ca_of_the_same_name_is_a_stranger(ca: Authority) -> None:
    """The signature decides, not the issuer's name."""
    twin = Authority.create("demo etcd CA", "ecdsa-p256", 3650, NOW)
    leaf = _parsed(twin.issue(SERVER, NOW))
    assert twin.signed(leaf)
    assert not ca.signed(leaf)
    with pytest.raises(verification.VerificationError):
        _policy(ca).build_server_verifier(x509.DNSName("n1")).verify(leaf, [])


def test_two_cas_of_a_cluster_can_be_told_apart(ca: Authority) -> None:
    """The old and the new CA of a rotation have different names in every log."""
    assert ca.common_name.startswith("demo etcd CA ")
    assert ca.common_name != Authority.create("demo etcd CA", "ecdsa-p256", 3650, NOW).common_name


def test_a_ca_signs_leaves_but_no_cas(ca: Authority) -> None:
    """Basic constraints and key usage of the CA are critical and say certificates and CRLs only."""
    basic = ca.parsed.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    usage = ca.parsed.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign


@pytest.mark.parametrize(("key", "enciphers"), [("ecdsa-p256", False), ("rsa-2048", True)])
def test_only_rsa_keys_encipher(ca: Authority, key: KeyType, enciphers: bool) -> None:
    """Key encipherment is a word about RSA key exchange; a leaf never signs certificates."""
    usage = _parsed(ca.issue(replace(SERVER, key=key), NOW)).extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.value.digital_signature
    assert usage.value.key_encipherment is enciphers
    assert not usage.value.key_cert_sign


def test_a_leaf_points_to_the_key_of_its_issuer(ca: Authority) -> None:
    """The authority key identifier is the CA's own, so that chains are found during a rotation."""
    leaf = _parsed(ca.issue(SERVER, NOW)).extensions
    own = ca.parsed.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    pointed = leaf.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert pointed.key_identifier == own.key_identifier


def test_a_leaf_begins_five_minutes_ago(ca: Authority) -> None:
    """A node whose clock lags a little accepts it at once."""
    leaf = _parsed(ca.issue(SERVER, NOW + timedelta(days=1)))
    whole = NOW.replace(microsecond=0) + timedelta(days=1)
    assert leaf.not_valid_before_utc == whole - timedelta(minutes=5)
    assert leaf.not_valid_after_utc == whole + timedelta(days=365)


def test_a_leaf_never_outlives_its_ca() -> None:
    """It is cut to the CA's end, and begins no earlier than the CA does."""
    ca = Authority.create("short", "ecdsa-p256", 30, NOW)
    leaf = _parsed(ca.issue(SERVER, NOW))
    assert leaf.not_valid_after_utc == ca.not_after
    assert leaf.not_valid_before_utc == ca.parsed.not_valid_before_utc


@pytest.mark.parametrize(("days", "word"), [(31, "expired"), (-1, "clock")])
def test_outside_its_lifetime_a_ca_signs_nothing(days: int, word: str) -> None:
    """The refusal says which CA, when, and what to do."""
    ca = Authority.create("short", "ecdsa-p256", 30, NOW)
    with pytest.raises(Refused) as caught:
        ca.issue(SERVER, NOW + timedelta(days=days))
    assert word in str(caught.value)
    assert ca.common_name in str(caught.value)
    assert caught.value.hint


def test_a_ca_without_its_key_says_which_file_is_missing(ca: Authority) -> None:
    """Never a new CA in place of a lost key."""
    with pytest.raises(Refused, match=r"certs/demo/ca/0001/ca\.key is missing"):
        Authority(ca.certificate, None, "certs/demo/ca/0001/ca.key").issue(SERVER, NOW)


def test_serials_and_keys_never_repeat(ca: Authority) -> None:
    """Two leaves of one profile have nothing secret or unique in common."""
    pairs = [ca.issue(SERVER, NOW) for _ in range(20)]
    assert len({_parsed(pair).serial_number for pair in pairs}) == 20
    assert len({pair.key_pem.reveal for pair in pairs}) == 20


def test_a_naive_time_is_refused(ca: Authority) -> None:
    """A time without its zone would be wrong by hours somewhere."""
    with pytest.raises((ValueError, TypeError)):
        ca.issue(SERVER, NOW.replace(tzinfo=None))


def test_keys_are_pkcs8_and_redacted(ca: Authority) -> None:
    """Every reader of keys knows PKCS#8; no representation shows one."""
    credential = ca.issue(SERVER, NOW)
    assert credential.key_pem.reveal.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert "BEGIN PRIVATE" not in repr(credential) + repr(ca)
    assert isinstance(load_key(credential.key_pem), ec.EllipticCurvePrivateKey)
    rsa_leaf = ca.issue(replace(SERVER, key="rsa-2048"), NOW)
    assert isinstance(load_key(rsa_leaf.key_pem), rsa.RSAPrivateKey)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
@pytest.mark.parametrize("key", ["ecdsa-p256", "ecdsa-p384", "rsa-2048"])
def test_openssl_verifies_strictly(tmp_path: Path, key: KeyType) -> None:
    """The second implementation agrees: chain, purposes, a host name and an address."""
    ca = Authority.create("demo etcd CA", key, 3650, NOW)
    (tmp_path / "ca").write_bytes(ca.certificate)
    (tmp_path / "leaf").write_bytes(ca.issue(replace(SERVER, key=key), NOW).certificate_pem)
    at = str(int(NOW.timestamp()))
    base = ["openssl", "verify", "-x509_strict", "-attime", at, "-CAfile", str(tmp_path / "ca")]
    for more in (
        ["-purpose", "sslserver", "-verify_hostname", "n1"],
        ["-purpose", "sslserver", "-verify_ip", "fd00::1"],
        ["-purpose", "sslclient"],
    ):
        done = subprocess.run(
            [*base, *more, str(tmp_path / "leaf")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@given(st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]([a-z0-9]{0,10})?){0,3}", fullmatch=True))
@settings(max_examples=40, deadline=None)
def test_any_host_name_the_profile_accepts_verifies(name: str) -> None:
    """What `split_names` lets through, a strict verifier takes as the server's name."""
    authority = Authority.create("demo etcd CA", "ecdsa-p256", 3650, NOW)
    dns, _ = split_names([name])
    leaf = _parsed(authority.issue(replace(SERVER, dns=dns), NOW))
    assert _policy(authority).build_server_verifier(x509.DNSName(name)).verify(leaf, [])
