"""Who signs: a CA elsewhere, by a command and through a folder; or a key that lies sealed."""

from __future__ import annotations

import ssl
from http.client import HTTPSConnection
from pathlib import Path

import pyrage
import pytest
from cryptography import x509

from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, Node
from tests.conftest import NEWEST, Release
from tests.unit.pki import openssl

from . import authorities, drive, secrets

pytestmark = pytest.mark.cluster


@pytest.fixture
def authority(tmp_path: Path) -> openssl.Made:
    """An intermediate under a root, away from the inventory."""
    return openssl.below(openssl.root(tmp_path, "root"), tmp_path, "signer", kind="rsa")


@pytest.fixture
def peers(tmp_path: Path) -> openssl.Made:
    return openssl.root(tmp_path, "peer-root")


def external(authority: openssl.Made, peers: openssl.Made, more: str = "") -> str:
    root = authority.certificate.with_name("root.crt")
    return f"{{external: {{trust: {root}, peer_trust: {peers.certificate}{more}}}}}"


def shown(lab: Lab) -> tuple[x509.Certificate, x509.Certificate]:
    """What the member serves to clients and to peers."""
    return drive.served(lab.nodes[0], 2379), drive.served(lab.nodes[0], 2380)


def issuers(lab: Lab) -> list[str]:
    return [one.issuer.rfc4514_string() for one in shown(lab)]


def test_a_command_signs(lab1: Lab, authority: openssl.Made, peers: openssl.Made, tmp_path: Path) -> None:
    """A plan runs nothing; all else has everything signed, and the cluster lives on it."""
    lab = lab1
    commands = [openssl.command(each, tmp_path)[0] for each in (authority, peers)]
    more = f", command: [{commands[0]}], peer_command: [{commands[1]}]"
    drive.edit(lab, pki=external(authority, peers, more))
    plan = drive.run(lab, "plan")
    assert plan.code == 5, plan
    assert f"to be signed elsewhere, by {commands[0]}: n1-server, n1-peer, n1-client" in plan.out
    assert not (tmp_path / "log").exists()
    asked = drive.run(lab, "deploy")
    assert (asked.code, "--yes" in asked.err) == (2, True), asked
    assert not (tmp_path / "log").exists(), "nobody agreed"
    assert not (lab.state / "certs").exists()

    drive.deploy(lab)
    assert issuers(lab) == ["CN=signer,O=Example", "CN=peer-root,O=Example"]
    address = lab.nodes[0].address
    names = ",".join(sorted(["127.0.0.1", "::1", "localhost", "n1", address]))
    assert sorted((tmp_path / "log").read_text().splitlines()) == [
        f"n1 client clientAuth urn:etcdctl-remote:{lab.name}:n1",
        f"n1 peer serverAuth,clientAuth {address},n1",
        f"n1 server serverAuth,clientAuth {names}",
    ]
    drive.settle_nothing(lab)
    before, running = shown(lab), drive.pids(lab)
    drive.must(lab, "rotate-certs", "--force", "-y")
    assert not {one.serial_number for one in shown(lab)} & {one.serial_number for one in before}
    assert drive.pids(lab) == running
    drive.must(lab, "health")
    assert not list(lab.state.glob("certs/*/ca/*/*.key*"))
    drive.must(lab, "certs.issue", "--name", "app", "--out", str(tmp_path / "app"))
    assert app_is_let_in(lab.nodes[0], tmp_path / "app") == 200
    their_list_is_taken(lab, authority, tmp_path)


def app_is_let_in(node: Node, folder: Path) -> int:
    """Ask the member with an application's files, and nothing else."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "app.crt", folder / "app.key")
    opened = HTTPSConnection(node.address, 2379, timeout=10, context=context)
    opened.request("GET", "/version")
    status = opened.getresponse().status
    opened.close()
    return status


def their_list_is_taken(lab: Lab, authority: openssl.Made, folder: Path) -> None:
    """Revoke by the list of the intermediate that issues; without one nothing is begun."""
    refused = drive.run(lab, "certs.revoke", "--name", "app", "-y")
    assert refused.code == 4, refused
    drive.tells(refused, "no list can be signed", "nothing was changed")
    drive.tells(refused, "give the list by --crl FILE")
    made = openssl.revoke(authority, folder / "app" / "app.crt", folder)
    done = drive.must(lab, "certs.revoke", "--name", "app", "--crl", str(made), "-y")
    assert "every member refuses it" in done.out
    drive.settle_nothing(lab)


def answer(lab: Lab, authority: openssl.Made, peers: openssl.Made) -> None:
    """Sign what waits, as a person at the CA would."""
    for csr in (lab.state / "certs" / lab.name / "requests").glob("*.csr"):
        by = peers if csr.stem.endswith("-peer") else authority
        leaf = openssl.sign(by, csr.read_bytes(), authority.key.parent)
        csr.with_suffix(".crt").write_bytes(leaf + by.chain.read_bytes())


def test_through_a_folder(lab1: Lab, authority: openssl.Made, peers: openssl.Made, programs: Release) -> None:
    """Exit 4 with what is to be signed, nothing on the node; with the answers there it goes on."""
    lab = lab1
    drive.edit(lab, pki=external(authority, peers))
    drive.fails(lab, 4, "n1-peer.csr: CN etcd-peer-n1", "n1-server.csr", "n1-client.csr", "NODE-KIND.crt")
    assert execute(lab.nodes[0], "ls -d /etc/etcd /opt/etcd /var/lib/etcd 2>/dev/null || :") == ""
    answer(lab, authority, peers)
    drive.deploy(lab)
    assert issuers(lab) == ["CN=signer,O=Example", "CN=peer-root,O=Example"]
    drive.settle_nothing(lab)

    before, running = shown(lab), drive.pids(lab)
    again = drive.run(lab, "rotate-certs", "--force", "-y")
    assert again.code == 4, again
    drive.tells(again, "n1-server.crt there is of an earlier request: not yet signed")
    assert shown(lab) == before
    answer(lab, authority, peers)
    drive.must(lab, "rotate-certs", "--force", "-y")
    assert not {one.serial_number for one in shown(lab)} & {one.serial_number for one in before}
    assert drive.pids(lab) == running
    assert not list(lab.state.glob(f"certs/{lab.name}/pending/*"))
    drive.must(lab, "health")
    an_application_through_it(lab, authority, peers, programs(NEWEST))
    to_own_cas_and_back(lab, authority, peers)


def to_own_cas_and_back(lab: Lab, authority: openssl.Made, peers: openssl.Made) -> None:
    """The CAs are replaced by our own, and those by theirs: that stops where they have to sign, and goes on."""
    theirs = issuers(lab)
    drive.edit(lab, pki="{}")
    drive.must(lab, "rotate-certs", "--ca", "-y")
    assert not set(issuers(lab)) & set(theirs)
    drive.settle_nothing(lab)
    drive.edit(lab, pki=external(authority, peers))
    planned = drive.must(lab, "rotate-certs", "--ca", "-n").out
    assert "to be signed elsewhere, their requests would lie in" in planned
    assert "it stops there with exit 4 until they are signed" in planned
    assert "stand-in" not in planned
    stopped = drive.run(lab, "rotate-certs", "--ca", "-y")
    assert stopped.code == 4, stopped
    drive.tells(stopped, "3 of 3 certificates are to be signed elsewhere", "what needs them is not begun")
    assert "state 1 of 3" in drive.must(lab, "certs").out
    answer(lab, authority, peers)
    drive.must(lab, "rotate-certs", "--ca", "-y")
    assert issuers(lab) == theirs
    drive.settle_nothing(lab)


def an_application_through_it(lab: Lab, authority: openssl.Made, peers: openssl.Made, programs: Path) -> None:
    """Its request is left in the folder, and said to be; signed, it is handed out, and members take it."""
    out = lab.state / "app"
    wanted = ("certs.issue", "--name", "app", "--out", str(out))
    asked = drive.run(lab, *wanted)
    assert asked.code == 4, asked
    drive.tells(asked, "app-application.csr: CN app", "usages clientAuth")
    drive.tells(asked, "put the chain (leaf first) beside it as app-application.crt", "run the task again")
    assert not out.exists()
    csr = lab.state / "certs" / lab.name / "requests" / "app-application.csr"
    assert openssl.openssl("req", "-verify", "-noout", "-subject", "-in", csr).strip().endswith(b"CN = app")
    answer(lab, authority, peers)
    drive.must(lab, *wanted)
    assert not csr.exists()
    assert authorities.etcdctl(programs, lab, out, "app", "put", "app", "1").strip() == "OK"


def test_sealed_keys_and_a_backup(lab1: Lab, tmp_path: Path) -> None:
    """The key is opened to sign and for nothing else; from the backup everything comes back; one CA is replaced."""
    lab, identity, away = lab1, tmp_path / "identity.txt", tmp_path / "away.txt"
    made = pyrage.x25519.Identity.generate()
    identity.write_text(f"{made}\n")
    secrets.opened_by(made)
    sealing = f"{{protect: age, recipients: [{made.to_public()}], identity: {identity}}}"
    drive.edit(lab, pki=f"{{ca_key: {sealing}}}")
    drive.deploy(lab)
    store = lab.state / "certs" / lab.name
    assert {path.name for path in store.glob("ca/*/*key*")} == {"ca.key.age", "peer-ca.key.age"}

    drive.must(lab, "certs.issue", "--name", "app", "--out", str(tmp_path / "app"))
    identity.rename(away)
    drive.must(lab, "health")
    drive.settle_nothing(lab)
    before = shown(lab)
    assert "the key of the CA is sealed" in drive.must(lab, "rotate-certs", "--force", "-n").out
    for words in (("rotate-certs", "--force"), ("certs.revoke", "--name", "app")):
        asked = drive.run(lab, *words)
        assert (asked.code, "--yes" in asked.err) == (2, True), asked
        assert "the key of the CA is sealed" in asked.out + asked.err
    done = drive.run(lab, "rotate-certs", "--force", "-y")
    assert done.code == 2, done
    assert f"the identity {identity} cannot be read" in done.err
    assert shown(lab) == before
    backup = tmp_path / "store.age"
    drive.must(lab, "certs.backup", "--out", str(backup))

    store.rename(tmp_path / "lost")
    drive.must(lab, "certs.restore", "--from", str(backup), "--identity", str(away))
    drive.settle_nothing(lab)
    away.rename(identity)
    drive.must(lab, "rotate-certs", "--force", "-y")
    assert not {one.serial_number for one in shown(lab)} & {one.serial_number for one in before}
    authorities.replaced(lab, "client")
    assert len(list(store.glob("ca/*/ca.key.age"))) == 2
    assert not list(store.glob("ca/*/*.key"))


@pytest.fixture
def lab1(lab_factory: drive.Factory) -> Lab:
    """One fresh node."""
    return lab_factory(1)
