"""Read a store from disk, and say exactly which file is wrong when it is damaged.

Nothing is written or repaired here. A store that was copied without its `current` link, or
cut off before the link was first made, is read all the same if there is no doubt about it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ..errors import UsageError
from ..secret import Secret
from . import chain, crl
from .authority import Authority, Credential, plain_name
from .generation import Authorities, Formed, Generation, Rotation, Slot, State, adopt
from .inspect import Leaf, is_ca, key_matches, read_leaf
from .profiles import Kind
from .sealed import Opener, Sealed

FORMAT = 1
META = "generation.json"
FORMED = "cluster.json"
RESERVED = frozenset({META, "ca.crt", "peer-ca.crt", *crl.FILES.values()})
"""What lies in a generation beside the nodes' directories."""

_RESTORE = "put the file back from a backup of this directory"

OUTSIDE = "external"
"""The suffix of a file that says: the key of this CA is elsewhere."""
SEALED = "key.age"
"""The suffix of a key that is encrypted."""


def load(root: Path, opener: Opener) -> Generation | None:
    """Read the current state; None if the store is empty. UsageError names what is damaged.

    Keys that are sealed stay so; `opener` opens them once something has to be signed.
    """
    try:
        return _load(root, opener)
    except OSError as error:
        raise UsageError(
            f"{error.filename or root} cannot be read: {error.strerror}",
            "run as the owner of the certificates, or give them to yourself with chown",
        ) from error


def _load(root: Path, opener: Opener) -> Generation | None:
    directory, sets = current(root), numbered(root / "ca")
    if directory is None and not sets:
        return None
    held = (
        adopt(authorities(root / "ca" / _only(sets, root / "ca"), opener))
        if directory is None
        else _generation(root, directory, opener)
    )
    return replace(held, seen=seen(root))


def former(root: Path, opener: Opener) -> tuple[str, Generation] | None:
    """Read the newest older generation with other certificates than the one in force, and its name."""
    directory = current(root)
    if directory is None:
        return None
    held = _generation(root, directory, opener)
    for name in reversed(numbered(root / "generations")):
        if int(name) < int(directory.name):
            found = _generation(root, root / "generations" / name, opener)
            if _content(found) != _content(held):
                return name, replace(found, seen=seen(root))
    return None


def _content(generation: Generation) -> tuple[object, ...]:
    return generation.token, generation.ca_bundle, generation.peer_ca_bundle, generation.credentials


def seen(root: Path) -> tuple[str, ...]:
    """Name all that a change could collide with: the CA sets and the current generation."""
    directory = current(root)
    return (*numbered(root / "ca"), directory.name if directory else "-")


def current(root: Path) -> Path | None:
    """Find the generation in force; None if there is none yet."""
    link, found = root / "current", numbered(root / "generations")
    if link.is_symlink():
        target = root / link.readlink()
        if target.parent.name != "generations" or target.name not in found:
            raise UsageError(
                f"{link} points to {link.readlink()}, which is not there",
                f"point it to one of generations/: {', '.join(found) or 'none is left'}",
            )
        return root / "generations" / target.name
    if not found:
        return None
    return root / "generations" / _only(found, link)


def numbered(folder: Path) -> tuple[str, ...]:
    """List the numbered directories in `folder`, oldest first; nothing if there is no folder."""
    try:
        names = [entry.name for entry in folder.iterdir() if entry.name.isdecimal()]
    except FileNotFoundError:
        return ()
    return tuple(sorted(names, key=int))


def _only(names: tuple[str, ...], place: Path) -> str:
    if len(names) == 1:
        return names[0]
    raise UsageError(
        f"{place.parent}: the link `current` is missing, and several states are there: {', '.join(names)}",
        f"restore it: ln -s generations/NUMBER {place.parent / 'current'}",
    )


@dataclass(frozen=True)
class Meta:
    """The content of `generation.json`."""

    token: str
    signs: str
    """The directory under `ca/` that signs new leaves."""
    rotation: tuple[State, str] | None = None
    """How far a replacement of the CAs has come, and the directory of the other ones."""
    revoked: object = ()


def _meta(path: Path) -> Meta:
    try:
        data = json.loads(_need(path))
        version, token, signs = data["format"], data["token"], data["signs"]
        found = data.get("rotation")
        rotation = (State(found["state"]), str(found["other"])) if found else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is damaged: {error!r}", _RESTORE) from error
    if version != FORMAT:
        raise UsageError(
            f"{path} has format {version}; this release knows {FORMAT}",
            "use the release of etcdctl-remote that wrote it, or a newer one",
        )
    return Meta(str(token), str(signs), rotation, data.get("revoked", []))


def _generation(root: Path, directory: Path, opener: Opener) -> Generation:
    meta = _meta(directory / META)
    signs = authorities(root / "ca" / meta.signs, opener)
    rotation = None
    if meta.rotation:
        state, other = meta.rotation
        rotation = Rotation(state, authorities(root / "ca" / other, opener))
    held = dict(_held(directory))
    return Generation(
        token=meta.token,
        authorities=signs,
        ca_bundle=_bundle(directory / "ca.crt", signs.client),
        peer_ca_bundle=_bundle(directory / "peer-ca.crt", signs.peer),
        credentials={slot: credential for slot, (credential, _) in held.items()},
        leaves={slot: leaf for slot, (_, leaf) in held.items()},
        rotation=rotation,
        formed=_formed(formed_at(root, meta.token) / FORMED),
        revocations=crl.read(directory, meta.revoked),
    )


def formed_at(root: Path, token: str) -> Path:
    """Name the directory that is there once the cluster of this token was seen serving."""
    return root / "formed" / token


def _formed(path: Path) -> Formed | None:
    content = _read(path)
    if content is None:
        return None
    try:
        data = json.loads(content)
        return Formed(int(data["cluster_id"], 16), datetime.fromisoformat(data["seen"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged: {error!r}", _RESTORE) from error


def _bundle(path: Path, signer: Authority) -> bytes:
    bundle = _need(path)
    if missing := [root for root in chain.roots(signer.chain) if chain.pem([root]).strip() not in bundle]:
        raise UsageError(f"{path} lacks the CA that signs: {plain_name(missing[0].subject)}", _RESTORE)
    return bundle


def authorities(directory: Path, opener: Opener) -> Authorities:
    """Read the CAs of one directory under `ca/`."""
    client = _authority(directory / "ca.crt", opener)
    peer = None
    if any(directory.glob("peer-ca.*")):
        peer = _authority(directory / "peer-ca.crt", opener)
    return Authorities(client, peer, directory.name)


def _authority(path: Path, opener: Opener) -> Authority:
    key, key_file = ca_key(path, opener)
    outside = path.with_suffix(f".{OUTSIDE}").exists()
    authority = Authority(_need(path), key, str(key_file), outside)
    try:
        fit = is_ca(authority.parsed)
        matches = not isinstance(key, Secret) or key_matches(authority.parsed, key)
    except ValueError as error:
        raise UsageError(f"{path} or its key cannot be read: {error}", _RESTORE) from error
    if not fit:
        raise UsageError(f"{path} is not the certificate of a CA", _RESTORE)
    if not authority.trust:
        raise UsageError(f"{path} does not hold the root of its CA: the chain belongs in it", _RESTORE)
    if not matches:
        raise UsageError(f"{key_file} is not the key of {path.name}", _RESTORE)
    return authority


def ca_key(path: Path, opener: Opener) -> tuple[Secret | Sealed | None, Path]:
    """Read a CA's key as it lies there, and where. Of two, left by a killed `certs.init`, the plain one."""
    store, plain, sealed = path.parents[2], path.with_suffix(".key"), path.with_suffix(f".{SEALED}")
    if (key := _read_key(plain, store)) is not None:
        return key, plain
    content = _read_key(sealed, store)
    return (None, plain) if content is None else (Sealed(content.reveal, str(sealed), opener), sealed)


def _held(directory: Path) -> Iterator[tuple[Slot, tuple[Credential, Leaf]]]:
    for folder in sorted(directory.iterdir()):
        if folder.name in RESERVED or folder.name.startswith("."):
            continue
        for kind in Kind:
            pair = _pair(folder / f"{kind.stem}.crt")
            if pair:
                yield (folder.name, kind), pair


def _pair(path: Path) -> tuple[Credential, Leaf] | None:
    """Read a leaf and its key; None if both are missing, which is what a new leaf mends."""
    key_file = path.with_suffix(".key")
    pem, key = _read(path), _read_key(key_file, store=path.parents[3])
    if pem is None and key is None:
        return None
    missing, other = (path, key_file) if pem is None else (key_file, path)
    if pem is None or key is None:
        raise UsageError(
            f"{missing} is missing, though {other.name} is there: a store copied in part?",
            f"copy it again, or remove {other.name}: the next deploy issues both anew",
        )
    try:
        return Credential(pem, key), read_leaf(pem, key)
    except ValueError as error:
        raise UsageError(
            f"{path} or its key cannot be read: {error}",
            "put it back from a backup, or remove both: the next deploy issues them anew",
        ) from error


def _need(path: Path) -> bytes:
    content = _read(path)
    if content is None:
        raise UsageError(f"{path} is missing: a store copied in part?", _RESTORE)
    return content


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _read_key(path: Path, store: Path) -> Secret | None:
    """Read a key that only its owner may; what was copied with other modes is mended at once in all the store."""
    content = _read(path)
    if content is None:
        return None
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise UsageError(
            f"{path} is open to other users (mode {mode:04o})", f"chmod -R go= {shlex.quote(str(store))}"
        )
    return Secret(content)
