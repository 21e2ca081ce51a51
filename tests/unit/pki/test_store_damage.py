"""A store that was damaged, moved or cannot be written: it is named, and nothing is papered over."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import ClusterSpec, PkiSpec
from etcdctl_remote.errors import Failed, Problem, Refused, UsageError
from etcdctl_remote.pki.disk import Disk
from etcdctl_remote.pki.store import Store

from .stores import NOW, contents


def _at(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        (root / name).write_bytes(content)

    return act


def _swap_ca_keys(root: Path) -> None:
    shutil.copy(root / "ca/0001/peer-ca.key", root / "ca/0001/ca.key")


def _leaf_for_ca(root: Path) -> None:
    for suffix in ("crt", "key"):
        shutil.copy(root / f"current/n1/server.{suffix}", root / f"ca/0001/ca.{suffix}")


def _newer_format(root: Path) -> None:
    meta = root / "current/generation.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "format": 99}))


def _dangling(root: Path) -> None:
    shutil.rmtree(root / "generations/0001")


def _no_link_of_two(root: Path) -> None:
    shutil.copytree(root / "generations/0001", root / "generations/0002")
    (root / "current").unlink()


DAMAGE = {
    "leaf without key": (_at("current/n1/peer.key"), "n1/peer.key is missing"),
    "key without leaf": (_at("current/n1/peer.crt"), "n1/peer.crt is missing"),
    "garbled leaf": (_write("current/n2/server.crt", b"zzz"), "n2/server.crt or its key cannot be read"),
    "garbled key": (_write("current/n2/server.key", b"zzz"), "n2/server.crt or its key cannot be read"),
    "empty CA": (_write("ca/0001/ca.crt", b""), "ca/0001/ca.crt or its key cannot be read"),
    "garbled CA key": (_write("ca/0001/peer-ca.key", b"zzz"), "peer-ca.crt or its key cannot be read"),
    "CA without certificate": (_at("ca/0001/ca.crt"), "ca/0001/ca.crt is missing"),
    "peer CA without certificate": (_at("ca/0001/peer-ca.crt"), "ca/0001/peer-ca.crt is missing"),
    "foreign CA key": (_swap_ca_keys, "ca.key is not the key of ca.crt"),
    "leaf as CA": (_leaf_for_ca, "ca.crt is not the certificate of a CA"),
    "no bundle": (_at("current/peer-ca.crt"), "peer-ca.crt is missing"),
    "foreign bundle": (_write("current/ca.crt", b"zzz"), "ca.crt lacks the CA that signs"),
    "no meta": (_at("current/generation.json"), "generation.json is missing"),
    "garbled meta": (_write("current/generation.json", b"{"), "generation.json is damaged"),
    "binary meta": (_write("current/generation.json", b"\xff\xfe"), "generation.json is damaged"),
    "meta of another shape": (_write("current/generation.json", b"[]"), "generation.json is damaged"),
    "newer format": (_newer_format, "has format 99"),
    "dangling link": (_dangling, "points to generations/0001, which is not there"),
    "no link, two states": (_no_link_of_two, "the link `current` is missing"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_with_file_and_fix_and_nothing_is_repaired(
    store: Store, cluster: ClusterSpec, damage: str
) -> None:
    """Exit code 2, the very file, a hint; no CA is made to paper over it."""
    act, said = DAMAGE[damage]
    act(store.root)
    before = contents(store.root)
    with pytest.raises(UsageError) as caught:
        store.prepare(cluster, NOW)
    assert said in caught.value.message
    assert str(store.root) in caught.value.message
    assert caught.value.hint
    assert contents(store.root) == before


@pytest.mark.parametrize("file", ["ca/0001/ca.key", "ca/0001/peer-ca.key", "current/n1/server.key"])
def test_a_key_open_to_others_is_refused(store: Store, cluster: ClusterSpec, file: str) -> None:
    """As OpenSSH does; one command mends this key and all others that were copied the same way."""
    before = store.prepare(cluster, NOW)
    (store.root / file).chmod(0o640)
    with pytest.raises(UsageError, match=r"open to other users \(mode 0640\)") as caught:
        store.prepare(cluster, NOW)
    assert caught.value.hint == f"chmod -R go= {shlex.quote(str(store.root))}"
    for key in store.root.glob("**/*.key"):
        key.chmod(0o640)
    subprocess.run(["sh", "-c", caught.value.hint], check=True)
    assert store.prepare(cluster, NOW) == before


def test_without_the_ca_key_a_quiet_run_still_works(store: Store, cluster: ClusterSpec) -> None:
    """A CA key kept elsewhere is missed only when something must be signed; then it is an error."""
    (store.root / "ca/0001/ca.key").unlink()
    assert store.prepare(cluster, NOW).issued == ()
    with pytest.raises(Refused, match=r"ca/0001/ca\.key is missing") as caught:
        store.prepare(replace(cluster, pki=PkiSpec(names=("x.example",))), NOW)
    assert "backup" in caught.value.hint


def test_a_lost_generation_is_issued_by_the_old_ca(store: Store, cluster: ClusterSpec) -> None:
    """As long as the CA is there, the cluster's trust is."""
    before = store.load()
    shutil.rmtree(store.root / "generations")
    (store.root / "current").unlink()
    after = store.prepare(cluster, NOW)
    assert before is not None
    assert after.ca_bundle == before.ca_bundle
    assert len(after.issued) == 9


def test_a_store_copied_without_its_link_is_read(store: Store, cluster: ClusterSpec) -> None:
    """With a single state there is no doubt; the next save makes the link again."""
    before = store.prepare(cluster, NOW)
    (store.root / "current").unlink()
    after = store.prepare(cluster, NOW)
    assert after.issued == ()
    assert after.token == before.token
    store.save(after)
    assert (store.root / "current").readlink() == Path("generations/0001")


def test_both_files_of_a_leaf_gone_means_a_new_one(store: Store, cluster: ClusterSpec) -> None:
    """It is what the hint for a broken pair tells the operator to do."""
    for path in store.root.glob("generations/0001/n1/peer.*"):
        path.unlink()
    assert store.prepare(cluster, NOW).issued == ("peer certificate for n1 (new)",)


def test_a_file_in_the_way_is_said(cluster: ClusterSpec) -> None:
    """`certs` may be anything; the message names the path and no traceback shows."""
    (cluster.source.parent / "certs").write_text("not a directory")
    store = Store.beside(cluster)
    with pytest.raises(Problem) as caught:
        store.save(store.prepare(cluster, NOW))
    assert "certs" in caught.value.message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become the other user of this test")
def test_a_store_of_another_user_is_said(store: Store, cluster: ClusterSpec) -> None:
    """Run once with sudo and then without: the message says whose turn it is, with no traceback."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            store.prepare(cluster, NOW)
        except UsageError as error:
            os.write(write, str(error).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    said = os.read(read, 4096).decode()
    os.close(read)
    assert "cannot be read: Permission denied" in said
    assert "chown" in said


def test_a_full_disk_leaves_the_old_state(store: Store, cluster: ClusterSpec) -> None:
    """A failure to write is reported, and the former certificates stay in force."""

    def full(change: str) -> None:
        if change.startswith("write") and "n2" in change:
            raise OSError(28, "No space left on device", change)

    wish = replace(cluster, pki=PkiSpec(names=("x.example",)))
    with pytest.raises(Failed, match="No space left on device"):
        Store(store.root, Disk(full)).save(store.prepare(wish, NOW))
    assert store.prepare(cluster, NOW).issued == ()
    store.save(store.prepare(wish, NOW))
    assert not list(store.root.rglob(".partial-*"))
