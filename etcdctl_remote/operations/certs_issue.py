"""Issue a certificate for an application: a program that uses the cluster.

It is signed by the CA for clients, here or where its key is, so no host is asked. Every one is kept
in the register of the store, with its key if that was made here: who holds what is known when a CA
is replaced or a certificate has to be revoked. Dangers, and what is done about them:

- etcd takes the common name of a client for its user once `auth enable` was given: `root` is told.
- A request says much about itself; only its key is taken (see `pki.requests`).
- A file that is not ours is never written over; that is seen before anything is signed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from ..desired.model import ClusterSpec
from ..errors import Refused, UsageError
from ..pki import issued, reading, requests, rotation
from ..pki.applications import Application, Asked, application
from ..pki.authority import Authority, Credential
from ..pki.bundle import Bundle, bundle
from ..pki.csr import Request
from ..pki.generation import Generation, State, refuse_other_nodes, refuse_other_signer
from ..pki.inspect import read_leaf
from ..pki.issued import Issued
from ..pki.keyring import Keyring
from ..pki.standin import StandIns
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
    cluster: ClusterSpec,
    asked: Asked,
    now: datetime,
    *,
    out: str = "",
    csr: str = "",
    keys: Keyring | None = None,
) -> Handed:
    """Check everything, have it signed, enter it in the register, and write the files that were asked for."""
    wanted = application(cluster, asked)
    key = requests.requested_key(_read(csr), csr, wanted.profile.usages) if csr else None
    held, store = held_by(cluster, keys), Store.beside(cluster, keys)
    refuse_other_signer(held, cluster)
    signer = held.authorities.client
    if key and signer.outside:
        _refuse_elsewhere(wanted, signer, csr)
    if out and signer.waits:
        made = StandIns(now).issue(signer, wanted.profile)
        given_out(cluster, held, _entry(wanted, held, made.certificate_pem if key else made), out)
    signed = signer.certify(wanted.profile, key, now) if key else _signed(store, cluster, wanted, signer, now)
    one = _entry(wanted, held, signed)
    given = given_out(cluster, held, one, out) if out else None
    number = store.enrol(issued.entry_files(one))
    if one.credential:
        store.tidy(cluster, [one.credential])
    if given:
        given.write()
    kept = store.root / issued.FOLDER / number
    return Handed(replace(one, number=number), kept, given, _notes(wanted, one, held, now))


def _signed(
    store: Store, cluster: ClusterSpec, wanted: Application, signer: Authority, now: datetime
) -> Credential:
    """Sign with the CA's key, opened if it is sealed; or have it done where the key is."""
    if not signer.outside:
        return signer.issue(wanted.profile, now)
    request = Request(wanted.name, "application", wanted.profile, signer)
    used = {one.leaf.fingerprint for one in issued.issued(store.root)}
    return store.requested(cluster, [request], now, used)[request.label]


def _refuse_elsewhere(wanted: Application, signer: Authority, csr: str) -> None:
    """Refuse somebody's request where a CA elsewhere signs: it would decide what stands in the certificate."""
    raise Refused(
        f"{csr} cannot be signed here: the key of {signer.common_name!r} is elsewhere (`pki.external`); "
        "nothing was changed",
        f"its owner gives it to that CA, for CN {wanted.profile.common_name} and the usages "
        f"{', '.join(f'{usage}Auth' for usage in wanted.profile.usages)}; members accept what it signs. Or leave "
        "out --csr: then the key is made here, and the request goes to that CA",
    )


def held_by(cluster: ClusterSpec, keys: Keyring | None = None) -> Generation:
    """Read the certificates beside the inventory: a CA is never made by the way."""
    held = Store.beside(cluster, keys).load()
    if held is None:
        raise Refused(
            f"there is no CA of {cluster.name} beside {cluster.source}; nothing was changed",
            f"`certs.restore --from FILE` puts a backup in place, or copy it to {Store.beside(cluster).root}; "
            "for a new cluster `certs.init` makes one, or `deploy`",
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


def _entry(wanted: Application, held: Generation, made: Credential | bytes) -> Issued:
    pem, key = (made, None) if isinstance(made, bytes) else (made.certificate_pem, made.key_pem)
    leaf = read_leaf(pem, key)
    return Issued("", wanted.name, wanted.kind, held.authorities.place, pem, key, leaf, wanted.days)


def _notes(wanted: Application, one: Issued, held: Generation, now: datetime) -> tuple[str, ...]:
    said, signer = [], held.authorities.client
    if held.rotation and held.rotation.state is State.TRUST_BOTH and "client" in rotation.under_way(held):
        said.append(
            f"{signer.common_name!r} is being replaced and signs for now: once the last state of `rotate-certs --ca` "
            "is reached, members refuse this certificate; issue it anew after the second one"
        )
    if wanted.profile.common_name == "root":
        said.append(
            "etcd takes the common name for the user once `auth enable` was given: who holds this key is root there"
        )
    asked = now + timedelta(days=wanted.profile.days)
    if one.leaf.not_after >= signer.not_after and asked > signer.not_after:
        said.append(f"cut to {one.leaf.not_after:%Y-%m-%d}, the end of its CA")
    elif signer.outside and one.leaf.not_after < asked - timedelta(days=1):
        said.append(f"{one.leaf.issuer!r} gave it until {one.leaf.not_after:%Y-%m-%d} only")
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
