"""Judge every certificate at every place: on the laptop, on a node's disk, on the wire. Pure.

Two clocks count: the node's own, by which its member verifies others, and the one here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta

from ..pki.inspect import Leaf, is_ca
from ..pki.issued import Used
from ..pki.profiles import Kind
from . import fitness
from .certificates import File, NodeCertificates
from .fitness import BUNDLES, DEPLOY, ROTATE, ROTATE_CA, bundle, held_bundle
from .intermediates import intermediates
from .state import Served
from .verdicts import (
    APPLICATION,
    CLIENT_CA,
    DISK,
    LAPTOP,
    OWNERS,
    WIRE,
    Fault,
    Row,
    Sight,
    Verdict,
    gravest_first,
)
from .wire import CLOSED

_OPEN = 0o007


def judge(sight: Sight) -> tuple[Row, ...]:
    """Return a row for each certificate and place; the CAs first, then node by node."""
    rows = [*_laptop_authorities(sight)]
    for node in sight.cluster.nodes:
        rows += _node_authorities(sight, node.name)
    rows += [_authority(sight, row, *lacks) for row, lacks in intermediates(sight)]
    for node in sight.cluster.nodes:
        for kind in Kind:
            rows += _leaves(sight, node.name, kind)
    rows = _one_way_out(sight, rows)
    used = (_application(sight, one) for one in sight.applications)
    return (*rows, *(row for row in used if not (row.gone and row.left and row.left <= timedelta(0))))


def _one_way_out(sight: Sight, rows: list[Row]) -> list[Row]:
    """Where a node has what is newer than the laptop's, nothing of the laptop's is to be put anywhere before."""
    newer = fitness.newer(sight)
    if not any(fault.do == newer for row in rows for fault in row.faults):
        return rows
    return [
        replace(
            row, faults=tuple(replace(each, do=newer) if each.do == DEPLOY else each for each in row.faults)
        )
        for row in rows
    ]


def _judged(sight: Sight, row: Row, *faults: Iterable[Fault]) -> Row:
    found = [fault for some in faults for fault in some]
    left = row.leaf.not_after - sight.now if row.leaf else None
    return replace(row, left=left, faults=gravest_first(found))


# -- CAs -------------------------------------------------------------------------------------


def _laptop_authorities(sight: Sight) -> Iterator[Row]:
    for role in BUNDLES:
        for leaf in held_bundle(sight, role):
            yield _authority(sight, Row("-", role, LAPTOP, leaf))


def _node_authorities(sight: Sight, node: str) -> Iterator[Row]:
    """Yield what a node trusts, and what of the laptop's bundle it lacks."""
    seen = sight.nodes.get(node)
    for role, name in BUNDLES.items():
        file = seen.files.get(name) if seen else None
        blank = Row(node, role, DISK, file=file)
        if seen is None or file is None:
            yield _judged(sight, blank, (_absent(sight, node, name),))
            continue
        found = bundle(file.pem)
        if not found:
            unreadable = Fault(Verdict.UNREADABLE, f"{name} holds no certificate", DEPLOY)
            yield _judged(sight, blank, (unreadable,))
            continue
        for leaf in found:
            yield _authority(sight, replace(blank, leaf=leaf), *_trust(sight, seen, role, leaf))
        yield from _lacking(sight, blank, {leaf.fingerprint for leaf in found})


def _lacking(sight: Sight, blank: Row, known: set[str]) -> Iterator[Row]:
    """Yield the CAs of the laptop's bundle that a node's lacks."""
    for leaf in held_bundle(sight, blank.role):
        if leaf.fingerprint not in known:
            lacks = f"{BUNDLES[blank.role]} lacks this CA, which the laptop trusts"
            yield _judged(sight, replace(blank, leaf=leaf), (Fault(Verdict.MISSING, lacks, DEPLOY),))


def _authority(sight: Sight, row: Row, *more: Fault) -> Row:
    """Judge one CA of a bundle. It is due while a leaf that it signs today still gets its whole life."""
    if row.leaf is None:
        return row
    window = sight.within or min(fitness.third(row.leaf), timedelta(days=sight.cluster.pki.leaf_days))
    ahead = sight.nodes[row.node].ahead if row.node in sight.nodes else None
    found = fitness.dates(sight, row.node, row.leaf, ahead, window, OWNERS if row.anew else ROTATE_CA)
    fit = is_ca(row.leaf.certificate)
    unfit = () if fit else (Fault(Verdict.WRONG_USAGES, "it is no CA's certificate", DEPLOY),)
    signs = row.leaf.fingerprint == fitness.signing(sight, row.role)
    return _judged(sight, replace(row, signs=signs), found, more, unfit)


def _trust(sight: Sight, seen: NodeCertificates, role: str, leaf: Leaf) -> Iterator[Fault]:
    """Hold a CA on a node against the laptop's bundle, and against what the running process may have read."""
    if sight.held and leaf.fingerprint not in {ca.fingerprint for ca in held_bundle(sight, role)}:
        other = "a CA that is not in the laptop's bundle"
        yield Fault(Verdict.DIFFERS_FROM_LAPTOP, other, fitness.newer(sight))
    if seen.running and seen.stale:
        stale = "etcd still runs with what it was started with: that may be another bundle"
        yield Fault(Verdict.NOT_LOADED, stale, "`plan` shows who has to restart, `deploy` does it")


# -- leaves ----------------------------------------------------------------------------------


def _leaves(sight: Sight, node: str, kind: Kind) -> Iterator[Row]:
    """Yield one leaf at its places: on the laptop, on the node's disk, on the wire."""
    if sight.held:
        yield _on_laptop(sight, node, kind)
    yield _on_disk(sight, node, kind)
    if kind is not Kind.CLIENT:
        yield _on_wire(sight, node, kind)


def _on_laptop(sight: Sight, node: str, kind: Kind) -> Row:
    leaf = fitness.held(sight, node, kind)
    row = Row(node, kind.value, LAPTOP, leaf)
    if leaf is None:
        missing = Fault(Verdict.MISSING, "it was never issued", "`deploy` issues it")
        return _judged(sight, row, (missing,))
    found = [*fitness.faults(sight, node, kind, leaf, ROTATE)]
    if leaf.key_matches is False:
        found.append(Fault(Verdict.WRONG_KEY, "the key beside it belongs to another certificate", ROTATE))
    return _judged(sight, row, found, _refused(sight, node, kind))


def _refused(sight: Sight, node: str, kind: Kind) -> Iterator[Fault]:
    """Say where a member does not take what we show it: the node's client and peer certificates.

    Where its list of revoked certificates is missing, etcd closes after the handshake, without an alert.
    """
    wire = sight.nodes[node].wire if node in sight.nodes else None
    if wire is None or kind is Kind.SERVER:
        return
    port, served = fitness.port(sight, kind), wire.client if kind is Kind.CLIENT else wire.peer
    if served.certificate and not served.accepted and ("alert" in served.error or served.error == CLOSED):
        do = f"`plan`; `logs --node {node}`" if served.error == CLOSED else f"`logs --node {node}`"
        yield Fault(Verdict.REFUSED, f"{node} refuses it on {port}: {served.error}", do)


def _on_disk(sight: Sight, node: str, kind: Kind) -> Row:
    seen, name = sight.nodes.get(node), f"{kind.stem}.crt"
    file = seen.files.get(name) if seen else None
    if seen is None or file is None:
        return _judged(sight, Row(node, kind.value, DISK), (_absent(sight, node, name),))
    key = seen.files.get(f"{kind.stem}.key")
    row, read = Row(node, kind.value, DISK, file=key), bundle(file.pem)
    if not read:
        cure = fitness.cure(sight, node, kind, None)
        return _judged(sight, row, (Fault(Verdict.UNREADABLE, f"{name} holds no certificate", cure),))
    leaf = read[0]
    return _judged(
        sight,
        replace(row, leaf=leaf),
        fitness.faults(sight, node, kind, leaf, fitness.cure(sight, node, kind, leaf), seen.ahead),
        _key(sight, node, kind, leaf, key),
        _as_held(sight, node, kind, leaf),
    )


def _key(sight: Sight, node: str, kind: Kind, leaf: Leaf, key: File | None) -> Iterator[Fault]:
    """Judge the key on disk, of which only the digest is known: so only beside the laptop's own certificate."""
    name = f"{kind.stem}.key"
    if key is None:
        yield Fault(Verdict.MISSING, f"{name} is not there", fitness.cure(sight, node, kind, None))
        return
    own = fitness.held(sight, node, kind)
    if sight.held and own and own.fingerprint == leaf.fingerprint:
        secret = sight.held.credential(node, kind).key_pem
        if hashlib.sha256(secret.reveal).hexdigest() != key.sha256:
            yield Fault(Verdict.WRONG_KEY, f"{name} is not the key of this certificate", DEPLOY)
    if key.mode & _OPEN:
        seen = f"{name} has mode {key.mode:04o}: everybody on {node} could read it"
        yield Fault(Verdict.OPEN_KEY, seen, "`deploy`, then `rotate-certs --force` if anybody may have")


def _as_held(sight: Sight, node: str, kind: Kind, leaf: Leaf) -> Iterator[Fault]:
    own = fitness.held(sight, node, kind)
    if own and own.fingerprint != leaf.fingerprint:
        do = fitness.newer(sight) if leaf.not_before > own.not_before else DEPLOY
        seen = f"not the laptop's, which ends on {own.not_after:%Y-%m-%d}"
        yield Fault(Verdict.DIFFERS_FROM_LAPTOP, seen, do)


def _on_wire(sight: Sight, node: str, kind: Kind) -> Row:
    row, seen = Row(node, kind.value, f"{WIRE}:{fitness.port(sight, kind)}"), sight.nodes.get(node)
    if seen is None:
        return _judged(sight, row, (_unreached(sight, node),))
    wire = seen.wire
    served = (wire.peer if kind is Kind.PEER else wire.client) if wire else Served(error="nobody dialled")
    read = bundle(served.certificate)
    if not read:
        return _judged(sight, row, (_unseen(seen, served, _on_disk(sight, node, kind)),))
    leaf = read[0]
    return _judged(
        sight,
        replace(row, leaf=leaf),
        fitness.faults(sight, node, kind, leaf, fitness.cure(sight, node, kind, leaf), seen.ahead),
        _as_on_disk(seen, kind, leaf),
        _as_held(sight, node, kind, leaf),
    )


def _as_on_disk(seen: NodeCertificates, kind: Kind, leaf: Leaf) -> Iterator[Fault]:
    file = seen.files.get(f"{kind.stem}.crt")
    disk = bundle(file.pem) if file else ()
    if disk and disk[0].fingerprint != leaf.fingerprint:
        other = f"etcd shows another one than {seen.place}/{kind.stem}.crt"
        yield Fault(Verdict.DIFFERS_FROM_DISK, other, f"`plan`; `logs --node {seen.node}`")


def _unseen(seen: NodeCertificates, served: Served, disk: Row) -> Fault:
    """Say why a port shows nothing; what is wrong with the files on disk comes first."""
    if not seen.running:
        if not seen.files:
            return Fault(Verdict.NOT_SEEN, f"etcd is not installed on {seen.node}", "`deploy`")
        return Fault(Verdict.NOT_SEEN, "etcd does not run", f"`logs --node {seen.node}`, then `start`")
    error = served.error.removeprefix(f"{seen.node}: ") or "it shows none"
    return Fault(Verdict.NOT_SEEN, error, disk.faults[0].do if disk.faults else f"`logs --node {seen.node}`")


def _absent(sight: Sight, node: str, name: str) -> Fault:
    """Say why a file was not seen: an unreachable host, no etcd, or only this file gone."""
    seen = sight.nodes.get(node)
    if seen is None:
        return _unreached(sight, node)
    if not seen.files and not seen.running:
        return Fault(Verdict.MISSING, f"etcd is not installed on {node}", "`deploy`")
    return Fault(Verdict.MISSING, f"{name} is not there", DEPLOY if sight.held else "`deploy`")


def _unreached(sight: Sight, node: str) -> Fault:
    do = sight.ways_out.get(node) or f"make {node} reachable"
    return Fault(Verdict.NOT_SEEN, sight.unreachable.get(node, "not observed"), do)


# -- applications ----------------------------------------------------------------------------


def _application(sight: Sight, one: Used) -> Row:
    """Judge a certificate that was issued to an application; only the laptop's copy is known."""
    leaf = one.leaf
    row = Row(one.name, APPLICATION, LAPTOP, leaf, anew=one.anew)
    if sight.held and leaf.serial in sight.held.revocations.serials:
        return _judged(sight, row, (Fault(Verdict.REVOKED, f"issued by {leaf.issuer}", ""),))
    cure, trusted = f"`{one.anew}`", held_bundle(sight, CLIENT_CA)
    if trusted and not fitness.chains(leaf, trusted):
        return _judged(sight, row, (Fault(Verdict.RETIRED, f"{leaf.issuer} was replaced", cure),))
    return _judged(
        sight, row, fitness.dates(sight, one.name, leaf, None, sight.within or fitness.third(leaf), cure)
    )
