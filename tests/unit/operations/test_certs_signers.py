"""Applications' certificates whoever signs: a sealed key, an intermediate, a CA elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from etcdctl_remote.desired.model import CaKeySpec, ClusterSpec, ExternalSpec, PkiSpec
from etcdctl_remote.errors import Failed, Refused, UsageError
from etcdctl_remote.observed.judging import judge
from etcdctl_remote.observed.verdicts import Sight, Verdict
from etcdctl_remote.operations.certs_export import export
from etcdctl_remote.operations.certs_init import Imports, certs_init
from etcdctl_remote.operations.certs_issue import Handed, issue
from etcdctl_remote.operations.certs_revoke import Wanted, found, listed, refuse_bad_input
from etcdctl_remote.pki import chain, crl
from etcdctl_remote.pki.applications import Asked
from etcdctl_remote.pki.authority import Credential
from etcdctl_remote.pki.generation import Generation
from etcdctl_remote.pki.issued import accounted, applications_of, issued
from etcdctl_remote.pki.keyring import Keyring
from etcdctl_remote.pki.profiles import Kind
from etcdctl_remote.pki.store import Store
from etcdctl_remote.secret import Secret
from tests.unit.memory import in_memory
from tests.unit.operations.here import cluster
from tests.unit.pki import openssl, shaking
from tests.unit.pki.stores import contents
from tests.unit.pki.test_sealing import Person

RIGHT = "correct horse"


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    with in_memory(tmp_path) as folder:
        yield folder


@pytest.fixture
def plain(tmp_path: Path) -> ClusterSpec:
    """Three nodes, and no store."""
    return replace(cluster(), source=tmp_path / "inventory.yaml")


@pytest.fixture
def sealed(plain: ClusterSpec) -> ClusterSpec:
    """Three nodes whose CA key is sealed by a passphrase."""
    spec = replace(plain, pki=PkiSpec(peer_ca="same", ca_key=CaKeySpec("passphrase")))
    return stored(spec, Keyring(spec.pki.ca_key, Person()))


@pytest.fixture
def ca(tmp_path: Path) -> openssl.Made:
    """An intermediate under a root."""
    return openssl.below(openssl.root(tmp_path, "root"), tmp_path, "signer")


def elsewhere(spec: ClusterSpec, ca: openssl.Made, *, command: list[str] | None = None) -> ClusterSpec:
    """The same nodes, with a CA of somebody else's: by a command, or through a folder."""
    root, folder = ca.certificate.with_name("root.crt"), spec.source.parent / "requests"
    external = ExternalSpec(root, None, None if command else folder, tuple(command or ()), ())
    return replace(spec, pki=PkiSpec(peer_ca="same", external=external))


def stored(spec: ClusterSpec, keys: Keyring | None = None) -> ClusterSpec:
    store, now = Store.beside(spec, keys), datetime.now(UTC)
    store.save(store.signed(store.prepare(spec, now), spec, now))
    return spec


def answered(spec: ClusterSpec, ca: openssl.Made) -> None:
    """Sign what waits, as a person at the CA would."""
    for csr in (spec.source.parent / "requests").glob("*.csr"):
        leaf = openssl.sign(ca, csr.read_bytes(), ca.key.parent)
        csr.with_suffix(".crt").write_bytes(leaf + ca.chain.read_bytes())


def waiting(spec: ClusterSpec, ca: openssl.Made) -> ClusterSpec:
    """A cluster whose nodes have their certificates through a folder, the requests of which are done."""
    with pytest.raises(Refused):
        stored(spec)
    answered(spec, ca)
    stored(spec)
    store = Store.beside(spec)
    store.tidy(spec, tuple(held(spec).credentials.values()))
    return spec


def held(spec: ClusterSpec) -> Generation:
    kept = Store.beside(spec).load()
    assert kept is not None
    return kept


def root(spec: ClusterSpec) -> Path:
    return Store.beside(spec).root


def asking(spec: ClusterSpec, types: str = RIGHT) -> tuple[Keyring, Person]:
    person = Person(types)
    return Keyring(spec.pki.ca_key, person), person


def issuing(spec: ClusterSpec, name: str = "app", *, out: str = "", csr: str = "") -> Handed:
    return issue(spec, Asked(name), datetime.now(UTC), out=out, csr=csr)


def request(folder: Path) -> str:
    made = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(
        ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()
    )
    (folder / "theirs.csr").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return str(folder / "theirs.csr")


def accepted(spec: ClusterSpec, out: Path, name: str, folder: Path) -> tuple[str, str]:
    """Shake hands with a member, with the files that an application was given and nothing else."""
    own = Credential((out / f"{name}.crt").read_bytes(), Secret((out / f"{name}.key").read_bytes()))
    member = held(spec)
    server = member.credential("n1", Kind.SERVER)
    return shaking.shake(folder, server, member.ca_bundle, "10.0.0.1", own, (out / "ca.crt").read_bytes())


# -- a sealed key --------------------------------------------------------------------------------


def test_a_sealed_key_is_opened_once(sealed: ClusterSpec, tmp_path: Path) -> None:
    """For a key made here, for a request, and for the operator that an export issues at need."""
    now = datetime.now(UTC)
    keys, person = asking(sealed)
    issue(sealed, Asked("app"), now, out=str(tmp_path / "app"), keys=keys)
    issue(sealed, Asked("theirs"), now, csr=request(tmp_path), keys=keys)
    export(sealed, now, out=str(tmp_path / "out"), keys=keys)
    assert [what.split(" of ")[0] for what in person.asked] == ["Passphrase"]
    assert accepted(sealed, tmp_path / "app", "app", tmp_path) == ("etcd-server-n1", "app")
    assert accepted(sealed, tmp_path / "out", "operator", tmp_path) == ("etcd-server-n1", "operator")
    keys, person = asking(sealed)
    export(sealed, now, out=str(tmp_path / "out"), keys=keys)
    assert person.asked == []


def test_a_wrong_passphrase_changes_nothing(sealed: ClusterSpec, tmp_path: Path) -> None:
    """Told as what it is; so is that there is nobody to ask."""
    issue(sealed, Asked("app"), datetime.now(UTC), keys=asking(sealed)[0])
    before = contents(tmp_path)
    for keys, said in ((asking(sealed, "wrong")[0], "the passphrase is wrong"), (None, "nobody to ask")):
        with pytest.raises(UsageError, match=said):
            issue(sealed, Asked("other"), datetime.now(UTC), out=str(tmp_path / "out"), keys=keys)
        with pytest.raises(UsageError, match=said):
            revoking(sealed, keys)
    assert contents(tmp_path) == before


def test_files_in_the_way_cost_no_passphrase(sealed: ClusterSpec, tmp_path: Path) -> None:
    """What can be seen without a signature is."""
    (tmp_path / "app.key").write_text("mine")
    keys, person = asking(sealed)
    with pytest.raises(Refused, match=r"app\.key: another file is there"):
        issue(sealed, Asked("app"), datetime.now(UTC), out=str(tmp_path), keys=keys)
    assert person.asked == []


def revoking(spec: ClusterSpec, keys: Keyring | None, *, planned: bool = False) -> crl.Revocations:
    kept, now = Store.beside(spec, keys).load(), datetime.now(UTC)
    assert kept is not None
    targets = found(root(spec), kept, Wanted("app"), now)
    return listed(kept, targets, Wanted("app"), now, planned=planned)


def test_revoking_opens_the_key_once_and_a_plan_never(sealed: ClusterSpec) -> None:
    """Two ports, two lists, one question."""
    one = issue(sealed, Asked("app"), datetime.now(UTC), keys=asking(sealed)[0]).certificate
    planned = revoking(sealed, None, planned=True)
    keys, person = asking(sealed)
    done = revoking(sealed, keys)
    assert len(person.asked) == 1
    assert planned.serials == done.serials == {one.leaf.serial}
    assert planned.files.keys() == done.files.keys()
    signed = x509.load_der_x509_crl(done.files["ca.crl"])
    assert signed.is_signature_valid(held(sealed).authorities.client.parsed.public_key())  # type: ignore[arg-type]


# -- an intermediate -----------------------------------------------------------------------------


def test_an_intermediate_stands_behind_the_leaf(plain: ClusterSpec, ca: openssl.Made, tmp_path: Path) -> None:
    """In the files, and in what is given for a request; whom to trust is the root alone."""
    spec = replace(plain, pki=PkiSpec(peer_ca="same"))
    certs_init(spec, Store.beside(spec), Imports(f"{ca.chain},{ca.key}"), dry_run=False)
    stored(spec)
    issuing(spec, out=str(tmp_path / "app"))
    issuing(spec, "theirs", csr=request(tmp_path), out=str(tmp_path / "theirs"))
    export(spec, datetime.now(UTC), out=str(tmp_path / "out"))
    export(spec, datetime.now(UTC), out=str(tmp_path / "out"))
    assert [one.name for one in issued(root(spec))] == ["app", "theirs", "operator"]
    for path in (tmp_path / "app/app.crt", tmp_path / "theirs/theirs.crt", tmp_path / "out/operator.crt"):
        _, *behind = chain.load(path.read_bytes())
        assert chain.pem(behind) == chain.pem(chain.load(ca.certificate.read_bytes()))
    trusted = chain.load((tmp_path / "app/ca.crt").read_bytes())
    assert trusted == chain.load(ca.certificate.with_name("root.crt").read_bytes())
    assert accepted(spec, tmp_path / "app", "app", tmp_path) == ("etcd-server-n1", "app")


@pytest.mark.parametrize("outside", [False, True])
def test_what_an_intermediate_signed_is_fit(
    plain: ClusterSpec, ca: openssl.Made, tmp_path: Path, *, outside: bool
) -> None:
    """By the chain that it carries: `certs` finds nothing wrong with an application's certificate."""
    if outside:
        spec = stored(elsewhere(plain, ca, command=openssl.command(ca, tmp_path)))
    else:
        spec = replace(plain, pki=PkiSpec(peer_ca="same"))
        certs_init(spec, Store.beside(spec), Imports(f"{ca.chain},{ca.key}"), dry_run=False)
        stored(spec)
    issuing(spec)
    now = datetime.now(UTC)
    used = accounted(root(spec), (), now)
    *_, row = judge(Sight(spec, held(spec), {}, {}, now, timedelta(0), used))
    assert (row.node, row.verdict) == ("app", Verdict.OK)


# -- a CA elsewhere ------------------------------------------------------------------------------


def test_a_command_signs(plain: ClusterSpec, ca: openssl.Made, tmp_path: Path) -> None:
    """It is told what for; the chain stands behind the leaf, and an export takes it again."""
    spec = stored(elsewhere(plain, ca, command=openssl.command(ca, tmp_path)))
    handed = issue(spec, Asked("app", days=20), datetime.now(UTC), out=str(tmp_path / "app"))
    told = (tmp_path / "log").read_text().splitlines()[-1]
    assert told == "app application clientAuth urn:etcdctl-remote:demo:application:app"
    assert accepted(spec, tmp_path / "app", "app", tmp_path) == ("etcd-server-n1", "app")
    assert handed.certificate.authority == "0001"
    assert handed.certificate.leaf.days_left(datetime.now(UTC)) == 19
    export(spec, datetime.now(UTC), out=str(tmp_path / "again"), name="app")
    assert contents(tmp_path / "again") == contents(tmp_path / "app")
    for _ in range(2):
        export(spec, datetime.now(UTC), out=str(tmp_path / "out"))
    assert [one.name for one in issued(root(spec))] == ["app", "operator"]


def test_a_command_that_fails_leaves_nothing(plain: ClusterSpec, ca: openssl.Made, tmp_path: Path) -> None:
    """Neither in the register nor in the folder; files in the way are seen before it is run."""
    spec = stored(elsewhere(plain, ca, command=openssl.command(ca, tmp_path)))
    before = contents(root(spec))
    log = (tmp_path / "log").read_text()
    (tmp_path / "app.key").write_text("mine")
    with pytest.raises(Refused, match="another file is there"):
        issuing(spec, out=str(tmp_path))
    assert (tmp_path / "log").read_text() == log
    ca.key.unlink()
    with pytest.raises(Failed, match="not signed as asked") as caught:
        issuing(spec, out=str(tmp_path / "out"))
    assert list(caught.value.by_host) == ["app-application"]
    assert contents(root(spec)) == before
    assert not (tmp_path / "out").exists()


def test_through_a_folder(plain: ClusterSpec, ca: openssl.Made, tmp_path: Path) -> None:
    """A request and what to do with it; once answered it goes on. The second one is another."""
    spec = waiting(elsewhere(plain, ca), ca)
    folder = tmp_path / "requests"
    serials = []
    for _ in range(2):
        with pytest.raises(Refused, match="to be signed elsewhere") as caught:
            issuing(spec, out=str(tmp_path / "out"))
        assert "beside it as app-application.crt; then run the task again" in caught.value.hint
        assert list(caught.value.by_host) == ["app-application.csr"]
        assert b"PRIVATE" not in b"".join(contents(folder).values())
        assert (root(spec) / "pending/app-application.key").stat().st_mode & 0o777 == 0o600
        with pytest.raises(Refused):
            issuing(spec, out=str(tmp_path / "out"))
        answered(spec, ca)
        serials.append(issuing(spec, out=str(tmp_path / "out")).certificate.leaf.serial)
        assert not list(folder.glob("*.csr"))
        assert not list((root(spec) / "pending").iterdir())
    assert [one.leaf.serial for one in issued(root(spec))] == serials
    assert len(set(serials)) == 2
    assert accepted(spec, tmp_path / "out", "app", tmp_path) == ("etcd-server-n1", "app")


def test_an_answer_is_taken_once(
    plain: ClusterSpec, ca: openssl.Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a run was killed after the certificate was entered, and before its request was removed."""
    spec = waiting(elsewhere(plain, ca), ca)
    with pytest.raises(Refused):
        issuing(spec)
    answered(spec, ca)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "tidy", lambda *_: None)
        issuing(spec)
    with pytest.raises(Refused, match="to be signed elsewhere"):
        issuing(spec)
    assert len(issued(root(spec))) == 1


def test_what_a_ca_elsewhere_is_not_asked_for(plain: ClusterSpec, ca: openssl.Made, tmp_path: Path) -> None:
    """Somebody's request, a list of what is revoked."""
    spec = waiting(elsewhere(plain, ca), ca)
    with pytest.raises(Refused):
        issuing(spec)
    answered(spec, ca)
    issuing(spec)
    before = contents(tmp_path)
    csr = request(tmp_path)
    with pytest.raises(Refused, match="cannot be signed here") as caught:
        issuing(spec, "theirs", csr=csr)
    assert "CN theirs and the usages clientAuth" in caught.value.hint
    (tmp_path / "theirs.csr").unlink()
    with pytest.raises(Refused, match=r"no list can be signed") as caught:
        revoking(spec, None)
    assert "--crl FILE" in caught.value.hint
    assert contents(tmp_path) == before


def test_that_a_list_is_needed_is_said_before_any_host_is_asked(
    plain: ClusterSpec, ca: openssl.Made, tmp_path: Path
) -> None:
    """By the inventory's file alone."""
    (script,) = openssl.command(ca, tmp_path)
    text = f"""
cluster: demo
version: "3.6.14"
nodes: {{n1: 10.0.0.1, n2: 10.0.0.2, n3: 10.0.0.3}}
pki: {{peer_ca: same, external: {{trust: {ca.certificate.with_name("root.crt")}, command: [{script}]}}}}
"""
    plain.source.write_text(text)
    issuing(stored(elsewhere(plain, ca, command=[script])))
    with pytest.raises(Refused, match=r"`pki.external`\): no list can be signed; nothing was changed"):
        refuse_bad_input(plain.source, Wanted("app"))


def test_the_issuing_cas_list_is_taken(plain: ClusterSpec, ca: openssl.Made, tmp_path: Path) -> None:
    """An intermediate's, which only leaves carry; not that of somebody of the same name under another root."""
    spec = stored(elsewhere(plain, ca, command=openssl.command(ca, tmp_path)))
    one = issuing(spec, out=str(tmp_path / "app")).certificate
    now, kept = datetime.now(UTC), held(spec)
    wanted = Wanted("app", crl=str(openssl.revoke(ca, tmp_path / "app/app.crt", tmp_path)))
    done = listed(kept, found(root(spec), kept, wanted, now), wanted, now)
    assert done.serials == {one.leaf.serial}
    assert done.files.keys() == {"ca.crl", "peer-ca.crl"}
    (other := tmp_path / "other").mkdir()
    false = openssl.below(openssl.root(other, "root"), other, "signer")
    wanted = Wanted("app", crl=str(openssl.revoke(false, tmp_path / "app/app.crt", other)))
    with pytest.raises(UsageError, match="was not signed by 'root'"):
        listed(kept, found(root(spec), kept, wanted, now), wanted, now)


# -- before a CA goes ------------------------------------------------------------------------------


def test_applications_of_old_cas_are_named(plain: ClusterSpec) -> None:
    """Unexpired, not revoked, signed by one of them; with the day."""
    now, spec = datetime.now(UTC), stored(plain)
    old = [held(spec).authorities.client]
    assert applications_of(root(spec) / "none", old) == []
    issue(spec, Asked("old", days=50), now)
    issue(spec, Asked("old", days=1), now)
    one = issue(spec, Asked("old", days=50), now).certificate
    issue(spec, Asked("short", days=1), now)
    gone = issuing(spec).certificate
    lists = revoking(spec, None)
    Store.beside(spec).save(replace(held(spec), revocations=lists, issued=("revoked",)))
    assert gone.leaf.serial in lists.serials
    said = f"old (serial {one.leaf.serial}, until {now + timedelta(days=50):%Y-%m-%d})"
    assert applications_of(root(spec), old, now + timedelta(days=2)) == [said]
    assert [line.split()[0] for line in applications_of(root(spec), old)] == ["old", "short"]
    assert applications_of(root(spec), [held(spec).authorities.peer]) == []
