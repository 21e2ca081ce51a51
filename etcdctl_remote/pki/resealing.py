"""Keep CA keys otherwise than before: sealed, or in the clear.

The certificates stay, so a set of CAs stays the same set; of its key the new file is whole, durable
and was opened for proof before the old one goes. Killed between the two, both are there and the
next run goes on.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import Failed, UsageError
from . import chain, reading
from .authority import load_key
from .disk import exclusive
from .keyring import by_passphrase
from .sealed import Sealed
from .store import Store

PROTECTION = {
    "none": "in the clear",
    "passphrase": "sealed by a passphrase",
    "age": "sealed for age recipients",
}


def kept_otherwise(store: Store) -> tuple[str, ...]:
    """Say which keys of CAs lie otherwise than the inventory says, and what brings them to it."""
    wanted = store.keys.spec.protect
    named: dict[str, list[str]] = {}
    try:
        found = otherwise(store)
    except OSError as error:
        return (f"{error.filename or store.root} cannot be read: {error.strerror}",)
    for path in found:
        how = " and ".join(PROTECTION[kind] for kind in sorted(_kept(path)))
        named.setdefault(how, []).append(str(path.relative_to(store.root)))
    does = "opens it for good" if wanted == "none" else "seals it so"
    return tuple(
        f"the key of {', '.join(names)} lies {how}, though the inventory says `pki.ca_key.protect: {wanted}`: "
        f"`certs.init` {does}"
        for how, names in named.items()
    )


def otherwise(store: Store) -> tuple[Path, ...]:
    """Name the CA certificates whose keys lie otherwise than the inventory says."""
    folders = [store.root / "ca" / name for name in reading.numbered(store.root / "ca")]
    found = [path for folder in folders for path in sorted(folder.glob("*ca.crt"))]
    return tuple(path for path in found if _kept(path) not in ({store.keys.spec.protect}, set()))


def _kept(path: Path) -> set[str]:
    """Say how a key lies there: in one way, in none (elsewhere, lost), or in two (a killed run)."""
    plain, sealed = path.with_suffix(".key"), path.with_suffix(f".{reading.SEALED}")
    found = {"none"} if plain.exists() else set()
    if sealed.exists():
        found.add("passphrase" if by_passphrase(sealed.read_bytes()) else "age")
    return found


def reseal(store: Store, paths: tuple[Path, ...]) -> None:
    """Bring each key to how it should lie; Failed if the disk does not take it."""
    try:
        with exclusive(store.root / ".lock"):
            for path in paths:
                _one(store, path)
    except OSError as error:
        raise Failed(
            f"{error.filename or store.root}: writing the CA key failed: {error.strerror}",
            "every key that was there is still there; mend the disk and run again",
        ) from error


def _one(store: Store, path: Path) -> None:
    plain, sealed = path.with_suffix(".key"), path.with_suffix(f".{reading.SEALED}")
    key, _ = reading.ca_key(path, store.keys.open)
    opened = key.open() if isinstance(key, Sealed) else key
    if opened is None:
        return
    if load_key(opened).public_key() != chain.load(path.read_bytes())[0].public_key():
        raise UsageError(
            f"{plain} is not the key of {path}; nothing was changed", "put it back from a backup"
        )
    if store.keys.spec.protect == "none":
        store.disk.put(plain, opened.reveal)
        store.disk.forget(sealed)
    else:
        content = store.seal(opened)
        store.disk.put(sealed, content)
        if sealed.read_bytes() != content:
            raise Failed(f"{sealed} is not what was written; {plain.name} stays", "look at the disk")
        store.keys.prove(content, opened, str(sealed))
        store.disk.forget(plain)
