"""CAs between the root and the leaves: a row for each at every place where it lies or is shown. Pure.

No bundle holds them. Leaves carry them, and a leaf that is shown without them is trusted by nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..pki import chain
from ..pki.inspect import Leaf
from ..pki.profiles import Kind
from .certificates import NodeCertificates
from .fitness import DEPLOY, bundle, port
from .state import Served
from .verdicts import CLIENT_BETWEEN, DISK, LAPTOP, PEER_BETWEEN, WIRE, Fault, Row, Sight, Verdict

_ANEW = "rotate-certs --force"

Found = tuple[Row, tuple[Fault, ...]]
"""A row that is to be judged, and what is missing about it."""


def intermediates(sight: Sight) -> Iterator[Found]:
    """List them: those of the laptop, then node by node."""
    for role in (CLIENT_BETWEEN, PEER_BETWEEN):
        yield from (_found(sight, "-", role, LAPTOP, leaf) for leaf in _on_laptop(sight, role))
    for node in sight.cluster.nodes:
        if seen := sight.nodes.get(node.name):
            yield from _on_disk(sight, seen)
            yield from _on_wire(sight, seen)


def _role(kind: Kind) -> str:
    return PEER_BETWEEN if kind is Kind.PEER else CLIENT_BETWEEN


def _found(sight: Sight, node: str, role: str, place: str, leaf: Leaf, *faults: Fault) -> Found:
    return Row(node, role, place, leaf, anew=_ANEW if _elsewhere(sight, role) else ""), faults


def _elsewhere(sight: Sight, role: str) -> bool:
    """Whether somebody else has the keys."""
    if sight.held is None:
        return sight.cluster.pki.external is not None
    authorities = sight.held.authorities
    return (authorities.peer if role == PEER_BETWEEN else authorities.client).outside


def _on_laptop(sight: Sight, role: str) -> tuple[Leaf, ...]:
    """What stands above the signing CA's key, and behind the leaves that are held."""
    if sight.held is None:
        return ()
    authorities = sight.held.authorities
    signer = authorities.peer if role == PEER_BETWEEN else authorities.client
    behind = (_behind(sight.held.credentials[slot].certificate_pem) for slot in _slots(sight, role))
    return _once([*bundle(signer.intermediates), *(one for some in behind for one in some)])


def _slots(sight: Sight, role: str) -> Iterator[tuple[str, Kind]]:
    held = sight.held.credentials if sight.held else {}
    yield from (slot for slot in held if _role(slot[1]) == role)


def _behind(pem: bytes | None) -> tuple[Leaf, ...]:
    """Which intermediates lead upwards from the first certificate of a file."""
    read = bundle(pem)
    if not read:
        return ()
    first, *rest = read
    path = chain.upwards(first.certificate, [one.certificate for one in rest])[1:]
    return tuple(one for one in rest if one.certificate in path and not chain.is_root(one.certificate))


def _once(found: Iterable[Leaf]) -> tuple[Leaf, ...]:
    return tuple({leaf.fingerprint: leaf for leaf in found}.values())


def _pem(seen: NodeCertificates, kind: Kind) -> bytes | None:
    file = seen.files.get(f"{kind.stem}.crt")
    return file.pem if file else None


def _wanted(sight: Sight, node: str, kind: Kind, pem: bytes | None) -> tuple[Leaf, ...]:
    """What the laptop's copy of this very leaf carries; nothing where it has another one."""
    held = sight.held.credentials.get((node, kind)) if sight.held else None
    own, read = bundle(held.certificate_pem if held else None), bundle(pem)
    same = own and read and own[0].fingerprint == read[0].fingerprint
    return _behind(held.certificate_pem) if held and same else ()


def _lacking(there: Iterable[Leaf], wanted: Iterable[Leaf]) -> tuple[Leaf, ...]:
    known = {leaf.fingerprint for leaf in there}
    return tuple(leaf for leaf in wanted if leaf.fingerprint not in known)


def _on_disk(sight: Sight, seen: NodeCertificates) -> Iterator[Found]:
    """What stands in a node's files; one that only one of two files lacks is told for that one."""
    shown: set[tuple[str, str]] = set()
    for kind in Kind:
        pem, role = _pem(seen, kind), _role(kind)
        there = _behind(pem)
        for leaf in there:
            if (role, leaf.fingerprint) not in shown:
                shown.add((role, leaf.fingerprint))
                yield _found(sight, seen.node, role, DISK, leaf)
        for leaf in _lacking(there, _wanted(sight, seen.node, kind, pem)):
            lacks = f"{kind.stem}.crt lacks it: who is shown that certificate cannot verify it"
            yield _found(sight, seen.node, role, DISK, leaf, Fault(Verdict.MISSING, lacks, DEPLOY))


def _on_wire(sight: Sight, seen: NodeCertificates) -> Iterator[Found]:
    """What is shown behind a leaf, where that can be told."""
    for kind in (Kind.SERVER, Kind.PEER):
        wire = seen.wire
        served = (wire.peer if kind is Kind.PEER else wire.client) if wire else Served()
        if served.carried is None or not served.certificate:
            continue
        place = f"{WIRE}:{port(sight, kind)}"
        there = _behind(served.certificate + served.carried)
        for leaf in there:
            yield _found(sight, seen.node, _role(kind), place, leaf)
        for leaf in _lacking(there, _wanted(sight, seen.node, kind, served.certificate)):
            lacks = f"etcd does not show it on {port(sight, kind)}: nobody can verify what it shows"
            yield _found(sight, seen.node, _role(kind), place, leaf, Fault(Verdict.MISSING, lacks, DEPLOY))
