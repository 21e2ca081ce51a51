"""CAs whose keys are elsewhere: openssl signs, as a command and through a folder."""

from __future__ import annotations

import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import ClusterSpec, ExternalSpec, PkiSpec
from etcdctl_remote.errors import Failed, Problem, Refused, UsageError
from etcdctl_remote.observed.tls import contexts
from etcdctl_remote.operations.certs_issue import issue
from etcdctl_remote.pki import rotation
from etcdctl_remote.pki.applications import Asked
from etcdctl_remote.pki.generation import Due, Generation, renewed
from etcdctl_remote.pki.profiles import Kind
from etcdctl_remote.pki.store import Store
from tests.unit.observed.test_tls import meet

from . import openssl, shaking
from .stores import contents

ALL = Due(force=True)


@pytest.fixture
def ca(tmp_path: Path) -> openssl.Made:
    """An intermediate under a root."""
    return openssl.below(openssl.root(tmp_path, "root"), tmp_path, "signer", kind="rsa")


@pytest.fixture
def peer_ca(tmp_path: Path) -> openssl.Made:
    return openssl.root(tmp_path, "peer-root")


@pytest.fixture
def folder(cluster: ClusterSpec, ca: openssl.Made, peer_ca: openssl.Made) -> ClusterSpec:
    """Requests through a folder; two CAs."""
    root = ca.certificate.with_name("root.crt")
    place = cluster.source.parent / "certs/demo/requests"
    return replace(cluster, pki=PkiSpec(external=ExternalSpec(root, peer_ca.certificate, place)))


@pytest.fixture
def commanded(cluster: ClusterSpec, ca: openssl.Made, peer_ca: openssl.Made, tmp_path: Path) -> ClusterSpec:
    """Requests by commands; two CAs."""
    return by(cluster, ca, peer_ca, openssl.command(ca, tmp_path), openssl.command(peer_ca, tmp_path))


def by(
    cluster: ClusterSpec, ca: openssl.Made, peer_ca: openssl.Made, command: list[str], peer: list[str]
) -> ClusterSpec:
    root = ca.certificate.with_name("root.crt")
    spec = ExternalSpec(root, peer_ca.certificate, None, tuple(command), tuple(peer))
    return replace(cluster, pki=PkiSpec(external=spec))


def planned(cluster: ClusterSpec, due: Due | None = None) -> Generation:
    return Store.beside(cluster).prepare(cluster, datetime.now(UTC), due or Due())


def deploy(cluster: ClusterSpec, due: Due | None = None) -> Generation:
    """What a task does with certificates: plan, have signed, save, tidy."""
    store, now = Store.beside(cluster), datetime.now(UTC)
    made = store.signed(store.prepare(cluster, now, due or Due()), cluster, now)
    store.save(made)
    store.tidy(cluster, tuple(made.credentials.values()))
    found = store.load()
    assert found
    return found


def refusal(cluster: ClusterSpec, kind: type[Problem], due: Due | None = None) -> Problem:
    with pytest.raises(kind) as caught:
        deploy(cluster, due)
    return caught.value


def fine(found: Generation, cluster: ClusterSpec, tmp_path: Path) -> None:
    """Both ends accept each other on both ports, only roots are trusted, and nothing is left to do."""
    server, client = found.credential("n1", Kind.SERVER), found.client("n2")
    assert server.certificate_pem.count(b"BEGIN CERT") == 2
    met = shaking.shake(tmp_path, server, found.ca_bundle, "10.0.0.1", client, found.ca_bundle)
    assert met == ("etcd-server-n1", "etcdctl-n2")
    one, two = found.credential("n1", Kind.PEER), found.credential("n2", Kind.PEER)
    met = shaking.shake(tmp_path, one, found.peer_ca_bundle, "10.0.0.1", two, found.peer_ca_bundle)
    assert met == ("etcd-peer-n1", "etcd-peer-n2")
    assert found.ca_bundle.count(b"BEGIN CERT") == found.peer_ca_bundle.count(b"BEGIN CERT") == 1
    assert planned(cluster).issued == ()
    assert not list(Store.beside(cluster).root.glob("ca/*/*.key*"))


# -- the command ---------------------------------------------------------------------------------


def test_a_command_signs(commanded: ClusterSpec, tmp_path: Path) -> None:
    """It is told whose, what for and how long; the plan before runs nothing."""
    plan = planned(commanded)
    assert plan.issued[2].startswith("server certificate for n1 (new; to be signed elsewhere)")
    assert not (tmp_path / "log").exists()
    assert not Store.beside(commanded).root.exists()
    fine(deploy(commanded), commanded, tmp_path)
    log = (tmp_path / "log").read_text().splitlines()
    assert len(log) == 9
    assert "n2 peer serverAuth,clientAuth 10.0.0.2,n2" in log
    assert "n3 client clientAuth urn:etcdctl-remote:demo:n3" in log
    before = deploy(commanded)
    after = deploy(commanded, ALL)
    assert not {leaf.serial for leaf in before.leaves.values()} & {
        leaf.serial for leaf in after.leaves.values()
    }


def test_what_outlives_its_intermediate_is_renewed_once_that_has_ended(
    cluster: ClusterSpec, peer_ca: openssl.Made, tmp_path: Path
) -> None:
    """Nobody takes such a leaf any more, whatever its own dates say; before that a new one would end as soon."""
    signer = openssl.below(openssl.root(tmp_path, "root"), tmp_path, "signer", days=2)
    commands = (openssl.command(signer, tmp_path), openssl.command(peer_ca, tmp_path))
    spec = by(cluster, signer, peer_ca, *commands)
    store, now = Store.beside(spec), datetime.now(UTC)
    deploy(spec)
    assert store.prepare(spec, now + timedelta(days=1)).issued == ()
    (held,) = {leaf.not_after.date() for leaf in planned(spec).leaves.values()}
    assert held > (now + timedelta(days=300)).date()
    lines = store.prepare(spec, now + timedelta(days=3)).issued
    assert [line.partition(" (")[0] for line in lines] == [
        f"{kind} certificate for {node}" for node in ("n1", "n2", "n3") for kind in ("server", "client")
    ]
    assert all("signer above it expired on" in line for line in lines)


def test_a_command_around_openssl_ca(cluster: ClusterSpec, tmp_path: Path) -> None:
    """With its database, its serials and a lock, as it is used for years."""
    root = openssl.root(tmp_path, "root")
    (tmp_path / "index.txt").write_text("")
    (tmp_path / "serial").write_text("1000\n")
    (tmp_path / "new").mkdir()
    (tmp_path / "ca.cnf").write_text(
        f"[ca]\ndefault_ca=d\n[d]\ndatabase={tmp_path}/index.txt\nserial={tmp_path}/serial\n"
        f"new_certs_dir={tmp_path}/new\ncertificate={root.certificate}\nprivate_key={root.key}\n"
        "default_md=sha256\npolicy=p\ncopy_extensions=copy\nx509_extensions=v\nunique_subject=no\n"
        "[p]\ncommonName=supplied\n[v]\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
    )
    script = tmp_path / "sign"
    script.write_text(
        f"#!/bin/sh\nexec flock {tmp_path}/lock openssl ca -batch -notext -config {tmp_path}/ca.cnf "
        "-in /dev/stdin -days $ETCDCTL_REMOTE_DAYS\n"
    )
    script.chmod(0o700)
    spec = ExternalSpec(root.certificate, None, None, ("./sign",))
    wish = replace(cluster, pki=PkiSpec(peer_ca="same", external=spec))
    found = deploy(wish)
    assert len((tmp_path / "index.txt").read_text().splitlines()) == 9
    assert {leaf.issuer for leaf in found.leaves.values()} == {"root"}
    assert planned(wish).issued == ()


def test_what_a_command_says_is_shown(
    cluster: ClusterSpec, ca: openssl.Made, peer_ca: openssl.Made, tmp_path: Path
) -> None:
    """Of every one that failed; nothing is saved."""
    peer = ["sh", "-c", "echo 'the vault is sealed' >&2; exit 3"]
    broken = by(cluster, ca, peer_ca, ["./none"], peer)
    problem = refusal(broken, Failed)
    assert "9 of 9 certificates were not signed" in problem.message
    assert problem.hosts["n1-peer"] == "sh ended with exit code 3: the vault is sealed"
    assert problem.hosts["n1-server"] == "./none cannot be run: No such file or directory"
    assert not Store.beside(broken).root.exists()


def test_what_comes_back_is_checked(
    cluster: ClusterSpec, ca: openssl.Made, peer_ca: openssl.Made, tmp_path: Path
) -> None:
    """Another key, names, usages, a stranger's signature, a common name of its own: all at once."""
    own = openssl.key(tmp_path / "own.key")
    csr = openssl.openssl("req", "-new", "-key", own, "-subj", "/CN=root", "-addext", "subjectAltName=DNS:n1")
    stranger = openssl.root(tmp_path, "stranger")
    (tmp_path / "wrong.pem").write_bytes(openssl.sign(stranger, csr, tmp_path))
    wrong = by(cluster, ca, peer_ca, ["cat", "wrong.pem"], ["cat"])
    said = refusal(wrong, Failed).hosts
    assert said["n1-peer"] == "is no PEM certificate"
    for part in (
        "has another key than the request",
        "has the common name 'root', not 'etcd-server-n1'",
        "lacks the names 10.0.0.1, 127.0.0.1, ::1, localhost",
        "lacks the usages serverAuth, clientAuth",
        "does not lead to 'root': it was signed by 'stranger'",
    ):
        assert part in said["n1-server"], part
    bare = by(
        cluster, ca, peer_ca, openssl.command(ca, tmp_path, behind=False), openssl.command(peer_ca, tmp_path)
    )
    assert "does not lead to 'root': it was signed by 'signer'" in refusal(bare, Failed).hosts["n1-server"]


# -- the folder ----------------------------------------------------------------------------------


def answer(cluster: ClusterSpec, ca: openssl.Made, peer_ca: openssl.Made, pattern: str = "*") -> None:
    """Sign what waits, as a person at the CA would."""
    external = cluster.pki.external
    assert external
    assert external.folder
    for csr in external.folder.glob(f"{pattern}.csr"):
        by = peer_ca if csr.stem.endswith("-peer") else ca
        leaf = openssl.sign(by, csr.read_bytes(), ca.key.parent)
        csr.with_suffix(".crt").write_bytes(leaf + by.chain.read_bytes())


def test_through_a_folder_in_two_runs(
    folder: ClusterSpec, ca: openssl.Made, peer_ca: openssl.Made, tmp_path: Path
) -> None:
    """The first leaves requests and says what each asks for; keys stay in the store until they are used."""
    planned(folder)
    root = Store.beside(folder).root
    assert not root.exists()
    problem = refusal(folder, Refused)
    assert problem.exit_code == 4
    assert "9 of 9 certificates are to be signed elsewhere" in problem.message
    assert (
        problem.hosts["n1-peer.csr"]
        == "CN etcd-peer-n1; names n1, 10.0.0.1; usages serverAuth, clientAuth; 365 days"
    )
    requests = contents(root / "requests")
    assert sorted(requests) == sorted(
        f"n{i}-{kind}.csr" for i in (1, 2, 3) for kind in ("server", "peer", "client")
    )
    assert {path.stat().st_mode & 0o777 for path in root.glob("pending/*.key")} == {0o600}
    assert len(list(root.glob("pending/*.key"))) == 9

    refusal(folder, Refused)
    assert contents(root / "requests") == requests, "the same requests wait"
    answer(folder, ca, peer_ca, "n[12]-*")
    problem = refusal(folder, Refused)
    assert sorted(problem.hosts) == ["n3-client.csr", "n3-peer.csr", "n3-server.csr"]
    answer(folder, ca, peer_ca, "n3-*")
    fine(deploy(folder), folder, tmp_path)
    assert not list(root.glob("pending/*"))
    assert not list(root.glob("requests/*.csr"))

    problem = refusal(folder, Refused, Due(kinds=(Kind.SERVER,), only=("n1",), force=True))
    assert "n1-server.crt there is of an earlier request: not yet signed" in problem.hosts["n1-server.csr"]


def test_an_answer_that_was_taken_is_not_taken_again(
    folder: ClusterSpec, ca: openssl.Made, peer_ca: openssl.Made
) -> None:
    """Killed after it was saved, before the request was removed: the next renewal asks anew."""
    refusal(folder, Refused)
    answer(folder, ca, peer_ca)
    pending = Store.beside(folder).root / "pending"
    before = contents(pending)
    found = deploy(folder)
    for name, content in before.items():
        (pending / name).write_bytes(content)
    problem = refusal(folder, Refused, Due(kinds=(Kind.PEER,), only=("n2",), force=True))
    assert "not yet signed" in problem.hosts["n2-peer.csr"]
    assert (pending / "n2-peer.key").read_bytes() not in before.values()
    assert Store.beside(folder).load() == found


def test_a_changed_wish_is_asked_for_anew(
    folder: ClusterSpec, ca: openssl.Made, peer_ca: openssl.Made
) -> None:
    """A name more in the inventory: what was signed for less is of an earlier request."""
    refusal(folder, Refused)
    answer(folder, ca, peer_ca)
    more = replace(folder, pki=replace(folder.pki, names=("etcd.example",)))
    problem = refusal(more, Refused)
    assert len(problem.hosts) == 6
    assert all("earlier request" in line for line in problem.hosts.values())
    answer(more, ca, peer_ca)
    assert "etcd.example" in deploy(more).leaf("n1", Kind.SERVER).names


def test_wrong_answers_are_named_all_at_once(
    folder: ClusterSpec, ca: openssl.Made, peer_ca: openssl.Made
) -> None:
    """Signed by the other CA, or no certificate at all: exit 2, and nothing is saved."""
    refusal(folder, Refused)
    answer(folder, peer_ca, ca)
    requests = Store.beside(folder).root / "requests"
    (requests / "n3-client.crt").write_text("junk")
    problem = refusal(folder, UsageError)
    assert problem.exit_code == 2
    assert len(problem.hosts) == 9
    assert problem.hosts["n1-peer.crt"].startswith("does not lead to 'peer-root': it was signed by")
    assert problem.hosts["n3-client.crt"] == "is no PEM certificate"
    assert Store.beside(folder).load() is None


# -- whom to trust -------------------------------------------------------------------------------


def test_trust_files_are_roots_that_can_be_read(
    folder: ClusterSpec, ca: openssl.Made, tmp_path: Path
) -> None:
    """All that is wrong with them at once."""
    spec = folder.pki.external
    assert spec
    wrong = replace(spec, trust=ca.certificate, peer_trust=tmp_path / "none.crt")
    problem = refusal(replace(folder, pki=PkiSpec(external=wrong)), UsageError)
    assert "'signer' is no root" in problem.hosts[str(ca.certificate)]
    assert problem.hosts[str(tmp_path / "none.crt")] == "No such file or directory"


def test_to_and_from_outside_is_no_deploys_business(
    commanded: ClusterSpec, cluster: ClusterSpec, tmp_path: Path
) -> None:
    """Another CA under a running cluster is a replacement of the CA."""
    deploy(commanded)
    inside = replace(commanded, pki=PkiSpec())
    assert "`pki.external`" in refusal(inside, Refused).message
    other = openssl.root(tmp_path, "other")
    external = commanded.pki.external
    assert external
    changed = replace(commanded, pki=PkiSpec(external=replace(external, trust=other.certificate)))
    problem = refusal(changed, Refused)
    assert "does not hold the CA that demo trusts, 'root'" in problem.message
    assert "rotate-certs --ca" in problem.hint
    ours = replace(cluster, name="ours")
    deploy(ours)
    assert "but those of ours are not" in refusal(replace(commanded, name="ours"), Refused).message


def test_no_key_lies_anywhere_else(folder: ClusterSpec, tmp_path: Path) -> None:
    """Not in the folder that goes to the CA, whatever it is called."""
    refusal(folder, Refused)
    root = Store.beside(folder).root
    for path, content in contents(tmp_path).items():
        if b"PRIVATE KEY" in content and not path.endswith((".key", "sign.cnf")):
            raise AssertionError(path)
        if b"PRIVATE KEY" in content and str(root.relative_to(tmp_path)) in path:
            assert path.startswith("certs/demo/pending/"), path
    assert (root / "pending").stat().st_mode & 0o777 == 0o700


def test_an_outside_ca_is_replaced_in_three_states(
    commanded: ClusterSpec, peer_ca: openssl.Made, tmp_path: Path
) -> None:
    """By other trust files and another command: trust both, leaves from the new, trust the new only."""
    before = deploy(commanded)
    store, now = Store.beside(commanded), datetime.now(UTC)
    other = openssl.root(tmp_path, "other")
    spec = commanded.pki.external
    assert spec
    coming = replace(spec, trust=other.certificate, command=tuple(openssl.command(other, tmp_path)))
    wish = replace(commanded, pki=PkiSpec(external=coming))
    with pytest.raises(Refused, match="trusts already"):
        rotation.trust_both(before, commanded, now)

    both = rotation.trust_both(store.prepare(wish, now, replacing=True), wish, now, ["client"])
    store.save(store.signed(both, wish, now))
    held = deploy(wish)
    assert held.ca_bundle.count(b"BEGIN CERT") == 2
    assert held.peer_ca_bundle == before.peer_ca_bundle
    assert held.leaf("n1", Kind.SERVER) == before.leaf("n1", Kind.SERVER)
    for issuer, roots in (("other", 2), ("other", 1), ("other", 1)):
        store.save(store.signed(renewed(rotation.advanced(held), wish, now), wish, now))
        held = deploy(wish)
        assert held.leaf("n1", Kind.SERVER).issuer == issuer
        assert held.ca_bundle.count(b"BEGIN CERT") == roots
    assert held.leaf("n1", Kind.PEER) == before.leaf("n1", Kind.PEER)
    assert held.rotation is None


def test_from_here_to_outside(cluster: ClusterSpec, commanded: ClusterSpec, tmp_path: Path) -> None:
    """A CA whose key lies here is replaced by one whose key does not."""
    deploy(cluster)
    store, now = Store.beside(cluster), datetime.now(UTC)
    store.save(rotation.trust_both(store.prepare(commanded, now, replacing=True), commanded, now))
    held = deploy(commanded)
    for _ in range(3):
        store.save(store.signed(renewed(rotation.advanced(held), commanded, now), commanded, now))
        held = deploy(commanded)
    assert held.leaf("n1", Kind.SERVER).issuer == "signer"
    assert planned(commanded).issued == ()
    assert held.authorities.client.outside


def test_stand_ins_shake_hands_with_each_other(commanded: ClusterSpec) -> None:
    """A preflight tries the network before anybody has signed anything."""
    roles = contexts(planned(commanded), ["n1", "n2"])
    for kind in ("client", "peer"):
        meet(roles["n1"].serve[kind], roles["n2"].dial[kind], "10.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError):
        meet(roles["n1"].serve["client"], roles["n2"].dial["client"], "10.0.0.2")


def test_running_members_are_dialled_with_what_they_know(commanded: ClusterSpec) -> None:
    """With stand-ins for a renewal, a check still gets through to members that run with the present ones."""
    running = contexts(deploy(commanded), ["n1"])["n1"]
    probing = contexts(planned(commanded, ALL), ["n1", "n2"])
    for kind in ("client", "peer"):
        meet(running.serve[kind], probing["n2"].dial[kind], "10.0.0.1")
        meet(probing["n1"].serve[kind], probing["n2"].dial[kind], "10.0.0.1")


def test_an_application_is_signed_elsewhere_too(
    folder: ClusterSpec, commanded: ClusterSpec, ca: openssl.Made, peer_ca: openssl.Made
) -> None:
    """By the command at once; through the folder in two runs, and its request is gone then."""
    wanted, now = Asked("app", "", "client", "", 30), datetime.now(UTC)
    deploy(commanded)
    handed = issue(commanded, wanted, now)
    assert handed.certificate.leaf.issuer == "signer"
    assert handed.certificate.credential
    with pytest.raises(Refused, match="to be signed elsewhere") as caught:
        issue(folder, wanted, now)
    assert list(caught.value.hosts) == ["app-application.csr"]
    answer(folder, ca, peer_ca)
    assert issue(folder, wanted, now).certificate.leaf.serial != handed.certificate.leaf.serial
    assert not list(Store.beside(folder).root.glob("pending/*"))
