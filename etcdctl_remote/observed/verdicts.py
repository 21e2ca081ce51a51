"""What is said of certificates: a row for each, at each place where it lies or is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..desired.model import ClusterSpec
    from ..pki.generation import Generation
    from ..pki.inspect import Leaf
    from ..pki.issued import Used
    from .certificates import File, NodeCertificates

LAPTOP, DISK, WIRE = "laptop", "disk", "wire"
"""The places; on the wire the port follows: `wire:2379`."""
CLIENT_CA, PEER_CA, APPLICATION = "client CA", "peer CA", "application"
CLIENT_BETWEEN, PEER_BETWEEN = "client intermediate CA", "peer intermediate CA"
"""Roles besides `server`, `peer` and `client`."""
OWNERS = "have its owner make another, then `rotate-certs --force`"
"""What to do about an intermediate whose key is elsewhere."""


class Verdict(StrEnum):
    """What a certificate is at one place, the gravest last."""

    OK = "ok"
    REVOKED = "revoked"
    """Of an application: members refuse it, as was asked for."""
    RETIRED = "retired"
    """Of an application: its CA was replaced, so no member takes it any more."""
    EXPIRING = "expiring"
    NOT_LOADED = "not loaded"
    """A bundle on disk that the running process may not have read."""
    DIFFERS_FROM_LAPTOP = "differs from laptop"
    DIFFERS_FROM_DISK = "differs from disk"
    NOT_SEEN = "not seen"
    REFUSED = "refused"
    """A member does not take it from us."""
    OPEN_KEY = "open key"
    """Its private key can be read by everybody on the node."""
    NOT_YET_VALID = "not yet valid"
    WRONG_NAMES = "wrong names"
    WRONG_USAGES = "wrong usages"
    WRONG_ISSUER = "wrong issuer"
    WRONG_KEY = "wrong key"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    EXPIRED = "expired"


GRAVITY = {verdict: number for number, verdict in enumerate(Verdict)}
MILD = frozenset({Verdict.OK, Verdict.REVOKED, Verdict.RETIRED, Verdict.EXPIRING, Verdict.NOT_LOADED})
"""What alone is no failure."""


@dataclass(frozen=True)
class Fault:
    """One thing that is not as it should be: what was seen, and what to do."""

    verdict: Verdict
    seen: str
    do: str


@dataclass(frozen=True)
class Row:
    """One certificate at one place."""

    node: str
    """`-` for what belongs to no node: a CA on the laptop; an application's name for its own."""
    role: str
    place: str
    leaf: Leaf | None = None
    left: timedelta | None = None
    """Until it ends, by the clock here."""
    faults: tuple[Fault, ...] = ()
    """The gravest first."""
    signs: bool = False
    """Whether it is the CA that signs new certificates."""
    file: File | None = None
    """Owner and mode on the node's disk."""
    anew: str = ""
    """The line that makes another one: of an application's, of an intermediate whose key is elsewhere."""

    @property
    def authority(self) -> bool:
        """Whether this is a CA's."""
        return self.role in (CLIENT_CA, PEER_CA, CLIENT_BETWEEN, PEER_BETWEEN)

    @property
    def verdict(self) -> Verdict:
        """The gravest of what was found."""
        return self.faults[0].verdict if self.faults else Verdict.OK

    @property
    def gone(self) -> bool:
        """Whether it is shown for the record only: when it ends concerns nobody."""
        return self.verdict in (Verdict.REVOKED, Verdict.RETIRED)

    @property
    def days(self) -> int | None:
        """Whole days left; negative once it has ended."""
        return None if self.left is None else self.left // timedelta(days=1)

    @property
    def later(self) -> datetime | None:
        """When the last third of its life begins, in which it is renewed; None once it has begun."""
        if self.leaf is None or self.left is None:
            return None
        third = (self.leaf.not_after - self.leaf.not_before) / 3
        return self.leaf.not_after - third if self.left > third else None

    def failing(self, within: timedelta) -> bool:
        """Whether monitoring should call: a bad verdict, or an end within this time."""
        ends = self.left is not None and self.left <= within and not self.gone
        return self.verdict not in MILD or ends


@dataclass(frozen=True)
class Sight:
    """All that was seen of a cluster's certificates."""

    cluster: ClusterSpec
    held: Generation | None
    """What the laptop holds; None if it holds nothing: then nothing is compared with it."""
    nodes: Mapping[str, NodeCertificates]
    unreachable: Mapping[str, str]
    """Why a host could not be looked at, by node."""
    now: datetime
    within: timedelta | None = None
    """When something counts as expiring; None: when a third of its life is left."""
    applications: tuple[Used, ...] = ()
    ways_out: Mapping[str, str] = field(default_factory=dict)
    """What to do about hosts that could not be looked at, where it is known."""


@dataclass(frozen=True)
class Report:
    """Every certificate of a cluster, at every place, judged."""

    cluster: str
    taken: datetime
    rows: tuple[Row, ...]
    """CAs first, then the nodes in the inventory's order."""
    notes: tuple[str, ...] = ()
    unreachable: Mapping[str, str] = field(default_factory=dict)
    damaged: str = ""
    """Why the laptop's own certificates could not be read."""
    leaf_days: int = 0
    """How long a new leaf would live; 0: not known here."""
    ca_days: int = 0
    """How long a new CA would."""

    @property
    def verdict(self) -> Verdict:
        """The gravest of all."""
        found = (row.verdict for row in self.rows if not row.gone)
        return max(found, key=GRAVITY.__getitem__, default=Verdict.OK)

    @property
    def first(self) -> Row | None:
        """What ends first; a CA before the leaves that it takes along."""
        dated = [row for row in self.rows if row.leaf and not row.gone]
        return min(dated, key=lambda row: row.leaf.not_after if row.leaf else self.taken, default=None)

    @property
    def deployed(self) -> bool:
        """Whether a certificate was seen anywhere, or a host could not be looked at."""
        return bool(self.unreachable or self.damaged) or any(row.leaf for row in self.rows)

    def failing(self, within: timedelta) -> tuple[Row, ...]:
        """The rows for which monitoring should call."""
        return tuple(row for row in self.rows if row.failing(within))


def gravest_first(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """Sort by gravity; what is equally grave stays in its order."""
    return tuple(sorted(faults, key=lambda fault: -GRAVITY[fault.verdict]))
