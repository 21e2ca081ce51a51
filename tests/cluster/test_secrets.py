"""No private key is seen anywhere: by all tasks that handle one, with a cluster's first deploy the first of them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest
from cryptography.hazmat.primitives import serialization as ser

from etcdctl_remote.lab.hosts import execute, write
from etcdctl_remote.lab.model import Lab
from tests.conftest import TOLD

from . import drive, secrets
from .arguments import BY_AUDIT, unheard, watched

pytestmark = pytest.mark.cluster

PHRASE = "a secret of this test"


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """What opens the sealed CA keys."""
    path = tmp_path / "identity.txt"
    made = pyrage.x25519.Identity.generate()
    path.write_text(f"{made}\n")
    secrets.opened_by(made)
    return path


@pytest.fixture
def lab(lab_factory: drive.Factory, identity: Path) -> Lab:
    """One fresh node, and CAs whose keys are to be sealed."""
    made = lab_factory(1)
    public = pyrage.x25519.Identity.from_str(identity.read_text().strip()).to_public()
    drive.edit(made, pki=f"{{ca_key: {{protect: age, recipients: [{public}], identity: {identity}}}}}")
    return made


def test_no_key_is_an_argument_or_left_somewhere(
    lab: Lab, identity: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """By the arguments of every process here and on the node, of which the kernel's audit tells where it can."""
    can_tell = not unheard(lab.nodes[0])
    node, out, copy = lab.nodes[0], tmp_path / "app", str(tmp_path / "copy.age")
    by = ("--passphrase", "env:PHRASE")
    runs = (
        ("deploy", "-y"),
        ("certs.issue", "--name", "app", "--out", str(out)),
        ("certs.export", "--out", str(tmp_path / "operator")),
        ("rotate-certs", "--force", "-y"),
        ("certs.revoke", "--name", "app", "-y"),
        ("rotate-certs", "--ca", "-y"),
        ("certs.backup", "--out", copy, *by),
        ("certs.restore", "--from", copy, *by),
    )
    keys, said = secrets.Keys.below(), []
    with watched(node) as seen:
        for words in runs:
            done = drive.run(lab, *words, env={"PHRASE": PHRASE})
            assert done.code == 0, done
            keys |= secrets.Keys.below(secrets.stores(lab), tmp_path)
            said += [done.out.encode(), done.err.encode()]
    record_property(TOLD, f"arguments of processes: {len(seen.texts)} records, by {seen.by}")
    assert (seen.by == BY_AUDIT) == can_tell
    assert len(keys.secrets) >= 3 * 3 + 2 + 4, "three times three leaves, two handed out, four of CAs"
    found = secrets.look(node)
    told = [*seen.texts, *said, found.journal, Path(copy).read_bytes()]
    assert any(b"certs.restore" in text for text in seen.texts)
    assert any(b"sha256sum" in text for text in seen.texts), "what the node runs is seen"
    assert not [text for text in told if keys.shown_in(text)]
    for secret in (PHRASE, identity.read_text().strip()):
        assert not [text for text in (*told, *found.files.values()) if secret.encode() in text]
    assert {path.suffix for path in secrets.stores(lab).glob("*/ca/*/*key*")} == {".age"}
    private = [Path(copy), out / "app.key", tmp_path / "operator" / "operator.key"]
    assert [path.stat().st_mode & 0o777 for path in private] == [0o600] * 3
    rights_and_owners(found.modes)
    what_is_planted_is_found(lab, keys)


def rights_and_owners(modes: dict[str, str]) -> None:
    """Check who may read what below etcd's directory on the node."""
    by_suffix = {Path(path).suffix or Path(path).name: about for path, about in modes.items()}
    assert by_suffix[".key"] == by_suffix[".env"] == "f 640 root:etcd"
    assert by_suffix[".crt"] == by_suffix[".crl"] == by_suffix["identity"] == "f 644 root:root"
    assert {about for about in modes.values() if about[0] == "d"} == {"d 750 root:etcd"}


def what_is_planted_is_found(lab: Lab, keys: secrets.Keys) -> None:
    """The search that follows every test on nodes complains of a key in a file, and of open ones."""
    node = lab.nodes[0]
    assert list(secrets.complaints(secrets.look(node), keys)) == []
    sealed = next(secrets.stores(lab).glob("*/ca/*/peer-ca.key.age")).read_bytes()
    ca = der(secrets.opened(sealed))
    pem = (secrets.stores(lab) / lab.name / "current" / "n1" / "server.key").read_bytes()
    write(node, "/var/tmp/left.pem", pem)
    write(node, "/root/left.der", ca)
    execute(
        node,
        f"""cp -p {drive.PKI}/server.key {drive.PKI}/server.key.bak && chmod 644 {drive.PKI}/peer.key
        systemd-cat echo {base64.b64encode(ca).decode()} && journalctl --sync""",
    )
    found = list(secrets.complaints(secrets.look(node), keys))
    held = execute(node, 'readlink -f "$1"', drive.PKI).strip()
    assert sorted(found) == [
        f"{held}/peer.key is 'f 644 root:etcd', wanted 'f 640 root:etcd'",
        f"{held}/server.key.bak has a private key",
        f"{held}/server.key.bak is 'f 640 root:etcd', wanted 'nothing'",
        "/root/left.der has a private key",
        "/var/tmp/left.pem has a private key",
        "the systemd journal has a private key",
    ]
    rights = f"chmod 640 {drive.PKI}/peer.key; rm /var/tmp/left.pem /root/left.der {drive.PKI}/server.key.bak"
    execute(node, f"{rights}; journalctl -q --rotate --vacuum-time=1s >/dev/null 2>&1")


def der(pem: bytes) -> bytes:
    pkcs8 = ser.PrivateFormat.PKCS8, ser.NoEncryption()
    return ser.load_pem_private_key(pem, None).private_bytes(ser.Encoding.DER, *pkcs8)
