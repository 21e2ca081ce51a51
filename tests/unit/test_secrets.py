"""The search for private keys after every test on nodes: it finds each form of one, and nothing else."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as ser

from tests.cluster import secrets
from tests.cluster.arguments import words

from .pki import openssl

KINDS = ("ec", "ec384", "ed25519", "rsa")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key of each kind."""
    folder = tmp_path_factory.mktemp("keys")
    for kind in KINDS:
        openssl.key(folder / f"{kind}.key", kind)
    return folder


def forms(key: Path) -> dict[str, bytes]:
    """Write a key in each form in which it may get somewhere."""
    pem = key.read_bytes()
    pkcs8 = ser.PrivateFormat.PKCS8, ser.NoEncryption()
    der = ser.load_pem_private_key(pem, None).private_bytes(ser.Encoding.DER, *pkcs8)
    return {
        "as it lies": pem,
        "without its first and last line": pem.rpartition(b"KEY-----\n")[0].rpartition(b"KEY-----\n")[2],
        "der": b"\0before" + der,
        "one line": b"key=" + base64.b64encode(der) + b" end",
        "other lines": base64.encodebytes(b"x" + der),
        "after two bytes": base64.b64encode(b"xy" + der),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_of_a_key_is_found(made: Path, kind: str) -> None:
    keys = secrets.Keys.below(made)
    assert len(keys.secrets) == 1 + 1 + 1 + 3
    found = {
        name: keys.theirs_in(b"some text\n" + text) for name, text in forms(made / f"{kind}.key").items()
    }
    assert set(found.values()) == {True}, found


def test_certificates_and_other_keys_are_not_theirs(made: Path, tmp_path: Path) -> None:
    """A certificate has the public part; somebody else's key shows by its first line only."""
    keys = secrets.Keys.below(made)
    root = openssl.root(tmp_path, "root", kind="rsa")
    public = openssl.openssl("pkey", "-in", made / "rsa.key", "-pubout")
    assert not keys.shown_in(public + root.certificate.read_bytes())
    other = forms(root.key)
    assert keys.shown_in(other["as it lies"])
    assert not keys.shown_in(other["one line"])
    assert not secrets.Keys.below().shown_in(public)


def test_what_lies_about_is_found(made: Path, tmp_path: Path) -> None:
    """The script that nodes run, on folders here: in a file, and in the journal."""
    programs, temporary, config = (tmp_path / name for name in ("bin", "tmp", "config"))
    for folder in (programs, temporary / "deep", config):
        folder.mkdir(parents=True)
    (config / "odd\nname.crt").touch(0o644)

    def seen(journal: bytes = b"nothing") -> secrets.Sight:
        (tmp_path / "journal").write_bytes(journal)
        (programs / "journalctl").write_text(f"#!/bin/sh\ncat {tmp_path}/journal\n")
        (programs / "journalctl").chmod(0o755)
        argv = ["sh", "-c", secrets.LOOK, "sh", str(config), str(temporary), str(tmp_path / "none")]
        env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        told = subprocess.run(argv, capture_output=True, text=True, check=True, env=env).stdout
        return secrets.Sight.read(told)

    keys, forbidden = secrets.Keys.below(made), forms(made / "ec.key")
    assert list(secrets.complaints(seen(), keys)) == []
    assert seen().modes[f"{config}/odd\nname.crt"].startswith("f 644 ")
    assert list(secrets.complaints(seen(forbidden["one line"]), keys)) == [
        "the systemd journal has a private key"
    ]
    (temporary / "deep" / "left").write_bytes(forbidden["der"])
    assert list(secrets.complaints(seen(), keys)) == [f"{temporary}/deep/left has a private key"]


RIGHT = {
    "/etc/etcd": "d 750 root:etcd",
    "/etc/etcd/member": "l 777 root:root",
    "/etc/etcd/identity": "f 644 root:root",
    "/etc/etcd/etcdctl.env": "f 640 root:etcd",
    "/etc/etcd/pki": "d 750 root:etcd",
    "/etc/etcd/pki/1/server.key": "f 640 root:etcd",
    "/etc/etcd/pki/1/server.crt": "f 644 root:root",
    "/etc/etcd/pki/.etcdctl-remote.0123": "d 700 root:root",
    "/etc/etcd/pki/.etcdctl-remote.0123/server.key": "f 600 root:root",
}


@pytest.mark.parametrize(
    ("path", "about"),
    [
        ("/etc/etcd", "d 755 root:etcd"),
        ("/etc/etcd/pki/1/server.key", "f 644 root:etcd"),
        ("/etc/etcd/pki/1/server.key", "f 640 root:root"),
        ("/etc/etcd/pki/1/server.key", "f 640 etcd:etcd"),
        ("/etc/etcd/pki/1/server.crt", "f 664 root:root"),
        ("/etc/etcd/pki/.etcdctl-remote.0123", "d 755 root:root"),
    ],
)
def test_wrong_rights_are_named(path: str, about: str) -> None:
    """Of what is ours: without a folder of certificates it is somebody else's."""
    assert list(secrets.wrong_rights(RIGHT)) == []
    (told,) = secrets.wrong_rights(RIGHT | {path: about})
    assert told.startswith(f"{path} is {about!r}")
    assert list(secrets.wrong_rights({"/etc/etcd": "d 755 root:root"})) == []


def test_a_store_that_others_can_read_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "requests").mkdir(0o700)
    (tmp_path / "requests" / "n1.crt").touch(0o644)
    (tmp_path / "ca.key").touch(0o600)
    assert secrets.open_to_others(tmp_path) == []
    (tmp_path / "ca.key").chmod(0o640)
    assert len(secrets.open_to_others(tmp_path)) == 1


def test_the_arguments_in_an_audit_record_are_read() -> None:
    """Plain ones are quoted, others are hexadecimal; a long one comes in parts."""
    record = b'audit(1.5:2): argc=3 a0="sh" a1=612062 a2_len=9000 a2[0]=410A'
    assert words(record) == b"sh\na b\nA\n"
    assert words(b"audit(1.5:2):  a2[1]=42") == b"B"
