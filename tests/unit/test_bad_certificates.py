"""Bad input about certificates, as an operator types it: exit 2, what, where and what to do; nothing changed.

The node is one that nobody can reach: whatever is refused here is refused before any host is asked.
"""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.pki import openssl
from tests.unit.pki.stores import contents
from tests.unit.program import run

INVENTORY = """
cluster: demo
version: "3.6.14"
ssh: {port: 1}
nodes: {n1: 127.0.0.1}
pki: {peer_ca: same}
"""
SEALED = "\npki: {peer_ca: same, ca_key: {protect: passphrase, passphrase: 'env:PHRASE'}}\n"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster with a CA, and beside it all that is not to be taken."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "inventory.yaml").write_text(INVENTORY)
    made = run("certs.init", folder=folder)
    assert made.returncode == 0, made
    good = openssl.root(folder, "good")
    openssl.key(folder / "other.key")
    openssl.root(folder, "leaf", extensions="basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n")
    openssl.below(good, folder, "ended", days=-1)
    openssl.openssl(
        "pkcs8", "-topk8", "-in", good.key, "-passout", "pass:right", "-out", folder / "locked.key"
    )
    (folder / "garbage.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (folder / "bad.csr").write_bytes(with_another_signature(good.key))
    return folder


def with_another_signature(key: Path) -> bytes:
    """A request whose last bytes, its signature's, were changed on the way."""
    pem = openssl.openssl("req", "-new", "-key", key, "-subj", "/CN=app")
    der = bytearray(base64.b64decode(b"".join(pem.splitlines()[1:-1])))
    der[-1] ^= 1
    body = base64.encodebytes(bytes(der))
    return b"-----BEGIN CERTIFICATE REQUEST-----\n" + body + b"-----END CERTIFICATE REQUEST-----\n"


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Callable[[bool], Path]:
    """A copy of it: with the CA, or without one."""

    def make(has_ca: bool) -> Path:
        place = tmp_path / "here"
        shutil.copytree(prepared, place, symlinks=True)
        if not has_ca:
            shutil.rmtree(place / "certs")
        return place

    return make


def kept(folder: Path) -> dict[str, bytes]:
    """Everything below a folder but the journal, which notes what was tried."""
    return {name: content for name, content in contents(folder).items() if ".journal." not in name}


IMPORT = ("certs.init", "--import")
ISSUE = ("certs.issue", "--name", "app", "--out", "out")

IMPORTS = {
    "missing": ((*IMPORT, "none.crt,none.key"), "none.crt cannot be read: No such file", "none.key cannot"),
    "unreadable": ((*IMPORT, "garbage.crt,good.key"), "garbage.crt holds no PEM certificate", ""),
    "no key": ((*IMPORT, "good.crt,good.crt"), "good.crt: holds no private key as PEM", ""),
    "mismatched": ((*IMPORT, "good.crt,other.key"), "other.key is not the key of good.crt", "'good'"),
    "expired": ((*IMPORT, "ended-chain.crt,ended.key"), "ended-chain.crt: 'ended' expired on", ""),
    "no CA": ((*IMPORT, "leaf.crt,leaf.key"), "leaf.crt: 'leaf' is no CA", "may not sign certificates"),
    "a wrong passphrase": (
        (*IMPORT, "good.crt,locked.key", "--passphrase", "env:PHRASE"),
        "locked.key: does not open: the passphrase is wrong",
        "",
    ),
    "no passphrase": ((*IMPORT, "good.crt,locked.key"), "locked.key", "there is nobody to ask"),
    "two at once": ((*IMPORT, "good.crt,other.key", "--import-peer", "a,b"), "--import-peer", "share one CA"),
}


@pytest.mark.parametrize("case", IMPORTS)
def test_a_ca_that_cannot_be_taken_in(case: str, folder: Callable[[bool], Path]) -> None:
    """No store is begun for it; the passphrase is not repeated."""
    words, *said = IMPORTS[case]
    refused(folder(False), words, *said)


OTHERS = {
    "a changed request": ((*ISSUE, "--csr", "bad.csr"), "bad.csr: the signature is not that of the key", ""),
    "no request": ((*ISSUE, "--csr", "good.crt"), "good.crt is no request", "it holds a certificate"),
    "a node's name": (("certs.issue", "--name", "n1"), "--name n1: that is the node n1", ""),
    "nobody's bundle": (("certs.export", "--name", "nobody", "--out", "out"), "to 'nobody'", "certs.issue"),
    "nobody's certificate": (("certs.revoke", "--name", "nobody"), "issued to 'nobody'", "--serial"),
    "an unknown node": (("rotate-certs", "--node", "n9", "-y"), "--node n9: no such node", "one of: n1"),
    "one of one CA": (("rotate-certs", "--ca-only", "peer", "-y"), "share one CA", "leave it out"),
    "no duration": (("rotate-certs", "--within", "soon"), "--within 'soon' is no span of time", "30d"),
    "a lost backup": (("certs.restore", "--from", "none.age"), "none.age cannot be read", ""),
    "no backup": (("certs.restore", "--from", "good.crt"), "good.crt", ""),
    "no recipient": (("certs.backup", "--recipient", "age1x"), "age1x", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_what_cannot_be_done(case: str, folder: Callable[[bool], Path]) -> None:
    """Not with these words, these files, these names."""
    words, *said = OTHERS[case]
    refused(folder(True), words, *said)


def test_a_wrong_passphrase_for_the_ca(folder: Callable[[bool], Path]) -> None:
    """Where the CA's key is sealed: nothing is signed, and nothing resealed."""
    place = folder(False)
    inventory = place / "inventory.yaml"
    inventory.write_text(INVENTORY.replace("\npki: {peer_ca: same}\n", SEALED))
    made = run("certs.init", folder=place, env={"PHRASE": "right"})
    assert made.returncode == 0, made
    refused(place, ISSUE, "does not open: the passphrase", "wrong")
    inventory.write_text(inventory.read_text().replace("protect: passphrase,", "protect: none,"))
    refused(place, ("certs.init",), "does not open: the passphrase", "wrong")


def refused(folder: Path, words: tuple[str, ...], *said: str) -> None:
    """Exit 2; what is wrong, where, and a way out on standard error; every file as it was."""
    before = kept(folder)
    done = run(*words, folder=folder, env={"PHRASE": "hunter2"})
    assert done.returncode == 2, done
    assert not [text for text in said if text not in done.stderr], done.stderr
    assert done.stdout == ""
    error, hint = (line for line in done.stderr.splitlines() if line.startswith(("error: ", "  → ")))
    assert error, hint
    assert "hunter2" not in done.stderr
    assert kept(folder) == before
