"""The register: every certificate that was issued to an application.

    issued/0001/       issued.json NAME.crt, and NAME.key if the key was made here

An entry is written once and never changed; whether it is revoked stands in the generation.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..errors import UsageError
from ..secret import Secret
from . import chain, reading
from .applications import KINDS, NAME
from .authority import Authority, Credential
from .inspect import Leaf, read_leaf

FORMAT = 1
FOLDER = "issued"
META = "issued.json"

_RESTORE = "put the file back from a backup of this directory"


@dataclass(frozen=True)
class Used:
    """What an application uses, as far as we know."""

    name: str
    leaf: Leaf
    kind: str = ""
    requested: bool = False
    """Whether it was made from a request: the key is its owner's."""
    days: int = 0
    """What was asked for; 0: what the inventory said, or not known."""

    @property
    def anew(self) -> str:
        """The line that makes another one of the same sort."""
        words = ["certs.issue", "--name", self.name, *(("--kind", self.kind) if self.kind else ())]
        if self.leaf.usages and self.leaf.usages != ("client",):
            words += ["--usage", ",".join(self.leaf.usages)]
        if names := sorted(name for name in self.leaf.names if not name.startswith("urn:")):
            words += ["--names", ",".join(names)]
        words += ["--days", str(self.days)] if self.days else []
        return shlex.join([*words, *(("--csr", "FILE") if self.requested else ())])


@dataclass(frozen=True)
class Issued:
    """One certificate that an application holds."""

    number: str
    """The directory under `issued/`; empty until it is entered."""
    name: str
    kind: str
    authority: str
    """The directory under `ca/` that signed it."""
    certificate_pem: bytes
    key_pem: Secret | None
    """None: the key never left its owner."""
    leaf: Leaf
    days: int = 0
    """What was asked for; 0: what the inventory said, or not known."""

    @property
    def used(self) -> Used:
        """The same without what only the store needs."""
        return Used(self.name, self.leaf, self.kind, self.key_pem is None, self.days)

    @property
    def credential(self) -> Credential | None:
        """What one dials with; None without the key."""
        return None if self.key_pem is None else Credential(self.certificate_pem, self.key_pem)

    def valid(self, now: datetime) -> bool:
        """Whether it has not expired."""
        return now < self.leaf.not_after


def issued(root: Path) -> tuple[Issued, ...]:
    """Read the register of a store, oldest first; UsageError names what is damaged."""
    try:
        return tuple(_entry(root / FOLDER / number) for number in reading.numbered(root / FOLDER))
    except OSError as error:
        raise UsageError(
            f"{error.filename or root} cannot be read: {error.strerror}",
            "put it back from a backup, or give it to yourself with chown",
        ) from error


def entry_files(one: Issued) -> Mapping[str, bytes]:
    """The files of an entry, by name."""
    leaf = one.leaf
    about = {
        "format": FORMAT,
        "name": one.name,
        "kind": one.kind,
        "usages": list(leaf.usages),
        "serial": leaf.serial,
        "fingerprint": leaf.fingerprint,
        "issuer": leaf.issuer,
        "authority": one.authority,
        "days": one.days,
        "not_before": leaf.not_before.isoformat(),
        "not_after": leaf.not_after.isoformat(),
    }
    files = {META: json.dumps(about, indent=1).encode() + b"\n", f"{one.name}.crt": one.certificate_pem}
    return files if one.key_pem is None else files | {f"{one.name}.key": one.key_pem.reveal}


def accounted(root: Path, revoked: Collection[str], now: datetime) -> tuple[Used, ...]:
    """By name, what applications use as far as we know: the newest of each that was not revoked.

    And what was, until it ends.
    """
    register = issued(root)
    newest = {one.name: one.used for one in register if one.leaf.serial not in revoked}
    gone = [one.used for one in register if one.leaf.serial in revoked and one.valid(now)]
    return tuple(sorted([*newest.values(), *gone], key=lambda one: one.name))


def applications_of(root: Path, old: Iterable[Authority], now: datetime | None = None) -> list[str]:
    """Name what these CAs signed and members still accept, with its end: refused once nobody trusts them.

    Of each name the newest alone: what was issued anew took the place of what was there.
    """
    held, clock, authorities = reading.load(root, _unopened), now or datetime.now(UTC), tuple(old)
    revoked = held.revocations.serials if held else frozenset()
    good = [one for one in issued(root) if one.valid(clock) and one.leaf.serial not in revoked]
    newest = {one.name: one for one in good}
    return [
        f"{name} (serial {one.leaf.serial}, until {one.leaf.not_after:%Y-%m-%d})"
        for name, one in sorted(newest.items())
        if any(ca.signed(one.leaf.certificate, one.leaf.carried) for ca in authorities)
    ]


def _unopened(content: bytes, place: str) -> Secret:
    raise ValueError(f"{place}: nothing is signed here, so no key is opened")


def named(found: Iterable[Issued], name: str) -> tuple[Issued, ...]:
    """All certificates that were issued under a name, oldest first."""
    return tuple(one for one in found if one.name == name)


def usable(
    found: Iterable[Issued], name: str, revoked: Collection[str], bundle: bytes, now: datetime
) -> Issued | None:
    """The newest client certificate of a name that members accept: not ended, not revoked, of a trusted CA."""
    good = [
        one
        for one in named(found, name)
        if one.valid(now)
        and one.leaf.serial not in revoked
        and "client" in one.leaf.usages
        and _trusted(one, bundle)
    ]
    return good[-1] if good else None


def _trusted(one: Issued, bundle: bytes) -> bool:
    roots = chain.load(bundle)
    return chain.upwards(one.leaf.certificate, (*one.leaf.carried, *roots))[-1] in roots


def _entry(folder: Path) -> Issued:
    meta = folder / META
    try:
        about = json.loads(meta.read_bytes())
        name, kind, authority = str(about["name"]), str(about["kind"]), str(about["authority"])
        version, serial, days = about["format"], str(about["serial"]), int(about.get("days", 0))
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name")
    except FileNotFoundError as error:
        raise UsageError(f"{meta} is missing: a store copied in part?", _RESTORE) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{meta} is damaged: {error!r}", _RESTORE) from error
    if version != FORMAT or kind not in KINDS:
        raise UsageError(
            f"{meta} has format {version} and kind {kind!r}, which this release does not know",
            "use the release of etcdctl-remote that wrote it, or a newer one",
        )
    path, key = folder / f"{name}.crt", _key(folder / f"{name}.key")
    try:
        pem = path.read_bytes()
        leaf = read_leaf(pem, key)
    except FileNotFoundError as error:
        raise UsageError(f"{path} is missing: a store copied in part?", _RESTORE) from error
    except ValueError as error:
        raise UsageError(f"{path} or its key cannot be read: {error}", _RESTORE) from error
    if leaf.serial != serial or leaf.key_matches is False:
        raise UsageError(f"{path}, {META} and the key do not belong together", _RESTORE)
    return Issued(folder.name, name, kind, authority, pem, key, leaf, days)


def _key(path: Path) -> Secret | None:
    """Read a key that only its owner may; None where it never was here."""
    try:
        mode = path.stat().st_mode & 0o777
    except FileNotFoundError:
        return None
    if mode & 0o077:
        store = shlex.quote(str(path.parents[2]))
        raise UsageError(f"{path} is open to other users (mode {mode:04o})", f"chmod -R go= {store}")
    return Secret(path.read_bytes())
