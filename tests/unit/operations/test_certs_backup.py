"""The whole store as one encrypted file, and back; whatever is wrong with the file, nothing changes."""

from __future__ import annotations

import io
import itertools
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest

from etcdctl_remote.desired.model import CaKeySpec, ClusterSpec, NodeSpec, Version
from etcdctl_remote.errors import Failed, Refused, UsageError
from etcdctl_remote.operations.certs_backup import backup, restore
from etcdctl_remote.pki.archive import Archive, pack, tree
from etcdctl_remote.pki.disk import Disk
from etcdctl_remote.pki.generation import Due, Formed
from etcdctl_remote.pki.keyring import Keyring, Passphrase, encrypt
from etcdctl_remote.pki.store import Store
from etcdctl_remote.secret import Secret
from tests.unit.memory import in_memory
from tests.unit.pki.stores import killed_at

NOW = datetime(2030, 5, 17, 12, tzinfo=UTC)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    with in_memory(tmp_path) as folder:
        yield folder


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    path = tmp_path / "identity.txt"
    path.write_text(str(pyrage.x25519.Identity.generate()))
    return path


@pytest.fixture
def cluster(tmp_path: Path, identity: Path) -> ClusterSpec:
    nodes = (NodeSpec("n1", "n1", address="10.0.0.1"), NodeSpec("n2", "n2", address="10.0.0.2"))
    return ClusterSpec("demo", Version(3, 6, 14), nodes, tmp_path / "inventory.yaml")


@pytest.fixture
def store(cluster: ClusterSpec) -> Store:
    """Two generations, and the memory of having served."""
    store = Store.beside(cluster)
    store.save(store.prepare(cluster, NOW))
    store.save(store.prepare(cluster, NOW, Due(force=True)))
    held = store.load()
    assert held
    store.remember(held.token, Formed(0xABC, NOW))
    return store


def recipients(identity: Path) -> list[str]:
    return [str(pyrage.x25519.Identity.from_str(identity.read_text()).to_public())]


def keys(identity: Path) -> Keyring:
    return Keyring(CaKeySpec(identity=identity))


def saved(cluster: ClusterSpec, store: Store, identity: Path, name: str = "backup.age") -> Path:
    out = cluster.source.parent / name
    backup(cluster, store, out, recipients(identity), Passphrase())
    return out


def test_there_and_back(cluster: ClusterSpec, store: Store, identity: Path) -> None:
    """Byte for byte; the same again is nothing to do; what stands there is moved aside."""
    out = saved(cluster, store, identity)
    assert out.stat().st_mode & 0o777 == 0o600
    before = tree(store.root)
    assert b"PRIVATE" not in out.read_bytes()
    assert restore(cluster, store, out, keys(identity), NOW) == ""
    store.save(store.prepare(cluster, NOW, Due(force=True)))
    changed = tree(store.root)
    done = restore(cluster, store, out, keys(identity), NOW)
    assert "what was there is in demo.moved-aside.20300517T120000" in done
    assert tree(store.root) == before
    assert tree(store.root.with_name("demo.moved-aside.20300517T120000")) == changed
    store.root.rename(store.root.with_name("gone"))
    assert restore(cluster, store, out, keys(identity), NOW) == f"{store.root} restored"
    assert tree(store.root) == before
    modes = {path.stat().st_mode & 0o777 for path in store.root.rglob("*") if not path.is_symlink()}
    assert modes == {0o600, 0o700}
    assert store.prepare(cluster, NOW).issued == ()
    with pytest.raises(UsageError, match="is there already"):
        saved(cluster, store, identity)


def test_plain_age_and_tar_open_it(cluster: ClusterSpec, store: Store, identity: Path) -> None:
    """An operator without this program gets everything back."""
    out = saved(cluster, store, identity)
    plain = pyrage.decrypt(out.read_bytes(), [pyrage.x25519.Identity.from_str(identity.read_text())])
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        names = tar.getnames()
        assert {"demo/ca/0001/ca.key", "demo/generations/0002/n1/server.key", "demo/current"} <= set(names)
        assert tar.getmember("demo/current").linkname == "generations/0002"
    assert not any("lock" in name for name in names)


def test_a_passphrase_does_as_well(cluster: ClusterSpec, store: Store) -> None:
    """Where there are no recipients."""
    out = cluster.source.parent / "by-passphrase.age"
    backup(cluster, store, out, (), Passphrase("ask", lambda what: Secret(b"correct horse")))
    before = tree(store.root)
    store.root.rename(store.root.with_name("gone"))
    with pytest.raises(UsageError, match="the passphrase is wrong, or the file is damaged"):
        restore(cluster, store, out, Keyring(CaKeySpec(), lambda what: Secret(b"wrong")), NOW)
    assert not store.root.exists()
    restore(cluster, store, out, Keyring(CaKeySpec(), lambda what: Secret(b"correct horse")), NOW)
    assert tree(store.root) == before


def crafted(path: Path, identity: Path, entries: dict[str, bytes | str]) -> Path:
    """A backup of whatever it holds."""
    path.write_bytes(encrypt(pack(Archive("demo", entries)), recipients(identity)))
    return path


def test_whatever_is_wrong_changes_nothing(
    cluster: ClusterSpec, store: Store, identity: Path, tmp_path: Path
) -> None:
    """Cut short, changed, somebody else's, no backup at all, or one of a damaged store."""
    out = saved(cluster, store, identity)
    held = tree(store.root)
    other = tmp_path / "other.txt"
    other.write_text(str(pyrage.x25519.Identity.generate()))
    content = out.read_bytes()
    (tmp_path / "cut.age").write_bytes(content[:-100])
    (tmp_path / "changed.age").write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])
    (tmp_path / "plain.age").write_text("no backup")
    (tmp_path / "text.age").write_bytes(encrypt(Secret(b"no tar"), recipients(identity)))
    outside = crafted(tmp_path / "outside.age", identity, {"../../evil": b"x"})
    linked = crafted(tmp_path / "linked.age", identity, {"ca/0001": "/etc"})
    damaged = crafted(
        tmp_path / "damaged.age", identity, {k: v for k, v in held.items() if k != "ca/0001/ca.crt"}
    )
    empty = crafted(tmp_path / "empty.age", identity, {"readme": b"x"})
    for path, by, said in (
        (tmp_path / "cut.age", identity, "is wrong, or the file is damaged"),
        (tmp_path / "changed.age", identity, "is wrong, or the file is damaged"),
        (tmp_path / "plain.age", identity, "is no age file"),
        (tmp_path / "text.age", identity, "holds no backup"),
        (tmp_path / "none.age", identity, "cannot be read: No such file"),
        (out, other, r"other\.txt is wrong"),
        (outside, identity, "is no file of a store"),
        (linked, identity, "neither a file nor the link"),
        (damaged, identity, r"holds a damaged store: it/ca/0001/ca\.crt is missing"),
        (empty, identity, "holds no certificates"),
    ):
        for place in (store, replace(store, root=tmp_path / "certs" / "nothing-yet")):
            with pytest.raises(UsageError, match=said):
                restore(cluster, place, path, keys(by), NOW)
        assert tree(store.root) == held
    assert not (tmp_path / "evil").exists()
    assert sorted(path.name for path in (tmp_path / "certs").iterdir()) == ["demo"]


def test_another_clusters_backup_is_refused(cluster: ClusterSpec, store: Store, identity: Path) -> None:
    """By its name, and by the nodes it is of."""
    out = saved(cluster, store, identity)
    renamed = replace(cluster, name="other")
    with pytest.raises(UsageError, match="is a backup of 'demo', and the inventory is that of 'other'"):
        restore(renamed, Store.beside(renamed), out, keys(identity), NOW)
    store.root.rename(store.root.with_name("gone"))
    moved = replace(cluster, nodes=(NodeSpec("n1", "n1", address="10.9.0.1"),))
    with pytest.raises(Refused, match="belongs to a cluster on n1"):
        restore(moved, store, out, keys(identity), NOW)
    assert not store.root.exists()


def test_a_restore_killed_anywhere_is_finished_by_the_next(
    cluster: ClusterSpec, store: Store, identity: Path
) -> None:
    """At each moment both states are there, whole; nothing is deleted."""
    out = saved(cluster, store, identity)
    wanted = tree(store.root)
    for change in itertools.count():
        store.save(store.prepare(cluster, NOW, Due(force=True)))
        present = tree(store.root)

        def dying(disk: Disk) -> None:
            restore(cluster, replace(store, disk=disk), out, keys(identity), NOW)

        status = killed_at(change, dying, "rename")
        restore(cluster, store, out, keys(identity), NOW)
        assert tree(store.root) == wanted
        aside = store.root.with_name("demo.moved-aside.20300517T120000")
        assert tree(aside) == present
        assert sorted(path.name for path in store.root.parent.iterdir()) == ["demo", aside.name]
        aside.rename(store.root.parent.parent / f"aside-{change}")
        if not os.WIFSIGNALED(status):
            break
    assert change == 2


def test_a_file_of_something_else_is_no_age_file(cluster: ClusterSpec, store: Store, tmp_path: Path) -> None:
    """Said before anything that would open it is asked for."""
    (tmp_path / "notes.txt").write_text("hello")
    keys = Keyring(CaKeySpec("passphrase"), lambda _: pytest.fail("it asked"))
    with pytest.raises(UsageError, match=r"notes\.txt is no age file"):
        restore(cluster, store, tmp_path / "notes.txt", keys, NOW)


def test_a_backup_that_cannot_be_written_leaves_nothing(
    cluster: ClusterSpec, store: Store, identity: Path, tmp_path: Path
) -> None:
    """A folder that is not there is bad input; a disk that is full leaves no part of it."""
    to, phrase = [str(pyrage.x25519.Identity.from_str(identity.read_text()).to_public())], Passphrase("ask")
    with pytest.raises(UsageError, match="none is no folder; nothing was written"):
        backup(cluster, store, tmp_path / "none" / "x.age", to, phrase)

    def full(change: str) -> None:
        if change.startswith("fsync"):
            raise OSError(28, "No space left on device")

    (out := tmp_path / "out").mkdir()
    with pytest.raises(Failed, match="No space left"):
        backup(cluster, replace(store, disk=Disk(full)), out / "x.age", to, phrase)
    assert list(out.iterdir()) == []
