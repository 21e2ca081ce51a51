"""The tasks about the store, from outside: exit codes, what is said, what is written."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cluster import secrets, terminal
from tests.unit.pki import openssl
from tests.unit.program import run

HEAD = 'cluster: demo\nversion: "3.6.14"\nnodes:\n  n1: {interface: wg0, host: 192.0.2.1}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an inventory whose node's address nobody knows, and that nobody contacts."""
    (tmp_path / "inventory.yaml").write_text(HEAD)
    return tmp_path


def test_init_makes_or_takes_in(folder: Path) -> None:
    """Without contacting a host; the other CA is made, and said to be."""
    ca = openssl.root(folder, "theirs")
    given = f"{ca.certificate.name},{ca.key.name}"
    tried = run("certs.init", "--import", given, "-n", folder=folder)
    assert tried.returncode == 0, tried.stderr
    assert "would be: CA 'theirs' for clients and servers (taken in" in tried.stdout
    assert not (folder / "certs").exists()
    done = run("certs.init", "--import", given, "-o", "json", folder=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["authorities"]["client"]["subject"] == "theirs"
    assert "for peers (made here" in found["done"][1]
    again = run("certs.init", "--import", given, folder=folder)
    assert (again.returncode, again.stdout) == (0, "nothing to do\n")
    other = openssl.root(folder, "other")
    refused = run("certs.init", "--import", f"{other.certificate},{other.key}", folder=folder)
    assert refused.returncode == 4
    assert "rotate-certs --ca" in refused.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("certs.init", "--import", "none.crt,none.key"), "none.crt cannot be read"),
        (("certs.init", "--import", "one"), "expected two files, CERT,KEY"),
        (("certs.init", "--passphrase", "hunter2"), "not what it is"),
        (("certs.restore",), "--from: which backup?"),
        (("certs.restore", "--from", "none.age"), "none.age cannot be read"),
        (
            ("certs.backup", "--recipient", "age1x", "--passphrase", "ask"),
            "both --recipient and --passphrase",
        ),
    ],
)
def test_wrong_input_is_exit_2_and_changes_nothing(folder: Path, words: tuple[str, ...], said: str) -> None:
    """Told, with nothing written; a passphrase given by mistake is not repeated."""
    done = run(*words, folder=folder)
    assert done.returncode == 2, done
    assert said in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert not (folder / "certs").exists()


def test_backup_and_restore(folder: Path) -> None:
    """To the place given, for the recipients given; a store that is lost comes back whole."""
    assert run("certs.backup", folder=folder).returncode == 4
    assert run("certs.init", folder=folder).returncode == 0
    key = folder / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = (folder / "id.pub").read_text().strip()
    saved = run("certs.backup", "--out", "store.age", "--recipient", public, folder=folder)
    assert saved.returncode == 0, saved.stderr
    assert "encrypted for 1 recipient" in saved.stdout
    assert run("certs.backup", "--out", "store.age", "--recipient", public, folder=folder).returncode == 2
    (folder / "certs/demo").rename(folder / "lost")
    assert run("certs.restore", "--from", "store.age", folder=folder).returncode == 2
    back = run("certs.restore", "--from", "store.age", "--identity", "id", folder=folder)
    assert back.returncode == 0, back.stderr
    again = run("certs.restore", "--from", "store.age", "--identity", "id", folder=folder)
    assert again.stdout == "nothing to do: this is what is there\n"
    assert "PRIVATE KEY" not in "".join(path.read_text() for path in folder.glob("*.jsonl"))


def test_a_passphrase_is_typed_once_a_run(folder: Path) -> None:
    """On a terminal: a new one twice, for both keys; it is not shown, and nobody is asked who signs nothing."""
    inventory = folder / "inventory.yaml"
    inventory.write_text(HEAD + "pki: {ca_key: {protect: passphrase}}\n")
    secrets.opened_by("a long one")
    typed = [("New passphrase", "a long one"), ("Again: new passphrase", "a long one")]
    made = terminal.on(inventory, "certs.init", answers=typed)
    assert made.code == 0, made
    assert {path.name for path in folder.glob("certs/demo/ca/*/*key*")} == {"ca.key.age", "peer-ca.key.age"}
    inventory.write_text(HEAD + "pki: {ca_key: {protect: none}}\n")
    opened = terminal.on(inventory, "certs.init", answers=[("Passphrase of", "a long one")])
    assert opened.code == 0, opened
    assert {path.name for path in folder.glob("certs/demo/ca/*/*key*")} == {"ca.key", "peer-ca.key"}
    assert "a long one" not in made.out + opened.out
    assert terminal.on(inventory, "certs.init").out.strip() == "nothing to do"
