"""Certificates for applications, and taking them back: every member refuses them, nobody else notices."""

from __future__ import annotations

import base64
import shlex
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, Node, each
from tests.conftest import NEWEST, Release

from . import drive
from .traffic import traffic

pytestmark = pytest.mark.cluster

UNHEARD = "7F935E19AABBCCDDEEFF0011"
"""A serial of no certificate."""


def etcdctl(programs: Path, line: str, node: Node | None = None) -> subprocess.CompletedProcess[str]:
    """Run a printed line with a release's etcdctl, on this machine; against one node if one is named."""
    words = shlex.split(line)
    assert words[0] == "etcdctl"
    if node:
        words[1] = f"--endpoints=https://{node.address}:2379"
    command = [str(programs / "etcdctl"), "--command-timeout=3s", *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def members(lab: Lab, programs: Path, line: str) -> set[bool]:
    """Tell whether each member, asked by itself, let a printed line in."""
    return set(each(lab.nodes, lambda node: etcdctl(programs, line, node).returncode == 0))


@contextmanager
def connection(node: Node, folder: Path, name: str) -> Iterator[HTTPSConnection]:
    """Keep a connection to a member's client port, with an application's certificate."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    opened = HTTPSConnection(node.address, 2379, timeout=10, context=context)
    try:
        assert asked(opened) == 200
        yield opened
    finally:
        opened.close()


def asked(opened: HTTPSConnection) -> int:
    """Ask over a connection that is open."""
    opened.request("GET", "/version")
    answer = opened.getresponse()
    answer.read()
    return answer.status


def request(folder: Path, name: str) -> Path:
    """Make a key that stays with its owner, and a request for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / f"{name}.key").write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody-else")])
    made = x509.CertificateSigningRequestBuilder(subject).sign(key, hashes.SHA256())
    (folder / f"{name}.csr").write_bytes(made.public_bytes(pem))
    return folder / f"{name}.csr"


def test_an_application_is_shut_out_and_nobody_else(lab3: Lab, programs: Release, tmp_path: Path) -> None:
    """Issued, used, revoked, refused by every member; the second time no member restarts."""
    release, out = programs(NEWEST), tmp_path / "client"
    drive.deploy(lab3)
    exported = drive.document(lab3, "certs.export", "--out", str(out))
    operator = exported["etcdctl"]
    snippet = yaml.safe_load(exported["kubeadm"])["etcd"]["external"]
    assert snippet["endpoints"] == [f"https://{node.address}:2379" for node in lab3.nodes]
    found = etcdctl(release, operator)
    assert (found.returncode, len(found.stdout.splitlines())) == (0, 3), found

    drive.must(lab3, "certs.issue", "--name", "app", "--out", str(out))
    app = operator.replace("operator.", "app.")
    assert members(lab3, release, app) == {True}
    older, before = shutil.copytree(store(lab3), tmp_path / "older", symlinks=True), drive.pids(lab3)
    with traffic(lab3, lab3.nodes[0]) as seen:
        done = drive.must(lab3, "certs.revoke", "--name", "app", "-y")
    drive.tells(done, "every member restarts once")
    assert "proven on n1, n2, n3" in done.err
    assert "every member refuses it" in done.out
    assert seen.acknowledged > 10
    after = drive.pids(lab3)
    assert all(after[name] not in (0, before[name]) for name in before)
    assert members(lab3, release, app) == {False}
    assert members(lab3, release, operator) == {True}

    by_serial(lab3, release, out, operator)
    an_older_store(lab3, older)
    again_and_refused(lab3)
    keys = [line for key in out.glob("*.key") for line in key.read_text().splitlines()[1:-1]]
    journal = lab3.inventory.with_suffix(".journal.jsonl").read_text("utf-8")
    assert not [line for line in keys if line in journal]
    drive.settle_nothing(lab3)


def by_serial(lab3: Lab, release: Path, out: Path, operator: str) -> None:
    """One that was signed for somebody else's key: nobody restarts, and what is open stays so."""
    before = drive.pids(lab3)
    signed = drive.must(lab3, "certs.issue", "--name", "other", "--csr", str(request(out, "other")))
    (out / "other.crt").write_text(signed.out, encoding="utf-8")
    serial = x509.load_pem_x509_certificate(signed.out.encode()).serial_number
    other = operator.replace("operator.", "other.")
    with connection(lab3.nodes[1], out, "other") as opened:
        assert members(lab3, release, other) == {True}
        done = drive.must(lab3, "certs.revoke", "--serial", f"{serial:X}", "-y")
        drive.tells(done, "twin of the same serial")
        drive.tells(done, "stays open until it breaks")
        assert asked(opened) == 200
    assert drive.pids(lab3) == before
    assert members(lab3, release, other) == {False}
    assert members(lab3, release, operator) == {True}
    unheard = ("certs.revoke", "--serial", f"serial={UNHEARD}", "-y")
    refused = drive.run(lab3, *unheard)
    assert refused.code == 2, refused
    drive.tells(refused, "error: ", "nobody here knows a certificate of this serial")
    drive.tells(refused, f"to agree, give --confirm {lab3.name}")
    done = drive.must(lab3, *unheard, "--confirm", lab3.name)
    drive.tells(done, "twin of the same serial")
    assert "proven on n1, n2, n3" in done.err
    assert "goes along" not in done.out + done.err
    drive.tells(done, "the first list for peers", "every member restarts once")
    for node in lab3.nodes:
        mode = execute(node, 'stat -Lc "%a %U" "$1"', f"{drive.PKI}/ca.crl").split()
        assert mode == ["644", "root"]


def store(lab: Lab) -> Path:
    """The certificates on the laptop."""
    return lab.state / "certs" / lab.name


def an_older_store(lab3: Lab, older: Path) -> None:
    """A copy from before all that was revoked: the lists of a node lead out, and no node is touched."""
    shutil.rmtree(store(lab3))
    older.rename(store(lab3))
    refused = drive.run(lab3, "plan")
    assert refused.code == 4, refused
    drive.tells(refused, "copy ca.crl and peer-ca.crl from a node", "--crl ca.crl,peer-ca.crl")
    lists = [lab3.state / name for name in ("ca.crl", "peer-ca.crl")]
    for path in lists:
        path.write_bytes(base64.b64decode(execute(lab3.nodes[0], 'base64 "$1"', f"{drive.PKI}/{path.name}")))
    given = ",".join(map(str, lists))
    with drive.untouched(lab3, "/var/lib/etcd"):
        done = drive.must(lab3, "certs.revoke", "--serial", UNHEARD, "--crl", given, "-y")
    drive.tells(done, "only the store here takes it in")
    drive.tells(done, "proven on n1, n2, n3")
    drive.settle_nothing(lab3)


def again_and_refused(lab3: Lab) -> None:
    """What is revoked is proven only; what a node itself uses is not revoked."""
    again = drive.must(lab3, "certs.revoke", "--name", "app", "-y")
    assert "nothing to do" in again.out
    assert "proven on n1, n2, n3" in again.err
    own = drive.certificates(lab3)["n2/etcdctl"]
    refused = drive.run(lab3, "certs.revoke", "--serial", f"{own:x}", "-y")
    assert (refused.code, "it would be cut off" in refused.err) == (4, True), refused


def test_a_release_that_ignores_lists_is_refused(lab_factory: drive.Factory) -> None:
    """Nothing is changed there, and the way out is named."""
    lab = lab_factory(1, version="3.4.23")
    drive.deploy(lab)
    drive.must(lab, "certs.issue", "--name", "app")
    with drive.untouched(lab, "/var/lib/etcd"):
        done = drive.run(lab, "certs.revoke", "--name", "app", "-y")
    assert done.code == 4, done
    drive.tells(done, "n1", "3.4.23", "gets no fix", "3.5.32")
