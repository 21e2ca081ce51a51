"""Issue a certificate for an application: a program that uses the cluster.

It is signed here by the CA for clients, so no host is asked. Every one is kept in the register of
the store, with its key if that was made here: who holds what is known when a CA is replaced
or a certificate has to be revoked. Dangers, and what is done about them:

- etcd takes the common name of a client for its user once `auth enable` was given: `root` is told.
- A request says much about itself; only its key is taken (see `pki.requests`).
- A file that is not ours is never written over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from ..desired.model import ClusterSpec
from ..errors import Refused, UsageError
from ..pki import issued, reading, requests
from ..pki.applications import Application, Asked, application
from ..pki.authority import Authority, Credential
from ..pki.bundle import Bundle, bundle
from ..pki.csr import Request
from ..pki.generation import Generation, refuse_other_nodes
from ..pki.inspect import read_leaf
from ..pki.issued import Issued
from ..pki.keyring import Ask, Keyring
from ..pki.store import Store


@dataclass(frozen=True)
class Handed:
    """What was issued or given out, and what the operator should know."""

    certificate: Issued
    kept: Path
    """Where the store has it."""
    bundle: Bundle | None
    """None: no file was asked for."""
    notes: tuple[str, ...] = ()


def issue(
    cluster: ClusterSpec, asked: Asked, now: datetime, *, out: str = "", csr: str = "", ask: Ask | None = None
) -> Handed:
    """Check everything, sign, enter it in the register, and write the files that were asked for.

    `ask` asks for the passphrase of a CA key that is sealed by one.
    """
    wanted = application(cluster, asked)
    key = requests.requested_key(_read(csr), csr, wanted.profile.usages) if csr else None
    held = held_by(cluster, ask)
    signer = held.authorities.client
    if key is None:
        one = _entry(wanted, signer, _signed(cluster, wanted, signer, now))
    else:
        one = _entry(wanted, signer, signer.certify(wanted.profile, key, now))
    given = given_out(cluster, held, one, out) if out else None
    number = Store.beside(cluster).enrol(issued.entry_files(one))
    if one.credential:
        Store.beside(cluster).tidy(cluster, [one.credential])
    if given:
        given.write()
    kept = Store.beside(cluster).root / issued.FOLDER / number
    return Handed(replace(one, number=number), kept, given, _notes(wanted, one, signer, now))


def _signed(cluster: ClusterSpec, wanted: Application, signer: Authority, now: datetime) -> Credential:
    """Sign here, or have it signed where the CA's key is."""
    if not signer.outside:
        return signer.issue(wanted.profile, now)
    request = Request(wanted.name, "application", wanted.profile, signer)
    return Store.beside(cluster).requested(cluster, [request], now)[request.label]


def held_by(cluster: ClusterSpec, ask: Ask | None = None) -> Generation:
    """Read the certificates beside the inventory: a CA is never made by the way."""
    held = Store.beside(cluster, Keyring(cluster.pki.ca_key, ask)).load()
    if held is None:
        raise Refused(
            f"there is no CA of {cluster.name} beside {cluster.source}; nothing was changed",
            f"`certs.init` makes one, or `deploy`; one that exists belongs into {Store.beside(cluster).root}",
        )
    refuse_other_nodes(held, cluster)
    return held


def given_out(cluster: ClusterSpec, held: Generation, one: Issued, out: str) -> Bundle:
    """Name the files for a folder of the operator's; Refused if others are in their places."""
    root = Store.beside(cluster).root
    authorities = [(root / "ca" / number / "ca.crt").read_bytes() for number in reading.numbered(root / "ca")]
    found = bundle(out, one, issued.issued(root), held, authorities)
    found.refuse_others()
    return found


def _entry(wanted: Application, signer: Authority, made: Credential | bytes) -> Issued:
    pem, key = (made, None) if isinstance(made, bytes) else (made.certificate_pem, made.key_pem)
    authority = Path(signer.key_file).parent.name
    return Issued("", wanted.name, wanted.kind, authority, pem, key, read_leaf(pem, key))


def _notes(wanted: Application, one: Issued, signer: Authority, now: datetime) -> tuple[str, ...]:
    said = []
    if wanted.profile.common_name == "root":
        said.append(
            "etcd takes the common name for the user once `auth enable` was given: who holds this key is root there"
        )
    if (
        one.leaf.not_after >= signer.not_after
        and now + timedelta(days=wanted.profile.days) > signer.not_after
    ):
        said.append(f"cut to {one.leaf.not_after:%Y-%m-%d}, the end of its CA")
    return tuple(said)


def _read(path: str) -> bytes:
    """Read a request; UsageError if it cannot be."""
    try:
        with Path(path).expanduser().open("rb") as file:
            return file.read(requests.LIMIT + 1)
    except OSError as error:
        raise UsageError(
            f"--csr {path}: {error.strerror}", "name a file with a request for a certificate"
        ) from error
