"""What makes a certificate fit, wherever it lies: its dates, its issuer, its names, its usages. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from ..desired.durations import duration
from ..pki import chain
from ..pki.inspect import Leaf, read_leaf, signed_by
from ..pki.profiles import Kind, Profile, node_profiles
from .verdicts import CLIENT_BETWEEN, CLIENT_CA, PEER_CA, Fault, Sight, Verdict

ROTATE, ROTATE_CA, DEPLOY = "`rotate-certs`", "`rotate-certs --ca`", "`deploy` puts the laptop's there"
BUNDLES = {CLIENT_CA: "ca.crt", PEER_CA: "peer-ca.crt"}
SLACK = timedelta(seconds=2)
"""What the clocks of two healthy hosts may differ, and the round trip between."""
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.S)


def held_bundle(sight: Sight, role: str) -> tuple[Leaf, ...]:
    """List the CAs that the laptop wants to be trusted in this role."""
    if sight.held is None:
        return ()
    return bundle(sight.held.ca_bundle if role == CLIENT_CA else sight.held.peer_ca_bundle)


def signing(sight: Sight, role: str) -> str:
    """The fingerprint of the CA that signs now; empty if it is not known here.

    Of one whose key is elsewhere that is the root: which intermediate signs next, its owner knows.
    """
    if sight.held is None:
        return ""
    authorities = sight.held.authorities
    signer = authorities.client if role in (CLIENT_CA, CLIENT_BETWEEN) else authorities.peer
    return read_leaf(chain.pem(signer.chain[-1:] if signer.outside else signer.chain[:1])).fingerprint


def bundle(pem: bytes | None) -> tuple[Leaf, ...]:
    """Read every certificate of a file; what is none falls out."""
    found = []
    for block in _PEM.findall(pem or b""):
        try:
            found.append(read_leaf(block))
        except ValueError:
            continue
    return tuple(found)


def faults(
    sight: Sight, node: str, kind: Kind, leaf: Leaf, cure: str, ahead: timedelta | None = None
) -> Iterator[Fault]:
    """Judge what a leaf says, wherever it is: dates, issuer, names, usages."""
    signer = sight.held.authorities.signer(kind) if sight.held else None
    renew = ROTATE_CA if cure == ROTATE and signer and leaf.not_after >= signer.not_after else cure
    if renew == ROTATE and sight.within and sight.within > third(leaf):
        renew = f"`rotate-certs --within {duration(sight.within)}`"
    yield from dates(sight, node, leaf, ahead, sight.within or third(leaf), renew)
    yield from _issuer(sight, node, kind, leaf, cure)
    profile = _profile(sight, node, kind)
    lacks = sorted(profile.names - leaf.names) if profile else []
    if lacks:
        yield Fault(Verdict.WRONG_NAMES, f"it lacks {', '.join(lacks)}", cure)
    unfit = [usage for usage in (profile.usages if profile else ()) if usage not in leaf.usages]
    if unfit:
        yield Fault(Verdict.WRONG_USAGES, f"it is not for use as {' and '.join(unfit)}", cure)


def dates(
    sight: Sight, node: str, leaf: Leaf, ahead: timedelta | None, window: timedelta, cure: str
) -> Iterator[Fault]:
    """Judge a certificate's dates. `ahead`: how far the clock of `node` is ahead of this one."""
    there = sight.now + (ahead or timedelta())
    clock = f"by the clock of {node}, which says {there:%Y-%m-%d %H:%M} UTC"
    if leaf.not_after <= sight.now:
        yield Fault(Verdict.EXPIRED, f"expired on {leaf.not_after:%Y-%m-%d %H:%M} UTC", cure)
    elif leaf.not_after <= there:
        yield Fault(Verdict.EXPIRED, f"expired {clock}", f"set the clock of {node}")
    elif there + SLACK < leaf.not_before:
        theirs = leaf.not_before <= sight.now
        begins = f"begins on {leaf.not_before:%Y-%m-%d %H:%M} UTC"
        seen = f"{begins}: not yet {clock}" if theirs else begins
        do = f"set the clock of {node}" if theirs else f"see that the clocks are right; {cure}"
        yield Fault(Verdict.NOT_YET_VALID, seen, do)
    elif leaf.not_after - sight.now <= window:
        left = (leaf.not_after - sight.now) // timedelta(days=1)
        yield Fault(Verdict.EXPIRING, f"ends on {leaf.not_after:%Y-%m-%d}, in {left} days", cure)


def _issuer(sight: Sight, node: str, kind: Kind, leaf: Leaf, cure: str) -> Iterator[Fault]:
    """Say who does not trust its issuer; or that this CA signs no longer."""
    role = PEER_CA if kind is Kind.PEER else CLIENT_CA
    seen = sight.nodes.get(node)
    file = seen.files.get(BUNDLES[role]) if seen else None
    trusting = {
        "the laptop's bundle": held_bundle(sight, role),
        f"{BUNDLES[role]} of {node}": bundle(file.pem) if file else (),
    }
    between = _intermediates(sight, node, kind)
    strange = [where for where, cas in trusting.items() if cas and not chains(leaf, cas, between)]
    if strange:
        yield Fault(Verdict.WRONG_ISSUER, f"{leaf.issuer} is not in {' nor in '.join(strange)}", cure)
    elif sight.held and not sight.held.authorities.signer(kind).signed(
        leaf.certificate, [one.certificate for one in between]
    ):
        now = sight.held.authorities.signer(kind).common_name
        yield Fault(Verdict.WRONG_ISSUER, f"{leaf.issuer} signed it, {now} signs now", cure)


def chains(leaf: Leaf, trusted: tuple[Leaf, ...], between: tuple[Leaf, ...] = ()) -> bool:
    """Whether signatures lead from a leaf to a trusted CA, over intermediates if need be."""
    carried = chain.pem((leaf.certificate, *leaf.carried, *(one.certificate for one in between)))
    return signed_by(leaf.certificate, carried, chain.pem(ca.certificate for ca in trusted))


def _intermediates(sight: Sight, node: str, kind: Kind) -> tuple[Leaf, ...]:
    """What stands behind this leaf in its files: on the wire the chain is not seen."""
    held = sight.held.credentials.get((node, kind)) if sight.held else None
    seen = sight.nodes.get(node)
    file = seen.files.get(f"{kind.stem}.crt") if seen else None
    return (*bundle(held.certificate_pem if held else None)[1:], *bundle(file.pem if file else None)[1:])


def _profile(sight: Sight, node: str, kind: Kind) -> Profile | None:
    """What the inventory asks for; None while the node's address is not known."""
    spec = sight.cluster.node(node)
    return node_profiles(sight.cluster, spec)[kind] if spec.address else None


def cure(sight: Sight, node: str, kind: Kind, leaf: Leaf | None) -> str:
    """Say what mends a leaf on a node: the laptop's, where that one is fit, else a new one."""
    own = held(sight, node, kind)
    if own is None or (leaf and leaf.fingerprint == own.fingerprint):
        return ROTATE
    return ROTATE if any(True for _ in faults(sight, node, kind, own, "")) else DEPLOY


def held(sight: Sight, node: str, kind: Kind) -> Leaf | None:
    """Return the laptop's leaf of a node."""
    return sight.held.leaves.get((node, kind)) if sight.held else None


def newer(sight: Sight) -> str:
    """Say what to do where a node has something newer than the laptop."""
    return f"somebody else changed it: get their certs/{sight.cluster.name}; else {DEPLOY}"


def port(sight: Sight, kind: Kind) -> int:
    """Return the port on which a leaf of this kind is shown, or is shown to."""
    return sight.cluster.ports.peer if kind is Kind.PEER else sight.cluster.ports.client


def third(leaf: Leaf) -> timedelta:
    """Return the last third of its life, in which it is to be renewed."""
    return (leaf.not_after - leaf.not_before) / 3
