"""Keep the certificates of one cluster beside the inventory.

    ca/0001/           ca.crt ca.key, and peer-ca.crt peer-ca.key if peers have their own
    generations/0003/  generation.json ca.crt peer-ca.crt, and a directory for each node
                       with server, peer and etcdctl, .crt and .key;
                       ca.crl, peer-ca.crl once something is revoked
    formed/TOKEN/      cluster.json: the cluster of this token was seen serving
    issued/0001/       a certificate of an application: issued.json NAME.crt, and NAME.key if it was made here
    current            → generations/0003
    .lock

What has a number or a token never changes once it is there. All that can change (leaves,
trust, token, which CA signs) changes at once, when `current` is pointed elsewhere: a reader
needs no lock, and a crash leaves the old state or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from ..desired.model import ClusterSpec
from ..errors import Failed, Refused, UsageError
from . import issued, reading
from .authority import Authority
from .disk import PARTIAL, Disk, exclusive
from .generation import EXPIRED, Authorities, Due, Formed, Generation, begin, renewed

KEPT = 4
"""Generations on disk: the current one and three to go back to.

A destroy, the deploy after it and the destroy of that one are three: the first can still be undone.
"""

BACK = "all certificates (back to generation"
"""How the line begins that says what `former` took."""


@dataclass(frozen=True)
class Store:
    """The certificates of one cluster under `root`; only `save` writes."""

    root: Path
    disk: Disk = field(default_factory=Disk)

    @classmethod
    def beside(cls, cluster: ClusterSpec) -> Store:
        """The store that belongs to this inventory: `certs/<cluster>/` next to the file."""
        return cls(cluster.source.parent / "certs" / cluster.name)

    def load(self) -> Generation | None:
        """Read what is there; None if there is nothing. UsageError names a damaged file."""
        return reading.load(self.root)

    def prepare(self, cluster: ClusterSpec, now: datetime, due: Due = EXPIRED) -> Generation:
        """Work out the next state in memory: what is fine stays, what is missing or due is issued.

        CAs are made for an empty store only. All addresses must be known by now
        (`ClusterSpec.with_addresses`).
        """
        held = self.load()
        if held is None:
            held = replace(begin(cluster, now), seen=reading.seen(self.root))
        return renewed(held, cluster, now, due)

    def former(self) -> Generation:
        """Take the state before the current one for the next; Refused if there is none of this cluster."""
        held, found = self.load(), reading.former(self.root)
        if held is None or found is None:
            raise Refused(
                f"{self.root / 'generations'} holds nothing before the current state",
                "there is nothing to go back to; `rotate-certs --force` issues anew",
            )
        name, former = found
        if former.token != held.token:
            raise Refused(
                f"generation {name} is of a cluster that was destroyed since: its token is another",
                "there is nothing to go back to",
            )
        revoked = held.revocations.serials & {leaf.serial for leaf in former.leaves.values()}
        if revoked:
            raise Refused(
                f"generation {name} has certificates that were revoked since: {', '.join(sorted(revoked))}",
                "there is nothing to go back to; `rotate-certs --force` issues anew",
            )
        # Members refuse everybody without the list they were started with.
        return replace(former, revocations=held.revocations, issued=(f"{BACK} {name})",))

    def save(self, generation: Generation) -> None:
        """Make this state the current one, durably; nothing to do if it holds nothing new.

        Refused if the store was changed since `prepare` read it.
        """
        with self._writing():
            if generation.issued:
                self._save(generation)
            elif not (self.root / "current").is_symlink():
                self._restore_link()

    def remember(self, token: str, formed: Formed) -> None:
        """Note, once and durably, that the cluster of this token was seen serving."""
        place = reading.formed_at(self.root, token)
        content = {"cluster_id": f"{formed.cluster_id:x}", "seen": formed.seen.isoformat()}
        with self._writing(), exclusive(self.root / ".lock"):
            if not place.exists():
                self.disk.directory(place.parent)
                self.disk.tree(place, {reading.FORMED: json.dumps(content, indent=1).encode() + b"\n"})

    def enrol(self, files: Mapping[str, bytes]) -> str:
        """Add a certificate to the register, durably; return its number. See `issued.entry_files`."""
        with self._writing(), exclusive(self.root / ".lock"):
            self._sweep()
            return self._add(issued.FOLDER, dict(files))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Failed(
                f"{error.filename or self.root}: writing the certificates failed: {error.strerror}",
                "the former certificates are still in force; mend the disk and run again",
            ) from error

    def _save(self, generation: Generation) -> None:
        files = _files(generation)
        self.disk.directory(self.root)
        with exclusive(self.root / ".lock"):
            if reading.seen(self.root) != generation.seen:
                raise Refused(
                    f"{self.root} was changed by another run in the meantime",
                    "run again: it starts from the certificates that are there now",
                )
            self._sweep()
            meta: dict[str, object] = {
                "format": reading.FORMAT,
                "token": generation.token,
                "signs": self._authorities(generation.authorities),
            }
            if generation.rotation:
                other = self._authorities(generation.rotation.other)
                meta |= {"rotation": {"state": generation.rotation.state, "other": other}}
            if generation.revocations.entries:
                meta["revoked"] = generation.revocations.document()
            files[reading.META] = json.dumps(meta, indent=1).encode() + b"\n"
            name = self._add("generations", files)
            self._point(name)
            self._prune()

    def _authorities(self, authorities: Authorities) -> str:
        """Write the CAs unless they are on the disk; return the name of their directory."""
        if authorities.place:
            return authorities.place
        files = _authority_files("ca", authorities.client)
        if authorities.own_peer:
            files |= _authority_files("peer-ca", authorities.own_peer)
        return self._add("ca", files)

    def _add(self, folder: str, files: dict[str, bytes]) -> str:
        """Write `files` as the next numbered directory; return its name."""
        self.disk.directory(self.root / folder)
        name = f"{int((reading.numbered(self.root / folder) or ('0',))[-1]) + 1:04d}"
        self.disk.tree(self.root / folder / name, files)
        return name

    def _point(self, name: str) -> None:
        self.disk.link(self.root / "current", f"generations/{name}")

    def _restore_link(self) -> None:
        with exclusive(self.root / ".lock"):
            found = reading.current(self.root)
            if found:
                self._point(found.name)

    def _prune(self) -> None:
        for name in reading.numbered(self.root / "generations")[:-KEPT]:
            self.disk.remove(self.root / "generations" / name)

    def _sweep(self) -> None:
        """Remove what an interrupted run left half done."""
        for folder in (self.root / name for name in ("ca", "generations", "formed", issued.FOLDER)):
            for leftover in folder.glob(f"{PARTIAL}*"):
                self.disk.remove(leftover)


def _authority_files(stem: str, authority: Authority) -> dict[str, bytes]:
    if authority.key is None:
        raise ValueError(f"a new CA without its key: {authority.common_name}")
    return {f"{stem}.crt": authority.certificate, f"{stem}.key": authority.key.reveal}


def _files(generation: Generation) -> dict[str, bytes]:
    files = {"ca.crt": generation.ca_bundle, "peer-ca.crt": generation.peer_ca_bundle}
    files |= generation.revocations.files
    for (node, kind), credential in generation.credentials.items():
        _refuse_path(node)
        files[f"{node}/{kind.stem}.crt"] = credential.certificate_pem
        files[f"{node}/{kind.stem}.key"] = credential.key_pem.reveal
    return files


def _refuse_path(node: str) -> None:
    if "/" in node or node.startswith(".") or node in reading.RESERVED:
        raise UsageError(f"{node!r} cannot be the name of a directory of certificates", "rename the node")
