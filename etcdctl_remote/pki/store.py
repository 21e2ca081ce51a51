"""Keep the certificates of one cluster beside the inventory.

    ca/0001/           ca.crt ca.key, and peer-ca.crt peer-ca.key if peers have their own;
                       ca.key.age instead where keys are sealed, ca.external where they are elsewhere
    generations/0003/  generation.json ca.crt peer-ca.crt, and a directory for each node
                       with server, peer and etcdctl, .crt and .key;
                       ca.crl, peer-ca.crl once something is revoked
    pending/           keys of requests that somebody else signs, until he has
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
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from ..desired.model import ClusterSpec
from ..errors import Failed, Refused, UsageError
from ..secret import Secret
from . import external, issued, reading
from .authority import Authority, Credential
from .csr import Request
from .disk import PARTIAL, Disk, exclusive
from .generation import (
    EXPIRED,
    Authorities,
    Due,
    Formed,
    Generation,
    begin,
    completed,
    refuse_other_signer,
    renewed,
)
from .keyring import Keyring, by_passphrase
from .sealed import Sealed

_ELSEWHERE = b"The key of this CA is not on this computer: see pki.external in the inventory.\n"

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
    keys: Keyring = field(default_factory=Keyring)
    """What opens and seals the keys of CAs."""

    @classmethod
    def beside(cls, cluster: ClusterSpec, keys: Keyring | None = None) -> Store:
        """The store that belongs to this inventory: `certs/<cluster>/` next to the file."""
        place = cluster.source.parent / "certs" / cluster.name
        return cls(place, keys=keys or Keyring(cluster.pki.ca_key))

    def load(self) -> Generation | None:
        """Read what is there; None if there is nothing. UsageError names a damaged file."""
        return reading.load(self.root, self.keys.open)

    def prepare(
        self, cluster: ClusterSpec, now: datetime, due: Due = EXPIRED, *, replacing: bool = False
    ) -> Generation:
        """Work out the next state in memory: what is fine stays, what is missing or due is issued.

        CAs are made for an empty store only. All addresses must be known by now
        (`ClusterSpec.with_addresses`). Other CAs than the inventory's are refused, but to who is
        `replacing` them.
        """
        held = self.load()
        if held is None:
            held = replace(begin(cluster, now), seen=reading.seen(self.root))
        if not replacing:
            refuse_other_signer(held, cluster)
        return renewed(held, cluster, now, due)

    def former(self) -> Generation:
        """Take the state before the current one for the next; Refused if there is none of this cluster."""
        held, found = self.load(), reading.former(self.root, self.keys.open)
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

    def signed(self, generation: Generation, cluster: ClusterSpec, now: datetime) -> Generation:
        """Have really signed what only was stood in for: by keys that are opened now, or elsewhere.

        The same generation if nothing was. Refused while requests wait in a folder.
        """
        theirs = {slot: request for slot, request in generation.pending.items() if request.authority.outside}
        ours = {slot: request for slot, request in generation.pending.items() if slot not in theirs}
        done = {slot: request.authority.issue(request.profile, now) for slot, request in ours.items()}
        if theirs:
            answers = self.requested(cluster, list(theirs.values()), now)
            done |= {slot: answers[request.label] for slot, request in theirs.items()}
        return completed(generation, done) if done else generation

    def requested(
        self,
        cluster: ClusterSpec,
        requests: Sequence[Request],
        now: datetime,
        used: Collection[str] = frozenset(),
    ) -> Mapping[str, Credential]:
        """Have requests signed as `pki.external` says; what was signed, by label.

        `used` are fingerprints of certificates that are to be renewed, besides the nodes'.
        """
        spec = cluster.pki.external
        if spec is None:
            raise Refused(
                f"the CA {requests[0].authority.common_name!r} signs elsewhere, and the inventory no longer "
                "says where (`pki.external`)",
                "put `pki.external` back until the CA is replaced",
            )
        if spec.command:
            return external.by_command(spec, requests, cluster.source.absolute().parent, now)
        held = self.load()
        nodes = {leaf.fingerprint for leaf in held.leaves.values()} if held else set()
        return self._folder(cluster).sign(requests, {*nodes, *used}, now)

    def tidy(self, cluster: ClusterSpec, signed: Collection[Credential]) -> None:
        """Remove requests that were answered: what was signed is saved by now."""
        if cluster.pki.external and cluster.pki.external.folder:
            self._folder(cluster).tidy(signed)

    def _folder(self, cluster: ClusterSpec) -> external.Folder:
        spec = cluster.pki.external
        if spec is None or spec.folder is None:
            raise ValueError("the inventory names no folder for requests")
        return external.Folder(spec.folder, self.root, self.disk)

    def save(self, generation: Generation) -> None:
        """Make this state the current one, durably; nothing to do if it holds nothing new.

        Refused if the store was changed since `prepare` read it.
        """
        if generation.pending:
            raise ValueError(f"never signed: {', '.join(map(str, generation.pending))}")
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
        files = self._authority_files("ca", authorities.client)
        if authorities.own_peer:
            files |= self._authority_files("peer-ca", authorities.own_peer)
        return self._add("ca", files)

    def _authority_files(self, stem: str, authority: Authority) -> dict[str, bytes]:
        files, key = {f"{stem}.crt": authority.certificate}, authority.key
        if authority.outside:
            return files | {f"{stem}.{reading.OUTSIDE}": _ELSEWHERE}
        if key is None:
            raise ValueError(f"a new CA without its key: {authority.common_name}")
        if isinstance(key, Sealed):
            return files | {f"{stem}.{reading.SEALED}": key.content}
        if self.keys.spec.protect == "none":
            return files | {f"{stem}.key": key.reveal}
        return files | {f"{stem}.{reading.SEALED}": self.seal(key)}

    def seal(self, key: Secret) -> bytes:
        """Encrypt the key of a CA as the inventory says. All keys of a store have one passphrase."""
        if self.keys.spec.protect == "passphrase" and self.keys.passphrase.known is None:
            for path in sorted(self.root.glob(f"ca/*/*.{reading.SEALED}")):
                if by_passphrase(content := path.read_bytes()):
                    self.keys.open(content, str(path))
                    break
        return self.keys.seal(key, f"for the CA keys of {self.root.name}")

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
