"""CA keys that lie encrypted: opened only to sign, asked for once, and never both ways for good."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pyrage
import pytest

from etcdctl_remote.desired.model import CaKeySpec, ClusterSpec, PkiSpec
from etcdctl_remote.errors import UsageError
from etcdctl_remote.operations.certs_init import Imports, certs_init
from etcdctl_remote.pki.disk import Disk
from etcdctl_remote.pki.generation import Due
from etcdctl_remote.pki.keyring import Keyring, Passphrase, by_passphrase, decrypt, encrypt
from etcdctl_remote.pki.resealing import kept_otherwise
from etcdctl_remote.pki.store import Store
from etcdctl_remote.secret import Secret

from . import age as age_file
from .stores import NOW, contents, killed_at


@dataclass
class Person:
    """Types the same at every question, and counts them."""

    types: str = "correct horse"
    asked: list[str] = field(default_factory=list)

    def __call__(self, what: str) -> Secret:
        self.asked.append(what)
        return Secret(self.types.encode())


def kept(cluster: ClusterSpec, spec: CaKeySpec, **pki: str) -> ClusterSpec:
    """The same cluster, its CA keys kept so."""
    return replace(cluster, pki=replace(PkiSpec(), ca_key=spec, **pki))  # type: ignore[arg-type]


def opened(cluster: ClusterSpec, person: Callable[[str], Secret] | None = None) -> Store:
    """The store as one run sees it."""
    return Store.beside(cluster, Keyring(cluster.pki.ca_key, person))


def save(store: Store, cluster: ClusterSpec, due: Due | None = None) -> None:
    """Issue what is due, as a task does after consent."""
    store.save(store.signed(store.prepare(cluster, NOW, due or Due()), cluster, NOW))


ALL = Due(timedelta(days=10000), force=True)


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """A file as age-keygen writes it."""
    path, made = tmp_path / "identity.txt", pyrage.x25519.Identity.generate()
    path.write_text(f"# created: 2030-05-17\n# public key: {made.to_public()}\n{made}\n")
    return path


def recipient(identity: Path) -> str:
    return identity.read_text().splitlines()[1].rpartition(" ")[2]


@pytest.fixture
def age(identity: Path) -> CaKeySpec:
    return CaKeySpec("age", recipients=(recipient(identity),), identity=identity)


def test_a_passphrase_is_asked_once_and_only_to_sign(cluster: ClusterSpec) -> None:
    """Twice when it is new. Who looks, and a plan, are not asked; nothing lies in the clear."""
    sealed = kept(cluster, CaKeySpec("passphrase"), peer_ca="same")
    person = Person()
    save(opened(sealed, person), sealed)
    assert person.asked == [
        "New passphrase for the CA keys of demo",
        "Again: new passphrase for the CA keys of demo",
    ]
    root = Store.beside(sealed).root
    assert {path.name for path in root.glob("ca/*/*")} == {"ca.crt", "ca.key.age"}
    assert (root / "ca/0001/ca.key.age").stat().st_mode & 0o777 == 0o600

    nobody = opened(sealed)
    assert nobody.prepare(sealed, NOW).issued == ()
    planned = nobody.prepare(sealed, NOW, ALL)
    assert len(planned.issued) == 9
    with pytest.raises(UsageError, match="there is nobody to ask"):
        nobody.signed(planned, sealed, NOW)

    written = contents(root)
    with pytest.raises(UsageError, match=r"ca\.key\.age does not open: the passphrase is wrong") as caught:
        save(opened(sealed, Person("wrong")), sealed, ALL)
    assert "nothing was changed" in caught.value.message
    assert contents(root) == written

    person = Person()
    store = opened(sealed, person)
    before = store.load()
    save(store, sealed, ALL)
    after = store.load()
    assert len(person.asked) == 1
    assert person.asked[0].startswith("Passphrase of ")
    assert before is not None
    assert after is not None
    assert before.ca_bundle == after.ca_bundle
    assert all(after.authorities.client.signed(leaf.certificate) for leaf in after.leaves.values())
    assert not {leaf.serial for leaf in before.leaves.values()} & {
        leaf.serial for leaf in after.leaves.values()
    }


def test_a_stand_in_is_never_saved(cluster: ClusterSpec, age: CaKeySpec) -> None:
    """What a plan was computed with is no certificate."""
    sealed = kept(cluster, age)
    save(opened(sealed), sealed)
    store = opened(sealed)
    before = contents(store.root)
    planned = store.prepare(sealed, NOW, ALL)
    assert planned.pending
    with pytest.raises(ValueError, match="never signed"):
        store.save(planned)
    assert contents(store.root) == before


def test_a_new_passphrase_is_typed_twice_and_not_empty(cluster: ClusterSpec) -> None:
    """Else no CA is made."""
    sealed = kept(cluster, CaKeySpec("passphrase"), peer_ca="same")
    answers = itertools.cycle(["one", "two"])
    with pytest.raises(UsageError, match="the two passphrases differ"):
        save(opened(sealed, lambda _: Secret(next(answers).encode())), sealed)
    with pytest.raises(UsageError, match="is empty"):
        save(opened(sealed, Person("")), sealed)
    assert not list(Store.beside(sealed).root.glob("ca/*"))


def test_a_passphrase_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment or a file descriptor, read once; what is not there is told."""
    monkeypatch.delenv("CA_PASSPHRASE", raising=False)
    with pytest.raises(UsageError, match=r"\$CA_PASSPHRASE, which is not set"):
        Passphrase("env:CA_PASSPHRASE").get("of x")
    monkeypatch.setenv("CA_PASSPHRASE", "from afar")
    assert Passphrase("env:CA_PASSPHRASE").get("of x") == Secret(b"from afar")
    reader, writer = os.pipe()
    os.write(writer, b"from afar\n")
    os.close(writer)
    given = Passphrase(f"fd:{reader}")
    assert given.get("of x") == given.get("of y") == given.of_each("of z") == Secret(b"from afar")
    os.close(reader)
    with pytest.raises(UsageError, match=f"file descriptor {reader}: Bad file descriptor"):
        Passphrase(f"fd:{reader}").get("of x")


def test_a_descriptor_that_nobody_gave_is_never_read(tmp_path: Path) -> None:
    """Whether it was given is seen at the start: later the number is a file or a socket of our own."""
    ours = os.open(tmp_path / "ours", os.O_RDWR | os.O_CREAT)
    os.write(ours, b"no passphrase")
    os.lseek(ours, 0, os.SEEK_SET)
    number = os.dup(ours)
    os.close(number)
    keys = Keyring(CaKeySpec("passphrase", f"fd:{number}"))
    os.dup2(ours, number)
    with pytest.raises(UsageError, match=f"file descriptor {number}: Bad file descriptor") as caught:
        keys.passphrase.get("of x")
    assert caught.value.hint == f"for example: … {number}< FILE"
    os.close(number)
    os.close(ours)


def test_a_descriptor_that_cannot_be_read_is_told() -> None:
    """The writing end of a pipe; one from which nothing comes at the moment gives an empty passphrase."""
    reader, writer = os.pipe()
    with pytest.raises(UsageError, match=f"file descriptor {writer}: it is open for writing only"):
        Passphrase(f"fd:{writer}").get("of x")
    os.set_blocking(reader, False)
    with pytest.raises(UsageError, match="the passphrase of x is empty"):
        Passphrase(f"fd:{reader}").get("of x")
    os.close(reader)
    os.close(writer)


def test_a_missing_passphrase_has_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the key of the inventory, or the flag, that says where it comes from."""
    monkeypatch.delenv("NOPE", raising=False)
    for given in (Passphrase(), Passphrase("env:NOPE")):
        with pytest.raises(UsageError) as caught:
            given.get("of x")
        assert "by `pki.ca_key.passphrase`" in caught.value.hint
        with pytest.raises(UsageError) as flagged:
            replace(given, by="--passphrase").of_each("of x")
        assert "by --passphrase" in flagged.value.hint


def test_a_recipient_that_is_a_file_is_told(tmp_path: Path) -> None:
    """Its content is wanted; what else is none is told what one is."""
    public = tmp_path / "id.pub"
    public.write_text("ssh-ed25519 AAAA")
    with pytest.raises(UsageError) as caught:
        encrypt(Secret(b"x"), [str(public)])
    assert f'"$(cat {public})"' in caught.value.hint
    with pytest.raises(UsageError) as other:
        encrypt(Secret(b"x"), ["nobody"])
    assert "age1…" in other.value.hint
    assert "SSH public key" in other.value.hint


def test_a_passphrase_costs_real_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """So much that guessing is slow, whatever the machine; with the right one it opens."""
    monkeypatch.setattr(pyrage.passphrase, "encrypt", age_file.REAL)
    sealed = encrypt(Secret(b"a key"), Secret(b"correct horse"))
    assert by_passphrase(sealed)
    assert int(sealed.splitlines()[1].split()[-1]) >= 15
    assert decrypt(sealed, "x", Secret(b"correct horse")) == Secret(b"a key")


def test_an_age_identity_opens_and_another_does_not(
    cluster: ClusterSpec, age: CaKeySpec, tmp_path: Path
) -> None:
    """Nothing is saved that the identity would not open: it is tried first."""
    sealed = kept(cluster, age)
    save(opened(sealed), sealed)
    save(opened(sealed), sealed, ALL)
    other = tmp_path / "other.txt"
    other.write_text(str(pyrage.x25519.Identity.generate()))
    strange = kept(cluster, replace(age, identity=other))
    with pytest.raises(UsageError, match=r"the identity .*other\.txt is wrong"):
        save(opened(strange), strange, ALL)
    fresh = replace(strange, name="fresh")
    with pytest.raises(UsageError, match=r"the identity .*other\.txt is wrong"):
        save(opened(fresh), fresh)
    assert not list(Store.beside(fresh).root.glob("ca/*"))
    (tmp_path / "junk").write_text("no identity")
    junk = kept(cluster, replace(age, identity=tmp_path / "junk"))
    with pytest.raises(UsageError, match="holds no identity that can be used"):
        save(opened(junk), junk, ALL)


def test_a_swapped_sealed_key_is_found_out(cluster: ClusterSpec, age: CaKeySpec) -> None:
    """It opens, but it is not the key of this CA: known only now."""
    sealed = kept(cluster, age)
    save(opened(sealed), sealed)
    folder = Store.beside(sealed).root / "ca/0001"
    (folder / "ca.key.age").write_bytes((folder / "peer-ca.key.age").read_bytes())
    with pytest.raises(UsageError, match=r"ca\.key\.age is not the key of the CA 'demo etcd CA"):
        save(opened(sealed), sealed, ALL)


def reinit(
    cluster: ClusterSpec, person: Callable[[str], Secret] | None = None, disk: Disk | None = None
) -> list[str]:
    """Run certs.init on a store that exists."""
    store = replace(opened(cluster, person), disk=disk or Disk())
    return list(certs_init(cluster, store, Imports(), dry_run=False).done)


def test_certs_init_seals_opens_and_seals_otherwise(cluster: ClusterSpec, age: CaKeySpec) -> None:
    """The certificates stay; of every key there is one file, as the inventory says."""
    cluster = kept(cluster, CaKeySpec(), peer_ca="same")
    save(opened(cluster), cluster)
    before = opened(cluster).load()
    assert reinit(cluster) == []
    passphrase = CaKeySpec("passphrase", identity=age.identity)
    for spec in (age, passphrase, CaKeySpec()):
        wanted = kept(cluster, spec, peer_ca="same")
        done = reinit(wanted, Person())
        assert len(done) == 1
        suffix = "key" if spec.protect == "none" else "key.age"
        assert {path.name for path in Store.beside(wanted).root.glob("ca/0001/*key*")} == {f"ca.{suffix}"}
        assert reinit(wanted) == []
        if spec is not passphrase:
            save(opened(wanted), wanted, ALL)
    after = opened(cluster).load()
    assert before is not None
    assert after is not None
    assert (before.token, before.ca_bundle, before.authorities) == (
        after.token,
        after.ca_bundle,
        after.authorities,
    )


def test_sealing_killed_anywhere_loses_no_key(cluster: ClusterSpec, age: CaKeySpec) -> None:
    """Each key is there, plain or sealed, at every moment; the next run finishes."""
    sealed = kept(cluster, age)
    for change in itertools.count():
        cluster = replace(cluster, name=f"killed-{change}")
        sealed = replace(sealed, name=cluster.name)
        save(opened(cluster), cluster)
        status = killed_at(change, partial(reinit, sealed, None))
        save(opened(sealed), sealed, ALL)
        reinit(sealed)
        root = Store.beside(sealed).root
        assert {path.name for path in root.glob("ca/0001/*key*")} == {"ca.key.age", "peer-ca.key.age"}, change
        assert not list(root.rglob(".partial-*")), change
        save(opened(sealed), sealed, ALL)
        if not os.WIFSIGNALED(status):
            break
    assert os.waitstatus_to_exitcode(status) == 0
    assert change > 8


def test_keys_that_lie_otherwise_are_told(cluster: ClusterSpec) -> None:
    """The inventory was edited, and `certs.init` not run since; where all is as it says, nothing is told."""
    plain = kept(cluster, CaKeySpec(), peer_ca="same")
    sealed = kept(cluster, CaKeySpec("passphrase"), peer_ca="same")
    assert kept_otherwise(Store.beside(sealed)) == ()
    save(opened(plain, Person()), plain)
    assert kept_otherwise(Store.beside(plain)) == ()
    assert kept_otherwise(Store.beside(sealed)) == (
        "the key of ca/0001/ca.crt lies in the clear, though the inventory says `pki.ca_key.protect: passphrase`: "
        "`certs.init` seals it so",
    )
    certs_init(sealed, opened(sealed, Person()), Imports(), dry_run=False)
    assert kept_otherwise(Store.beside(sealed)) == ()
    (found,) = kept_otherwise(Store.beside(plain))
    assert "lies sealed by a passphrase" in found
    assert "`pki.ca_key.protect: none`: `certs.init` opens it for good" in found


def test_a_sealed_key_that_cannot_be_read_is_told(cluster: ClusterSpec) -> None:
    """Whoever only looks goes on."""
    sealed = kept(cluster, CaKeySpec("passphrase"), peer_ca="same")
    save(opened(sealed, Person()), sealed)
    path = Store.beside(sealed).root / "ca/0001/ca.key.age"
    path.unlink()
    path.mkdir()
    assert kept_otherwise(Store.beside(sealed)) == (f"{path} cannot be read: Is a directory",)
