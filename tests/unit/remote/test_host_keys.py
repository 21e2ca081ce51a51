"""Reading known_hosts: pure rules; the refusals are tested against a real sshd."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from etcdctl_remote.errors import HostKeyRefused
from etcdctl_remote.remote.host_keys import OfferedKey, fingerprint, matches, parse, read, verify, whole
from etcdctl_remote.remote.ssh_config import Endpoint, Route

BLOB = b"\0\0\0\x0bssh-ed25519\0\0\0\x04abcd"
KEY = base64.b64encode(BLOB).decode()
FILE = Path("/known_hosts")


@pytest.mark.parametrize(
    ("pattern", "name", "wanted"),
    [
        ("[10.0.0.1]:2222", "[10.0.0.1]:2222", True),
        ("[10.0.0.1]:2222", "1:2222", False),
        ("10.0.0.*", "10.0.0.9", True),
        ("10.0.0.?", "10.0.0.10", False),
        ("n.1", "nx1", False),
    ],
)
def test_patterns(pattern: str, name: str, wanted: bool) -> None:
    """Only * and ? are wild."""
    assert matches(pattern, name) is wanted


def test_line() -> None:
    """Names, kind, key, and where it stands."""
    key = parse(f"a,b ssh-ed25519 {KEY} a comment", FILE, 7)
    assert key is not None
    assert (key.blob, key.line, key.revoked) == (BLOB, 7, False)
    assert key.covers("b")
    assert not key.covers("c")
    revoked = parse(f"@revoked * ssh-ed25519 {KEY}", FILE, 8)
    assert revoked is not None
    assert revoked.revoked


@given(st.binary(max_size=60))
@example(KEY.encode())
def test_no_line_is_fatal(noise: bytes) -> None:
    """Whatever a line holds, reading it gives a whole key or nothing."""
    for prefix in ("", "host ssh-ed25519 ", "@revoked "):
        key = parse(prefix + noise.decode("utf-8", "replace"), FILE, 1)
        assert key is None or whole(key.kind, key.blob)


@given(st.integers(min_value=0, max_value=len(BLOB) - 1))
def test_truncated_key_is_no_key(size: int) -> None:
    """A cut line never matches anything."""
    assert not whole("ssh-ed25519", BLOB[:size])


def test_kind_must_match_the_key() -> None:
    """A line that says one kind and holds another is garbage."""
    assert parse(f"a ssh-rsa {KEY}", FILE, 1) is None


def test_missing_file_knows_nobody(tmp_path: Path) -> None:
    """It is not an error."""
    assert list(read(tmp_path / "none")) == []


def test_fingerprint() -> None:
    """OpenSSH's form: base64 without padding."""
    assert fingerprint(b"") == "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"


def test_a_run_that_only_reads_notes_keys_in_memory(tmp_path: Path) -> None:
    """No file is written, and a second key in the same run is refused all the same."""
    file = tmp_path / "known_hosts"
    plain = Endpoint("10.0.0.1", 22, "root", known_hosts=(file,), accept_new=True)
    server = Route(plain).remembering([]).target
    verify(server, OfferedKey("ssh-ed25519", BLOB), "n1")
    verify(server, OfferedKey("ssh-ed25519", BLOB), "n1")
    assert not file.exists()
    with pytest.raises(HostKeyRefused, match="has changed"):
        verify(server, OfferedKey("ssh-ed25519", BLOB[:-1] + b"x"), "n1")
