"""Save the whole store of certificates as one encrypted file, and put it back. Contacts no host."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from ..desired.model import ClusterSpec
from ..errors import Failed, Refused, UsageError
from ..pki.archive import Archive, pack, tree, unpack, write
from ..pki.disk import PARTIAL, exclusive
from ..pki.generation import refuse_other_nodes
from ..pki.keyring import Keyring, Passphrase, encrypt
from ..pki.store import Store


def backup(
    cluster: ClusterSpec, store: Store, out: Path, recipients: Sequence[str], passphrase: Passphrase
) -> Archive:
    """Write the backup; for recipients if there are any, else for the passphrase."""
    if store.load() is None:
        raise Refused(
            f"there are no certificates of {cluster.name} here: nothing to back up",
            f"they would be in {store.root}",
        )
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out} is there already; nothing was written", "choose another --out")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK | os.X_OK):
        why = "cannot be written to" if out.parent.is_dir() else "is no folder"
        raise UsageError(
            f"--out {out}: {out.parent} {why}; nothing was written", "name a file in a folder of yours"
        )
    with exclusive(store.root / ".lock"):
        found = Archive(cluster.name, tree(store.root))
    to = recipients or passphrase.get(f"for {out.name}", new=True)
    content = encrypt(pack(found), to)
    with _writing(out):
        store.disk.put(out, content)
    return found


def restore(cluster: ClusterSpec, store: Store, source: Path, keys: Keyring, now: datetime) -> str:
    """Put a backup in place; what was there is moved aside. Says what was done; empty: nothing to do."""
    found = unpack(keys.open(_read(source), str(source)), str(source))
    if found.cluster != cluster.name:
        raise UsageError(
            f"{source} is a backup of {found.cluster!r}, and the inventory is that of {cluster.name!r}; "
            "nothing was changed",
            "use its own inventory, or another backup",
        )
    if store.root.exists() and tree(store.root) == found.tree:
        return ""
    partial = store.root.with_name(f"{PARTIAL}restore-{cluster.name}")
    with _writing(store.root):
        write(found, partial, store.disk)
        try:
            _refuse_unfit(cluster, replace(store, root=partial), source)
            return _in_place(store, partial, now)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _read(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{source} cannot be read: {error.strerror}; nothing was changed",
            "name a file that `certs.backup` wrote",
        ) from error


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Failed(
            f"{error.filename or place}: writing failed: {error.strerror}; what was there is as it was",
            "mend the disk and run it again",
        ) from error


def _refuse_unfit(cluster: ClusterSpec, restored: Store, source: Path) -> None:
    """See that what was unpacked is a whole store, and of the nodes of this inventory."""
    try:
        held = restored.load()
    except UsageError as error:
        what = error.message.replace(str(restored.root), "it")
        raise UsageError(
            f"{source} holds a damaged store: {what}; nothing was changed", error.hint
        ) from error
    if held is None:
        raise UsageError(f"{source} holds no certificates; nothing was changed")
    refuse_other_nodes(held, cluster)


def _in_place(store: Store, partial: Path, now: datetime) -> str:
    """Swap by two renames; killed between them, the next run has nothing to move aside and goes on."""
    root = store.root
    if not root.exists():
        partial.rename(root)
        store.disk.sync(root.parent)
        return f"{root} restored"
    aside = root.with_name(f"{root.name}.moved-aside.{now:%Y%m%dT%H%M%S}")
    with exclusive(root / ".lock"):
        store.disk.before(f"rename {root} {aside}")
        root.rename(aside)
        store.disk.before(f"rename {partial} {root}")
        partial.rename(root)
        store.disk.sync(root.parent)
    return f"{root} restored; what was there is in {aside.name}"
