"""Why a certificate must be renewed, and what it says."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from etcdctl_remote.pki.authority import Authority, key_pem, new_key
from etcdctl_remote.pki.inspect import Leaf, is_ca, key_matches, read_leaf, why_renew
from etcdctl_remote.pki.profiles import Profile
from etcdctl_remote.secret import Secret

NOW = datetime(2030, 5, 17, 12, tzinfo=UTC)
PROFILE = Profile("etcd-server-n1", ("n1",), (ipaddress.ip_address("10.0.0.1"),), ("server", "client"), 90)
CA = Authority.create("demo etcd CA", "ecdsa-p256", 3650, NOW)


def _leaf(profile: Profile = PROFILE, ca: Authority = CA) -> Leaf:
    credential = ca.issue(profile, NOW)
    return read_leaf(credential.certificate_pem, credential.key_pem)


def test_a_leaf_tells_what_its_profile_said() -> None:
    """Reading gives back what was issued."""
    leaf = _leaf()
    assert leaf.subject == "etcd-server-n1"
    assert leaf.issuer == CA.common_name
    assert leaf.names == PROFILE.names == {"n1", "10.0.0.1"}
    assert leaf.usages == ("server", "client")
    assert leaf.key_type == "ecdsa-p256"
    assert leaf.key_matches is True
    assert leaf.days_left(NOW) == 90
    assert len(leaf.fingerprint) == 64
    assert int(leaf.serial, 16) == leaf.certificate.serial_number


def test_days_left_turn_negative_after_the_end() -> None:
    """An expired certificate never shows as having a day left."""
    leaf = _leaf()
    assert leaf.days_left(leaf.not_after - timedelta(hours=1)) == 0
    assert leaf.days_left(leaf.not_after + timedelta(seconds=1)) == -1


def test_a_good_leaf_has_no_reason() -> None:
    """Nothing changed, nothing is renewed; common name and lifetime alone are no reason."""
    assert why_renew(_leaf(), PROFILE, CA, NOW) == []
    assert why_renew(_leaf(), replace(PROFILE, common_name="x", days=10), CA, NOW) == []


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        (replace(PROFILE, dns=("n1", "n1.example")), "names changed: +n1.example"),
        (replace(PROFILE, addresses=()), "names changed: -10.0.0.1"),
        (replace(PROFILE, usages=("client",)), "usages changed: -server"),
        (replace(PROFILE, key="rsa-2048"), "key type changed: ecdsa-p256 → rsa-2048"),
    ],
)
def test_a_changed_wish_is_a_reason(profile: Profile, reason: str) -> None:
    """The reason says what differs."""
    assert why_renew(_leaf(), profile, CA, NOW) == [reason]


def test_another_ca_is_a_reason() -> None:
    """Even one of the same subject; both names are said."""
    new = Authority.create("demo etcd CA", "ecdsa-p256", 3650, NOW)
    assert why_renew(_leaf(), PROFILE, new, NOW) == [f"issuer changed: {CA.common_name} → {new.common_name}"]


def test_an_expired_leaf_is_due_and_an_ending_one_within_the_window() -> None:
    """Without a window only the end itself counts."""
    leaf, later = _leaf(), NOW + timedelta(days=80)
    assert why_renew(leaf, PROFILE, CA, later) == []
    assert why_renew(leaf, PROFILE, CA, later, timedelta(days=30)) == ["expires in 10 days, on 2030-08-15"]
    assert why_renew(leaf, PROFILE, CA, NOW + timedelta(days=90)) == ["expired on 2030-08-15"]


def test_a_leaf_that_ends_with_its_ca_is_not_renewed_in_vain() -> None:
    """The next one would end on the same day: every run would issue one more."""
    ca = Authority.create("short", "ecdsa-p256", 20, NOW)
    assert why_renew(_leaf(ca=ca), PROFILE, ca, NOW, timedelta(days=30)) == []


def test_a_foreign_key_is_a_reason() -> None:
    """A certificate beside another one's key cannot serve."""
    leaf = read_leaf(CA.issue(PROFILE, NOW).certificate_pem, key_pem(new_key("ecdsa-p256")))
    assert why_renew(leaf, PROFILE, CA, NOW) == ["its key belongs to another certificate"]


def test_all_reasons_are_said_at_once() -> None:
    """An operator sees everything that is wrong, not the first thing."""
    new = Authority.create("other", "ecdsa-p256", 3650, NOW)
    wish = replace(PROFILE, dns=(), key="ecdsa-p384")
    assert len(why_renew(_leaf(), wish, new, NOW + timedelta(days=91))) == 4


@pytest.mark.parametrize("garbage", [b"", b"-----BEGIN CERTIFICATE-----\n", b"\0" * 100])
def test_garbage_is_a_value_error(garbage: bytes) -> None:
    """Callers turn one kind of exception into a message, whatever lies on the disk."""
    with pytest.raises(ValueError, match=r".*"):
        read_leaf(garbage)
    with pytest.raises(ValueError, match=r".*"):
        key_matches(CA.parsed, Secret(garbage))


def test_a_leaf_is_no_ca() -> None:
    """Only basic constraints make one."""
    assert is_ca(CA.parsed)
    assert not is_ca(_leaf().certificate)
