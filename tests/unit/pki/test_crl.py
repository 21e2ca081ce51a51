"""Lists of revoked certificates: what is shipped can be read by etcd, and nothing is forgotten."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from etcdctl_remote.desired.hostspec import Membership, flags, host_spec
from etcdctl_remote.desired.model import ClusterSpec
from etcdctl_remote.errors import Refused, UsageError
from etcdctl_remote.pki import crl
from etcdctl_remote.pki.authority import Authority
from etcdctl_remote.pki.crl import Port, Revocations, Revoked
from etcdctl_remote.pki.generation import Due, Generation
from etcdctl_remote.pki.profiles import Kind
from etcdctl_remote.pki.store import Store
from etcdctl_remote.secret import Secret

from .stores import NOW

YEAR = NOW + timedelta(days=365)
APP = Revoked("abc123", "app", NOW, YEAR, ("client",))


def signers(held: Generation) -> Mapping[Port, Authority]:
    return {"client": held.authorities.client, "peer": held.authorities.peer}


def held(store: Store) -> Generation:
    found = store.load()
    assert found is not None
    return found


def revoked(store: Store, *entries: Revoked, now: datetime = NOW) -> Generation:
    """Revoke, save, and read what is on the disk then."""
    before = held(store)
    revocations = crl.revoke(before.revocations, entries, signers(before), now)
    store.save(replace(before, revocations=revocations, issued=("revoked",)))
    return held(store)


def version_1(der: bytes) -> bytes:
    """The same list without a version and without extensions, as `openssl ca` makes it."""
    lists = x509.load_der_x509_crl(der)
    inner = lists.tbs_certlist_bytes
    rest = inner[2 + (inner[1] & 0x7F if inner[1] & 0x80 else 0) :].removeprefix(b"\x02\x01\x01")
    end = next(i for i, tag in enumerate(rest) if tag == 0xA0 and i + 2 + rest[i + 1] == len(rest))
    signature = der[der.index(inner) + len(inner) :]
    return sequence(sequence(rest[:end]) + signature)


def sequence(content: bytes) -> bytes:
    """A DER sequence of up to 255 bytes."""
    size = len(content).to_bytes(1)
    return b"\x30" + (size if len(content) < 128 else b"\x81" + size) + content


def test_what_is_revoked_survives_the_disk(store: Store) -> None:
    """The list goes to the nodes beside the CA; a port for which nothing is revoked has none."""
    found = revoked(store, APP)
    assert found.revocations.entries == (APP,)
    assert crl.serials(found.revocations.files["ca.crl"]) == {"abc123"}
    assert found.node_files("n1")["ca.crl"] == found.revocations.files["ca.crl"]
    assert "peer-ca.crl" not in found.node_files("n1")
    both = revoked(store, Revoked("77", "", NOW, None, ("client", "peer")))
    assert crl.serials(both.revocations.files["ca.crl"]) == {"abc123", "77"}
    assert crl.serials(both.revocations.files["peer-ca.crl"]) == {"77"}


def test_openssl_reads_the_list_and_its_signature(store: Store, tmp_path: Path) -> None:
    """DER, version 2, signed by the CA that signs."""
    openssl = shutil.which("openssl")
    assert openssl, "the tests need openssl"
    found = revoked(store, APP)
    (tmp_path / "ca.crl").write_bytes(found.revocations.files["ca.crl"])
    (tmp_path / "ca.crt").write_bytes(found.ca_bundle)
    command = [openssl, "crl", "-inform", "DER", "-in", "ca.crl", "-CAfile", "ca.crt", "-noout", "-text"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "Version 2" in done.stdout
    assert "Serial Number: ABC123" in done.stdout
    assert "verify OK" in done.stderr


def test_what_has_ended_is_listed_no_more(store: Store) -> None:
    """It is refused for its age, and stays noted; what ends on an unknown day is listed for ever."""
    revoked(store, APP, Revoked("77", "", NOW, None, ("client",)))
    later = revoked(store, Revoked("88", "", YEAR, None, ("client",)), now=YEAR)
    assert crl.serials(later.revocations.files["ca.crl"]) == {"77", "88"}
    assert later.revocations.serials == {"abc123", "77", "88"}


@pytest.mark.parametrize("damage", [b"", b"garbage", b"-----BEGIN X509 CRL-----\n"])
def test_a_damaged_list_is_never_shipped(store: Store, damage: bytes) -> None:
    """etcd would refuse everybody: the store is not read at all, and the file is named."""
    revoked(store, APP)
    (store.root / "current" / "ca.crl").write_bytes(damage)
    with pytest.raises(UsageError, match=r"ca\.crl is damaged"):
        store.load()


def test_a_list_that_is_gone_is_named(store: Store) -> None:
    """A store copied in part is no store in which nothing is revoked."""
    revoked(store, APP)
    (store.root / "current" / "ca.crl").unlink()
    with pytest.raises(UsageError, match=r"ca\.crl is missing"):
        store.load()


def test_later_generations_keep_the_list(store: Store, cluster: ClusterSpec) -> None:
    """New leaves, a new token after destroy, and going back: members need the file once they have the flag."""
    found = revoked(store, APP).revocations
    renewed = store.prepare(cluster, NOW, Due(force=True))
    assert renewed.revocations == found
    assert renewed.with_new_token().revocations == found
    store.save(renewed)
    assert store.former().revocations == found
    serial = renewed.leaf("n1", Kind.CLIENT).serial
    store.save(store.prepare(cluster, NOW, Due(force=True)))
    revoked(store, Revoked(serial, "", NOW, None, ("client",)))
    store.save(store.prepare(cluster, NOW, Due(force=True)))
    assert store.former().revocations.serials == {"abc123", serial}


def test_nobody_goes_back_to_what_is_revoked(store: Store, cluster: ClusterSpec) -> None:
    """A node with a revoked leaf would be cut off."""
    serial = held(store).leaf("n1", Kind.PEER).serial
    fresh = store.prepare(cluster, NOW, Due(force=True))
    entry = Revoked(serial, "", NOW, None, ("peer",))
    lists = crl.revoke(fresh.revocations, (entry,), signers(fresh), NOW)
    store.save(replace(fresh, revocations=lists))
    with pytest.raises(Refused, match="revoked since"):
        store.former()


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_a_list_of_the_owner_of_the_ca_is_taken_as_der(store: Store, encoding: Encoding) -> None:
    """Both forms in, one out; whose it is says its signature."""
    lists = revoked(store, APP).revocations.files["ca.crl"]
    given = x509.load_der_x509_crl(lists).public_bytes(encoding)
    assert crl.taken(given, "f", signers(held(store))) == (("client",), lists)


def test_the_documented_crl_cnf_makes_a_list_that_is_taken(store: Store, tmp_path: Path) -> None:
    """As it stands in docs/certificates.md, for `openssl ca`."""
    program = shutil.which("openssl")
    assert program
    text = (Path(__file__).parents[3] / "docs" / "certificates.md").read_text("utf-8")
    sample = text.partition("```ini\n# crl.cnf\n")[2].partition("```")[0]
    ca, leaf = held(store).authorities.client, held(store).credential("n1", Kind.SERVER)
    assert isinstance(ca.key, Secret)
    (tmp_path / "issuing.crt").write_bytes(ca.certificate)
    (tmp_path / "issuing.key").write_bytes(ca.key.reveal)
    (tmp_path / "billing.crt").write_bytes(leaf.certificate_pem)
    (tmp_path / "crl.cnf").write_text(sample, encoding="utf-8")
    (tmp_path / "index.txt").touch()
    (tmp_path / "crlnumber").write_text("01\n")
    for words in (["-revoke", "billing.crt"], ["-gencrl", "-out", "etcd.crl"]):
        subprocess.run([program, "ca", "-config", "crl.cnf", *words], cwd=tmp_path, check=True)
    ports, der = crl.taken((tmp_path / "etcd.crl").read_bytes(), "etcd.crl", signers(held(store)))
    assert ports == ("client",)
    assert crl.serials(der) == {held(store).leaf("n1", Kind.SERVER).serial}


def test_lists_of_strangers_and_what_etcd_cannot_read_are_refused(store: Store, cluster: ClusterSpec) -> None:
    """With the file's name, and before anything is written."""
    ours = signers(held(store))
    stranger = Authority.create("another", "ecdsa-p256", 10, NOW)
    foreign = crl.revoke(Revocations(), (APP,), {"client": stranger}, NOW).files["ca.crl"]
    with pytest.raises(UsageError, match="f was not signed by"):
        crl.taken(foreign, "f", ours)
    old = version_1(foreign)
    x509.load_der_x509_crl(old)
    with pytest.raises(UsageError, match="version 2"):
        crl.taken(old, "f", ours)
    with pytest.raises(UsageError, match="f is no list"):
        crl.taken(b"garbage", "f", ours)


def test_the_flag_is_there_if_and_only_if_the_file_is(store: Store, cluster: ClusterSpec) -> None:
    """The first list restarts, for the flag is in the digest; a longer one does not."""
    node, member = cluster.nodes[0], Membership("token", "existing")
    before = held(store).node_files("n1")
    assert not [name for name in flags(cluster, node, member, before) if "crl" in name]
    first = revoked(store, APP).node_files("n1")
    assert flags(cluster, node, member, first)["client-crl-file"] == "/etc/etcd/pki/current/ca.crl"
    assert "peer-crl-file" not in flags(cluster, node, member, first)
    second = revoked(store, Revoked("77", "", NOW, None, ("client",))).node_files("n1")
    third = revoked(store, Revoked("78", "", NOW, None, ("peer",))).node_files("n1")
    assert flags(cluster, node, member, third)["peer-crl-file"] == "/etc/etcd/pki/current/peer-ca.crl"
    digests = [host_spec(cluster, node, member, files).digest for files in (before, first, second, third)]
    assert digests[0] != digests[1] == digests[2] != digests[3]
    listed = {file.path.rpartition("/")[2]: file for file in host_spec(cluster, node, member, third).files}
    assert (listed["ca.crl"].mode, listed["peer-ca.crl"].mode) == (0o644, 0o644)
