"""The search for private keys after every test on nodes: it finds each form of one, and nothing else."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pyrage
import pytest
from cryptography.hazmat.primitives import serialization as ser

from etcdctl_remote.errors import Failed
from etcdctl_remote.lab.model import Node
from tests.cluster import arguments, secrets
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


@pytest.mark.parametrize("by", ["identity", "passphrase"])
def test_a_sealed_key_is_known(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """As an argument, say. One that nothing opens could not be searched for: that is said."""
    monkeypatch.setattr(secrets, "_OPENERS", [])
    identity, pem = pyrage.x25519.Identity.generate(), (made / "ec.key").read_bytes()
    sealed, opener = {
        "identity": (pyrage.encrypt(pem, [identity.to_public()]), identity),
        "passphrase": (pyrage.passphrase.encrypt(pem, "of a test"), "of a test"),
    }[by]
    (tmp_path / "ca.key.age").write_bytes(sealed)
    secrets.opened_by("not this one")
    secrets.opened_by(pyrage.x25519.Identity.generate())
    with pytest.raises(AssertionError, match="what opens a sealed key"):
        secrets.Keys.below(tmp_path)
    secrets.opened_by(opener)
    keys = secrets.Keys.below(tmp_path)
    assert len(keys.secrets) == 1
    for text in forms(made / "ec.key").values():
        assert keys.shown_in(words(b'audit(1.5:2): argc=2 a0="sh" a1=' + text.hex().upper().encode()))


def told(folder: Path, journal: bytes = b"nothing") -> str:
    """Run the script that nodes run, on folders here: `config` is etcd's."""
    (folder / "journal").write_bytes(journal)
    program = folder / "bin" / "journalctl"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\ncat {folder}/journal\n")
    program.chmod(0o755)
    places = [str(folder / name) for name in ("config", "tmp", "none")]
    env = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    argv = ["sh", "-c", secrets.LOOK, "sh", *places]
    return subprocess.run(argv, capture_output=True, text=True, check=True, env=env).stdout


def test_what_lies_about_is_found(made: Path, tmp_path: Path) -> None:
    """In a file, in the journal; not where it belongs, and not what people log in with."""
    keys, forbidden = secrets.Keys.below(made), forms(made / "ec.key")
    login = forms(openssl.root(tmp_path, "another").key)["as it lies"]
    own, writing = "config/pki/0123456789abcdef", ".etcdctl-remote.0123456789ab"
    for path, content in (
        ("config/odd\nname.crt", b""),
        (f"{own}/server.key", forbidden["as it lies"]),
        (f"{own}/{writing}/server.key", forbidden["as it lies"]),
        ("tmp/home/.ssh/id_own", login),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)

    def wrong(journal: bytes = b"nothing") -> list[str]:
        found = secrets.complaints(secrets.Sight.read(told(tmp_path, journal)), keys)
        return [line.removeprefix(f"{tmp_path}/") for line in found if "private key" in line]

    assert wrong() == []
    assert f"{tmp_path}/config/odd\nname.crt" in secrets.Sight.read(told(tmp_path)).modes
    assert wrong(forbidden["one line"]) == ["the systemd journal has a private key"]
    for path, content in (
        ("tmp/home/.ssh/known", forbidden["der"]),
        ("tmp/home/id_own", login),
        ("config/copy", forbidden["one line"]),
        (f"{own}/server.key.bak", forbidden["as it lies"]),
        (f"{own}/server.crt", forbidden["as it lies"]),
        (f"{own}/ca.key", login),
    ):
        (tmp_path / path).write_bytes(content)
        assert wrong() == [f"{path} has a private key"]
        (tmp_path / path).unlink()


def test_a_node_has_no_key_of_a_ca(made: Path, tmp_path: Path) -> None:
    """Not in the place of its own either."""
    shutil.copytree(made, tmp_path / "ca" / "1")
    (tmp_path / "ca" / "1" / "ec384.key").rename(tmp_path / "leaf.key")
    own = "/etc/etcd/pki/0123456789abcdef/peer.key"
    for kind, wrong in (("ec384", []), ("ec", [f"{own} has the key of a CA"])):
        content = (made / "ec384.key").read_bytes() + (made / f"{kind}.key").read_bytes()
        sight = secrets.Sight({"/etc/etcd": ""}, {own: content}, b"")
        keys = secrets.Keys.below(tmp_path) | secrets.Keys.below(tmp_path / "leaf")
        assert list(secrets.complaints(sight, keys)) == wrong


def test_a_cut_answer_is_no_answer(tmp_path: Path) -> None:
    """Wherever it is cut; nor is one with other characters, or whose tar has ended early or is none."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "file").write_bytes(b"x" * 3000)
    whole = told(tmp_path).removesuffix("\n")
    found = secrets.Sight.read(whole)
    assert (list(found.files.values()), found.journal) == ([b"x" * 3000], b"nothing")
    cuts = [whole[:size] for size in (*range(200), *range(200, len(whole) - 200, 97))]
    cuts += [whole[:-size] for size in range(1, 200)]
    modes, packed, journal, end = whole.split("\n")
    tar = base64.b64decode(packed)
    for other in (b"", tar[:100], tar[:2000], tar[: 512 + 3072], b"no tar" + bytes(1024)):
        cuts.append("\n".join([modes, base64.b64encode(other).decode(), journal, end]))
    cuts.append("\n".join([modes, packed, f"*{journal}", end]))
    for cut in cuts:
        with pytest.raises(secrets.BROKEN):
            secrets.Sight.read(cut)


@pytest.mark.parametrize("broken", ["", "bW9kZXM=\nend", None])
def test_a_broken_answer_fails_the_test_of_a_node_that_is_up(
    monkeypatch: pytest.MonkeyPatch, broken: str | None
) -> None:
    """One that has gone down meanwhile is quiet, and fails nobody's test; the engine may fail too."""

    def answer(*_: object) -> str:
        if broken is None:
            raise Failed("the engine did not run it")
        return broken

    def last_look(*states: str) -> secrets.Sight | None:
        found = iter(states)
        monkeypatch.setattr(Node, "handle", lambda _: SimpleNamespace(status=next(found)))
        return secrets.last_look(Node("n1", "n1", "192.0.2.1", None))

    monkeypatch.setattr(secrets, "execute", answer)
    assert last_look("exited") is None
    assert last_look("running", "exited") is None
    with pytest.raises(secrets.BROKEN):
        last_look("running", "running")


RIGHT = {
    "/etc/etcd": "d 750 root:etcd",
    "/etc/etcd/member": "l 777 root:root",
    "/etc/etcd/identity": "f 644 root:root",
    "/etc/etcd/etcdctl.env": "f 640 root:etcd",
    "/etc/etcd/pki": "d 750 root:etcd",
    "/etc/etcd/pki/0123456789abcdef/server.key": "f 640 root:etcd",
    "/etc/etcd/pki/0123456789abcdef/server.crt": "f 644 root:root",
    "/etc/etcd/pki/.etcdctl-remote.0123": "d 700 root:root",
    "/etc/etcd/pki/.etcdctl-remote.0123/server.key": "f 600 root:root",
}


@pytest.mark.parametrize(
    ("path", "about"),
    [
        ("/etc/etcd", "d 755 root:etcd"),
        ("/etc/etcd/pki/0123456789abcdef/server.key", "f 644 root:etcd"),
        ("/etc/etcd/pki/0123456789abcdef/server.key", "f 640 root:root"),
        ("/etc/etcd/pki/0123456789abcdef/server.key", "f 640 etcd:etcd"),
        ("/etc/etcd/pki/0123456789abcdef/server.crt", "f 664 root:root"),
        ("/etc/etcd/pki/.etcdctl-remote.0123", "d 755 root:root"),
    ],
)
def test_wrong_rights_are_named(path: str, about: str) -> None:
    """Of what is ours: without a folder of certificates it is somebody else's."""
    assert list(secrets.wrong_rights(RIGHT)) == []
    (told,) = secrets.wrong_rights(RIGHT | {path: about})
    assert told.startswith(f"{path} is {about!r}")
    assert list(secrets.wrong_rights({"/etc/etcd": "d 755 root:root"})) == []


@pytest.mark.parametrize(
    ("path", "about"),
    [
        ("server.key.bak", "f 644 root:root"),
        ("pki/0123456789abcdef/server.key.bak", "f 640 root:etcd"),
        ("pki/0123456789abcdef/server.pem", "f 4777 root:root"),
        ("pki/0123456789abcdef/ca.key.age", "f 666 root:root"),
        ("pki/0123456789abcdef/ca.key", "f 640 root:etcd"),
        ("pki/server.key", "f 640 root:etcd"),
        ("pki/1", "d 750 root:etcd"),
        ("pki/odd\nname", "p 644 root:root"),
        ("identity.bak", "l 777 root:root"),
    ],
)
def test_what_does_not_belong_there_is_named(path: str, about: str) -> None:
    assert list(secrets.wrong_rights(RIGHT | {f"/etc/etcd/{path}": about})) == [
        f"/etc/etcd/{path} is {about!r}, wanted 'nothing'"
    ]


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


class Audit:
    """A kernel's side: how it is set, and whether it takes rules."""

    def __init__(self, enabled: int = 0, pid: int = 0) -> None:
        self.state = (0, enabled, 0, pid, 0, 64, 0, 0)

    def status(self) -> tuple[int, ...]:
        return self.state

    def set(self, *_: int) -> None:
        pass

    def ask(self, *_: object) -> bytes:
        raise PermissionError(1, "no rules today")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Node:
    """A node on this machine."""
    monkeypatch.setattr(arguments, "execute", lambda *_: Path(arguments._BOOT).read_text())
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return Node("n1", "n1", "192.0.2.1", None)


def speaks(monkeypatch: pytest.MonkeyPatch, audit: Audit | OSError) -> None:
    @contextmanager
    def conversation() -> Iterator[Audit]:
        if isinstance(audit, OSError):
            raise audit
        yield audit

    monkeypatch.setattr(arguments, "_conversation", conversation)


@pytest.mark.parametrize(
    ("audit", "why"),
    [
        (PermissionError(1, "not you"), "the audit says [Errno 1] not you"),
        (Audit(pid=1), "somebody uses the audit"),
        (Audit(enabled=2), "somebody uses the audit"),
    ],
)
def test_who_looks_at_proc_says_why(
    monkeypatch: pytest.MonkeyPatch, here: Node, audit: Audit | OSError, why: str
) -> None:
    speaks(monkeypatch, audit)
    with arguments.watched(here) as seen:
        pass
    assert seen.by == f"looking at /proc, for {why}"
    monkeypatch.setattr(arguments, "execute", lambda *_: "another boot")
    assert arguments.unheard(here) == "the node runs on another machine"


def test_an_audit_that_nobody_uses_has_to_tell(monkeypatch: pytest.MonkeyPatch, here: Node) -> None:
    """It answers, so it is used, and what fails then fails the test."""
    speaks(monkeypatch, Audit())
    assert arguments.unheard(here) == ""
    with pytest.raises(PermissionError, match="no rules today"), arguments.watched(here):
        pytest.fail("nobody was listening")
