"""A CA of the operator's own, its key sealed: taken in, deployed, used, revoked by; and no older copy of it is believed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from etcdctl_remote.lab.model import Lab, Node
from tests.conftest import NEWEST, Release
from tests.unit.pki import openssl

from . import authorities, drive, secrets

pytestmark = pytest.mark.cluster

PKI = "{ca_key: {protect: passphrase, passphrase: 'env:CA_PHRASE'}}"
PORTS = "{metrics: 2381}"


@pytest.fixture
def phrases(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("CA_PHRASE", "IMPORT_PHRASE", "BACKUP_PHRASE"):
        monkeypatch.setenv(name, f"the {name} of a test")
    secrets.opened_by("the CA_PHRASE of a test")
    return monkeypatch


def encrypted(ca: openssl.Made) -> Path:
    """Encrypt a CA's key as openssl does."""
    locked = ca.key.with_suffix(".locked")
    words = ("pkcs8", "-topk8", "-in", ca.key, "-passout", "env:IMPORT_PHRASE", "-out", locked)
    openssl.openssl(*words)
    ca.key.unlink()
    return locked


def test_a_ca_of_ones_own(lab3: Lab, programs: Release, tmp_path: Path, phrases: pytest.MonkeyPatch) -> None:
    """For clients a root, for peers an intermediate below another; both keys encrypted, here and in the store."""
    clients = openssl.root(tmp_path, "their-ca")
    root = openssl.root(tmp_path, "their-root", kind="rsa")
    peers = openssl.below(root, tmp_path, "their-peers", kind="rsa")
    taken_in(lab3, clients, peers, phrases)
    for node in lab3.nodes:
        authorities.verify(node, 2379, clients.certificate, tmp_path)
        authorities.verify(node, 2380, root.certificate, tmp_path)
    intermediates_are_listed(lab3)
    kinds(lab3, programs(NEWEST), tmp_path)
    older, app = tmp_path / "older.age", tmp_path / "patroni"
    drive.must(lab3, "certs.backup", "--out", str(older), "--passphrase", "env:BACKUP_PHRASE")
    a_former_peer(lab3, tmp_path)
    assert authorities.etcdctl(programs(NEWEST), lab3, app, "patroni", "put", "k", "after").strip() == "OK"
    an_older_store(lab3, older)


def taken_in(lab: Lab, clients: openssl.Made, peers: openssl.Made, phrases: pytest.MonkeyPatch) -> None:
    """Import, deploy, deploy again: for what is there already no passphrase is needed."""
    drive.edit(lab, pki=PKI, ports=PORTS)
    ours, theirs = f"{clients.certificate},{encrypted(clients)}", f"{peers.chain},{encrypted(peers)}"
    given = ("--import", ours, "--import-peer", theirs, "--passphrase", "env:IMPORT_PHRASE")
    drive.must(lab, "certs.init", *given)
    store = lab.state / "certs" / lab.name
    assert {path.name for path in store.glob("ca/*/*key*")} == {"ca.key.age", "peer-ca.key.age"}
    drive.deploy(lab)
    phrases.delenv("CA_PHRASE")
    assert "nothing to do" in drive.deploy(lab).out
    drive.must(lab, "health")
    phrases.setenv("CA_PHRASE", "the CA_PHRASE of a test")


def intermediates_are_listed(lab: Lab) -> None:
    """As they lie and as they are shown, with the fingerprint that openssl sees."""
    found = drive.document(lab, "certs", "--fail-within", "30d")
    rows = [row for row in found["authorities"] if row["role"] == "peer intermediate CA"]
    places = [("n1", "disk"), ("n1", "wire:2380"), ("n2", "disk"), ("n2", "wire:2380")]
    places += [("n3", "disk"), ("n3", "wire:2380")]
    assert [(row["node"], row["place"]) for row in rows] == [(None, "laptop"), *places]
    assert {(row["subject"], row["verdict"], row["signs"]) for row in rows} == {("their-peers", "ok", True)}
    leaf, between = authorities.shown(lab.nodes[0], 2380)
    seen = x509.load_pem_x509_certificate(between)
    assert {row["serial"] for row in rows} == {f"{seen.serial_number:x}"}
    assert x509.load_pem_x509_certificate(leaf).issuer == seen.subject


def kinds(lab: Lab, programs: Path, folder: Path) -> None:
    """Each is for clients only, and a member takes it for what it is made for."""
    for kind, common_name in (
        ("apiserver", "kube-apiserver-etcd-client"),
        ("prometheus", "prometheus"),
        ("patroni", "patroni"),
    ):
        out = folder / kind
        made = drive.must(lab, "certs.issue", "--kind", kind, "--out", str(out), "-o", "json").json()
        assert (made["common_name"], made["usages"]) == (common_name, ["client"])
        (path,) = (path for path in out.glob("*.crt") if path.name != "ca.crt")
        leaf = x509.load_pem_x509_certificate(path.read_bytes())
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        openssl.openssl("verify", "-purpose", "sslclient", "-CAfile", folder / "their-ca.crt", path)
        if kind == "prometheus":
            assert [scraped(node, path, port) for node in lab.nodes for port in (2379, 2381)] == [200] * 6
        else:
            assert authorities.etcdctl(programs, lab, out, path.stem, "put", kind, "1").strip() == "OK"
            assert authorities.etcdctl(programs, lab, out, path.stem, "get", kind).split() == [kind, "1"]


def scraped(node: Node, certificate: Path, port: int) -> int:
    """Read the metrics as Prometheus does."""
    files = (certificate, certificate.with_suffix(".key"))
    status, text = authorities.asked(node.address, port, files, "/metrics")
    assert "etcd_server_has_leader 1" in text
    return status


def a_former_peer(lab: Lab, folder: Path) -> None:
    """What was n2's is refused by all members, also from n2; what n2 and others have now is not."""
    one, two, _ = lab.nodes
    former = authorities.saved(lab, two, folder / "former")
    before, running = authorities.in_force(lab), drive.pids(lab)
    done = drive.must(lab, "rotate-certs", "--node", "n2", "--only", "peer", "--within", "400d", "-y")
    drive.tells(done, "peer certificate for n2 (expires in 364 days")
    assert authorities.changed(before, authorities.in_force(lab)) == {"n2": {"peer.crt", "peer.key"}}
    assert drive.pids(lab) == running
    quiet = drive.run(lab, "rotate-certs", "--if-needed", "-y")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    for member in lab.nodes:
        assert authorities.from_node(lab, two, member, former) == 200, "valid until it is revoked"
    serial = x509.load_pem_x509_certificate(former[0].read_bytes()).serial_number
    done = drive.must(lab, "certs.revoke", "--serial", f"{serial:X}", "-y")
    assert "the former peer certificate of n2" in done.err
    assert "proven on n1, n2, n3" in done.err
    present = {node: authorities.saved(lab, node, folder / node.name) for node in (one, two)}
    for member in lab.nodes:
        assert authorities.from_node(lab, two, member, former) == 0
        assert {authorities.from_node(lab, node, member, own) for node, own in present.items()} == {200}
    drive.must(lab, "health")
    drive.settle_nothing(lab)


def an_older_store(lab: Lab, backup: Path) -> None:
    """A copy from before the revocation: nobody deploys it, and the way out is named; then the newer one again."""
    certs = lab.state / "certs"
    (certs / lab.name).rename(certs / "newer")
    drive.must(lab, "certs.restore", "--from", str(backup), "--passphrase", "env:BACKUP_PHRASE")
    with drive.untouched(lab, "/var/lib/etcd"):
        for words in (("plan",), ("deploy", "-y"), ("rotate-certs", "--force", "-y")):
            done = drive.run(lab, *words)
            assert done.code == 4, done
            drive.tells(done, "older than a revocation", "nothing was changed")
            assert "n3: runs with peer-ca.crl" in done.err
    shutil.rmtree(certs / lab.name)
    (certs / "newer").rename(certs / lab.name)
    drive.settle_nothing(lab)
