"""One state of all certificates of a cluster, and how the next one follows from it.

In memory only, so that a plan can show what would be issued without touching the disk.
"""

from __future__ import annotations

import enum
import secrets
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ..desired.model import ClusterSpec
from ..errors import Refused
from ..secret import Secret
from . import trust
from .authority import Authority, Credential
from .crl import Revocations
from .csr import Request
from .inspect import Leaf, read_leaf, why_renew
from .profiles import Kind, Profile, node_profiles, split_names
from .standin import StandIns

Slot = tuple[str, Kind]
"""A node's name, and which of its leaves."""


@dataclass(frozen=True)
class Authorities:
    """Who signs: one CA for clients and servers, and one for peers unless they share."""

    client: Authority
    own_peer: Authority | None
    place: str = field(default="", compare=False)
    """The directory under `ca/` that holds them; empty while they are on no disk."""

    @property
    def peer(self) -> Authority:
        """The CA that signs peer certificates."""
        return self.own_peer or self.client

    def signer(self, kind: Kind) -> Authority:
        """The CA that signs this kind of leaf."""
        return self.peer if kind is Kind.PEER else self.client


@dataclass(frozen=True)
class Due:
    """Which leaves to look at, and when one is due."""

    within: timedelta | None = timedelta(0)
    """Renew what ends within this time: nothing but the expired by default; None: of each the last
    third of its life."""
    kinds: tuple[Kind, ...] = tuple(Kind)
    only: Collection[str] | None = None
    """Names of nodes; None means all."""
    force: bool = False
    """Renew all that are looked at."""


EXPIRED = Due()
"""What every task renews that comes across it."""


class State(enum.StrEnum):
    """How far a replacement of CAs has come. The last one ends when it is proven, not when it is begun."""

    TRUST_BOTH = "trust-both"
    NEW_LEAVES = "new-leaves"
    TRUST_NEW = "trust-new"


@dataclass(frozen=True)
class Rotation:
    """CAs that are being replaced."""

    state: State
    other: Authorities
    """In `TRUST_BOTH` those that will sign, from then on those that did."""


@dataclass(frozen=True)
class Formed:
    """What is remembered of a cluster that was seen serving: never again is it a new one."""

    cluster_id: int
    seen: datetime
    """When it was first seen so from here."""

    def __str__(self) -> str:
        return f"cluster {self.cluster_id:x}, seen serving on {self.seen:%Y-%m-%d}"


@dataclass(frozen=True)
class Generation:
    """Every leaf with its key, whom the cluster trusts, who signs, and the cluster token."""

    token: str
    """etcd's `initial-cluster-token`: made once for a cluster."""
    authorities: Authorities
    ca_bundle: bytes
    """PEM of all CAs that servers and clients trust."""
    peer_ca_bundle: bytes
    """PEM of all CAs that peers trust."""
    credentials: Mapping[Slot, Credential]
    leaves: Mapping[Slot, Leaf]
    issued: tuple[str, ...] = ()
    """What is new against the disk, a line each with the reason; empty: nothing to save."""
    new_authorities: bool = False
    """Whether these CAs were made for an empty store: no member trusts them."""
    rotation: Rotation | None = None
    formed: Formed | None = None
    """The cluster of this token, if it was ever seen serving."""
    revocations: Revocations = field(default_factory=Revocations)
    seen: tuple[str, ...] = ()
    """What the store held when this was read; `save` refuses if it holds something else by then."""
    pending: Mapping[Slot, Request] = field(default_factory=dict)
    """Leaves that are stand-ins here: they are signed, by `Store.signed`, before anything is saved."""
    present: Mapping[Slot, Credential] = field(default_factory=dict)
    """What the stand-ins will replace: running members take no other until then."""
    stand_in_trust: bytes = b""
    """PEM of what those are signed by: for handshakes of a preflight."""

    def credential(self, node: str, kind: Kind) -> Credential:
        """A node's certificate and key; Refused if it was never issued."""
        try:
            return self.credentials[node, kind]
        except KeyError:
            raise Refused(
                f"there is no {kind.value} certificate for {node} yet", "run `deploy`, which issues it"
            ) from None

    def leaf(self, node: str, kind: Kind) -> Leaf:
        """The facts of a node's certificate; Refused if it was never issued."""
        self.credential(node, kind)
        return self.leaves[node, kind]

    def client(self, node: str) -> Credential:
        """What to dial the cluster with, on this node's behalf."""
        return self.credential(node, Kind.CLIENT)

    def node_files(self, node: str) -> dict[str, bytes | Secret]:
        """The content of the node's `pki/current/`, by file name. No CA key is among them."""
        files: dict[str, bytes | Secret] = {
            "ca.crt": self.ca_bundle,
            "peer-ca.crt": self.peer_ca_bundle,
            **self.revocations.files,
        }
        for kind in Kind:
            credential = self.credential(node, kind)
            files[f"{kind.stem}.crt"] = credential.certificate_pem
            files[f"{kind.stem}.key"] = credential.key_pem
        return files

    def with_new_token(self) -> Generation:
        """The same CAs with another token and no leaf: for a cluster that starts over after `destroy`.

        etcd makes the cluster's id from peer URLs and token; with the old one, a
        member left over from before would be taken for one of the new cluster. The
        leaves say which nodes the store belongs to: the next cluster may have others.
        """
        issued = (*self.issued, "cluster token (new)")
        return replace(self, token=_token(), formed=None, credentials={}, leaves={}, issued=issued)


def begin(cluster: ClusterSpec, now: datetime) -> Generation:
    """Start from nothing: the CAs and a token, and no leaf yet."""
    made = new_authorities(cluster, now)
    return replace(
        adopt(made),
        issued=tuple(_new_ca(ca) for ca in (made.client, made.own_peer) if ca),
        new_authorities=True,
    )


def new_authorities(cluster: ClusterSpec, now: datetime) -> Authorities:
    """Make the CAs that the inventory asks for, with new keys; or read whom else it says to trust."""
    pki = cluster.pki
    if pki.external:
        return Authorities(*trust.read(pki.external))
    client = Authority.create(f"{cluster.name} etcd CA", pki.key, pki.ca_days, now)
    if pki.peer_ca == "same":
        return Authorities(client, None)
    return Authorities(client, Authority.create(f"{cluster.name} etcd peer CA", pki.key, pki.ca_days, now))


def adopt(authorities: Authorities) -> Generation:
    """Start from CAs that exist, with a token and no leaf yet."""
    return Generation(_token(), authorities, authorities.client.trust, authorities.peer.trust, {}, {})


def renewed(held: Generation, cluster: ClusterSpec, now: datetime, due: Due = EXPIRED) -> Generation:
    """Issue what `cluster` needs and `held` lacks; leaves that are fine stay as they are.

    Nodes that left the inventory fall out with the next change; alone they are none.
    """
    _refuse_other_peer_ca(held, cluster)
    refuse_other_nodes(held, cluster)
    credentials, leaves, lines = dict(held.credentials), dict(held.leaves), list(held.issued)
    pending, stand_ins = dict(held.pending), StandIns(now)
    for slot, profile in _slots(cluster, due):
        signer = held.authorities.signer(slot[1])
        if slot in pending and pending[slot].authority == signer:
            continue
        leaf = held.leaves.get(slot)
        reasons = why_renew(leaf, profile, signer, now, due.within) if leaf else ["new"]
        if reasons or due.force:
            if signer.waits:
                pending[slot] = Request(slot[0], slot[1].value, profile, signer)
                credentials[slot] = stand_ins.issue(signer, profile)
            else:
                credentials[slot] = signer.issue(profile, now)
            leaves[slot] = read_leaf(credentials[slot].certificate_pem)
            cut = _cut_short(leaves[slot], signer, profile, now)
            lines.append(_line(slot, reasons or ["asked for"], cut))
    if lines:
        stay = {node.name for node in cluster.nodes}
        credentials = {slot: value for slot, value in credentials.items() if slot[0] in stay}
        leaves = {slot: leaves[slot] for slot in credentials}
    return replace(
        held,
        credentials=credentials,
        leaves=leaves,
        issued=tuple(lines),
        pending=pending,
        present={slot: held.credentials[slot] for slot in pending if slot in held.credentials}
        | dict(held.present),
        stand_in_trust=held.stand_in_trust + stand_ins.trust,
    )


def completed(held: Generation, signed: Mapping[Slot, Credential]) -> Generation:
    """Put what was really signed into the places of the stand-ins."""
    leaves = {slot: read_leaf(credential.certificate_pem) for slot, credential in signed.items()}
    return replace(
        held,
        credentials={**held.credentials, **signed},
        leaves={**held.leaves, **leaves},
        pending={slot: request for slot, request in held.pending.items() if slot not in signed},
        present={},
        stand_in_trust=b"",
    )


def _slots(cluster: ClusterSpec, due: Due) -> Iterator[tuple[Slot, Profile]]:
    for node in cluster.nodes:
        if due.only is None or node.name in due.only:
            profiles = node_profiles(cluster, node)
            yield from (((node.name, kind), profiles[kind]) for kind in Kind if kind in due.kinds)


def _line(slot: Slot, reasons: list[str], note: str) -> str:
    return f"{slot[1].value} certificate for {slot[0]} ({'; '.join(reasons)}{note})"


def _cut_short(leaf: Leaf, signer: Authority, profile: Profile, now: datetime) -> str:
    if signer.outside:
        return "; to be signed elsewhere"
    if leaf.not_after < signer.not_after or now + timedelta(days=profile.days) <= signer.not_after:
        return ""
    return f"; cut to {leaf.not_after:%Y-%m-%d}, the end of its CA"


def _refuse_other_peer_ca(held: Generation, cluster: ClusterSpec) -> None:
    has = "separate" if held.authorities.own_peer else "same"
    if has != cluster.pki.peer_ca:
        raise Refused(
            f"the inventory says `peer_ca: {cluster.pki.peer_ca}`, but the certificates of "
            f"{cluster.name} were made with `peer_ca: {has}`",
            f"set `peer_ca: {has}` again: members that run now would not trust another CA",
        )


def refuse_other_signer(held: Generation, cluster: ClusterSpec) -> None:
    """Refuse to go on with CAs that are not those of the inventory: to replace them is a task of its own."""
    spec, known = cluster.pki.external, [held.authorities]
    if held.rotation:
        known.append(held.rotation.other)
    if all(each.client.outside != bool(spec) for each in known):
        says, has = ("are", "are not") if spec else ("are not", "are")
        raise Refused(
            f"the inventory says that the CAs {says} elsewhere (`pki.external`), but those of {cluster.name} {has}",
            "put `pki.external` back as it was, or replace the CAs with `rotate-certs --ca`",
        )
    if spec and Authorities(*trust.read(spec)) not in known:
        raise Refused(
            f"{spec.trust} does not hold the CA that {cluster.name} trusts, "
            f"{held.authorities.client.common_name!r}",
            "put the file back, or replace the CAs with `rotate-certs --ca`",
        )


def refuse_other_nodes(held: Generation, cluster: ClusterSpec) -> None:
    """Refuse certificates of a cluster on other nodes: its token and its CAs are not this one's.

    Nodes come, go and get other addresses, so one peer address in common is enough. Which
    ones the store knows, its peer certificates say; addresses not known yet do not count.
    """
    known = {node: leaf.names - {node} for (node, kind), leaf in held.leaves.items() if kind is Kind.PEER}
    here = {node.name: node.advertised for node in cluster.nodes if node.advertise or node.address}
    names, addresses = split_names(here.values())
    if not known or not here or {*names, *map(str, addresses)} & frozenset().union(*known.values()):
        return
    there = ", ".join(f"{node} ({', '.join(sorted(names))})" for node, names in sorted(known.items()))
    raise Refused(
        f"certs/{cluster.name} belongs to a cluster on {there}; {cluster.source} names none of these addresses, "
        f"but {', '.join(f'{node} ({address})' for node, address in here.items())}; nothing was changed",
        "another cluster needs another `cluster:` name, or a folder of its own for its inventory; if it is the "
        f"same one, put an address back; if that one was given up, move certs/{cluster.name} aside",
    )


def _new_ca(ca: Authority) -> str:
    return f"CA {ca.common_name!r} (new, until {ca.not_after:%Y-%m-%d})"


def _token() -> str:
    return secrets.token_hex(16)
