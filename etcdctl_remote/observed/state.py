"""What is: one observation of every host and of the cluster, as frozen data.

None always means "not seen", never "no": unknown is not healthy, absent is not new.
Ids are integers here and hex strings wherever a person or a script reads them.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True)
class PathState:
    """A path on a host. `sha256` and `text` are filled for regular files we asked about."""

    kind: str
    """`file`, `directory`, `link` or `other`."""
    mode: int = 0
    owner: str = ""
    group: str = ""
    sha256: str | None = None
    text: str | None = None
    """The content of files that hold no secret, for diffs."""
    target: str | None = None
    content: bytes | None = None
    """Of the lists of revoked certificates in use only."""


@dataclass(frozen=True)
class UnitState:
    """etcd.service as systemd sees it."""

    active: str = "inactive"
    sub: str = "dead"
    enabled: str = ""
    fragment: str = ""
    needs_reload: bool = False
    result: str = ""
    pid: int = 0
    job: int = 0
    """What systemd has queued for the unit or is at; 0 for nothing."""
    digest: str | None = None
    """The digest in the *running process's* environment: what etcd really started with."""
    program: str | None = None
    """The binary the running process executes, links resolved."""
    flags: tuple[str, ...] | None = None
    """The running process's command line, `--name=value` each; None where a drop-in of the operator's gives it."""

    @property
    def running(self) -> bool:
        """Whether an etcd process exists (ready or still starting)."""
        return self.pid > 0

    @property
    def ending(self) -> bool:
        """Whether the process that runs is about to end, or is at it: what it runs with says nothing of what comes."""
        return self.running and (self.active == "deactivating" or (self.active == "active" and self.job > 0))


@dataclass(frozen=True)
class Told:
    """What the unit of the etcd that is installed says: where it keeps things, and whose it is."""

    data: str
    wal: str
    config: str
    etcdctl: str
    endpoint: str
    token: str = ""
    """`--initial-cluster-token`: random, made once a cluster."""

    @property
    def argv(self) -> tuple[str, ...]:
        """etcdctl against this member as it runs now, up to the sub-command."""
        pki = f"{self.config}/pki/current"
        certificates = (f"--cacert={pki}/ca.crt", f"--cert={pki}/etcdctl.crt", f"--key={pki}/etcdctl.key")
        return (self.etcdctl, f"--endpoints={self.endpoint}", *certificates)


@dataclass(frozen=True)
class Marker:
    """The file outside the data directory that remembers which member this host became."""

    cluster: str
    cluster_id: int
    member_id: int
    name: str


@dataclass(frozen=True)
class Member:
    """One line of the member list. A member that never started has no name and no client URLs."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    learner: bool = False

    @property
    def started(self) -> bool:
        """Whether the member ever published itself."""
        return bool(self.name and self.client_urls)


_ALARM = re.compile(r"memberID:(\d+)\s+alarm:(\w+)")
"""`endpoint status` has alarms only as Go's text form of AlarmMember, every member's in each
answer: `memberID:1234 alarm:NOSPACE`; 3.7 puts one or two spaces between, at random
(`Status` in server/etcdserver/api/v3rpc/maintenance.go)."""


@dataclass(frozen=True)
class Endpoint:
    """`endpoint status` of one member: local, answers without a quorum too. Sizes in bytes."""

    cluster_id: int
    member_id: int
    version: str
    leader: int
    raft_term: int
    raft_index: int
    raft_applied: int
    db_size: int
    db_in_use: int
    learner: bool
    revision: int
    errors: tuple[str, ...] = ()

    @property
    def alarms(self) -> tuple[tuple[int, str], ...]:
        """Every alarm that is raised in the cluster: by which member, and its kind."""
        return tuple((int(id), kind) for error in self.errors for id, kind in _ALARM.findall(error))

    @property
    def complaints(self) -> tuple[str, ...]:
        """What it says of itself besides alarms."""
        return tuple(error for error in self.errors if not _ALARM.search(error))


def clock() -> float:
    """Seconds of a clock that only goes on, and goes on while this laptop sleeps (Linux)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Data(StrEnum):
    """What the data directory of a host holds: `holding.py` judges."""

    ABSENT = "absent"
    EMPTY = "empty"
    MEMBER = "member"
    """A log of etcd's: it has run here."""
    BEGUN = "begun"
    """A database with nothing in it and no log: a first start was cut off, and etcd goes on from it."""
    STUCK = "stuck"
    """A first start that was cut off where etcd does not go on from: nothing was ever written to its log."""
    TORN = "torn"
    """A database with something in it, and no log: no first start leaves that."""
    OTHER = "other"
    """Files, but none of etcd's."""
    UNKNOWN = "unknown"
    """The host did not tell: never taken for empty."""

    @property
    def blank(self) -> bool:
        """Whether it is proven that nothing is there."""
        return self in (Data.ABSENT, Data.EMPTY)

    @property
    def unfinished(self) -> bool:
        """Whether a first start left it, in which nothing can have been acknowledged."""
        return self in (Data.BEGUN, Data.STUCK)


_DENIAL = re.compile(r"etcdserver: (user name not found|user name is empty|permission denied)")
"""What etcd's own auth says to a certificate whose common name is no user, or one without the role."""


@dataclass(frozen=True)
class Served:
    """What one port of a member shows to a new TLS connection."""

    certificate: bytes = b""
    """PEM of the leaf; empty if none was seen."""
    accepted: bool = False
    """Whether it took the certificate we showed, and answered."""
    error: str = ""
    carried: bytes | None = None
    """PEM of what it showed behind the leaf; None where that cannot be told."""

    @property
    def refused(self) -> bool:
        """Whether it was there and turned us away: in TLS 1.2 before its certificate is known."""
        return not self.accepted and (bool(self.certificate) or "alert" in self.error)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the DER, hex; empty if none was seen."""
        der = ssl.PEM_cert_to_DER_cert(self.certificate.decode()) if self.certificate else b""
        return hashlib.sha256(der).hexdigest() if der else ""


@dataclass(frozen=True)
class Wire:
    """A member seen through new connections."""

    client: Served
    peer: Served
    links: frozenset[int] | None = None
    """Ids of the peers to which its links stand, from its metrics; None if it does not tell."""


@dataclass(frozen=True)
class HostState:
    """Everything one round trip to a host tells."""

    node: str
    arch: str = ""
    clock: float = 0.0
    """Unix time on the host, seconds."""
    asked_at: float = 0.0
    """Unix time on the laptop, half-way through the round trip."""
    user_exists: bool = False
    releases: frozenset[str] = frozenset()
    """Versions whose directory under /opt/etcd is complete."""
    paths: Mapping[str, PathState] = field(default_factory=dict)
    unit: UnitState = UnitState()
    told: Told | None = None
    """None: no etcd of ours is installed, and `data` is about the wanted directory."""
    dropins_hash: str = ""
    """Digest of the operator's drop-ins, empty if there are none."""
    dropins: tuple[str, ...] = ()
    """Their paths, as they lie on disk."""
    missing: tuple[str, ...] = ()
    """Programs and certificates of the installed etcd that are not there: it runs on, and would not start again."""
    emptied: tuple[str, ...] = ()
    """Lines of drop-ins, `FILE:KEY=`, that take away what our unit says under that key and guards by."""
    data: Data = Data.ABSENT
    wal: Data = Data.ABSENT
    marker: Marker | None = None
    endpoint: Endpoint | None = None
    endpoint_error: str = ""
    members: tuple[Member, ...] | None = None
    """The member list by a linearizable read through this member; None if that read failed."""
    members_error: str = ""
    listed_by: tuple[int, int] | None = None
    """The cluster id and the member id of whoever gave that list."""
    wire: Wire | None = None
    """None: nobody dialled."""

    @property
    def denied(self) -> Mapping[str, str]:
        """What etcd's own auth denies us, and in which words."""
        asked = (
            ("endpoint status", self.endpoint, self.endpoint_error),
            ("member list", self.members, self.members_error),
        )
        return {
            name: found[1]
            for name, answer, error in asked
            if answer is None and (found := _DENIAL.search(error))
        }

    @property
    def serving(self) -> bool:
        """Whether a linearizable read through this very member succeeded, and it knows a leader.

        Where etcd's auth denies us the status, the read alone has to prove it.
        """
        if self.endpoint is None:
            return self.members is not None and bool(self.denied)
        return self.endpoint.leader != 0 and self.members is not None

    @property
    def cluster_id(self) -> int | None:
        """The id of the cluster that etcd answers for; None if it gives no answer."""
        return self.endpoint.cluster_id if self.endpoint else self.listed_by and self.listed_by[0]

    @property
    def member_id(self) -> int | None:
        """The id of the member that answers; None if none does."""
        return self.endpoint.member_id if self.endpoint else self.listed_by and self.listed_by[1]


@dataclass(frozen=True)
class ClusterState:
    """One observation of all hosts of the inventory."""

    hosts: Mapping[str, HostState]
    unreachable: Mapping[str, str] = field(default_factory=dict)
    """Why a host gave no observation, by node."""
    taken_at: float = 0.0
    """Monotonic seconds at the *start* of the observation."""
    ways_out: Mapping[str, str] = field(default_factory=dict)
    """What to do about hosts that gave none, where it is known."""

    @property
    def members(self) -> tuple[Member, ...]:
        """The member list, from any member that has a quorum behind it; empty without one."""
        return next((host.members for host in self.hosts.values() if host.serving and host.members), ())

    @property
    def has_quorum(self) -> bool:
        """Whether at least one member answered a linearizable read."""
        return any(host.serving for host in self.hosts.values())

    @property
    def formed(self) -> bool:
        """Whether this cluster has ever had a leader: from then on nobody is new.

        systemd marks a host the first time etcd is ready there, which needs a quorum. So data
        without a marker means: started, and still waiting for its first quorum.
        """
        return any(host.marker or (host.endpoint and host.endpoint.leader) for host in self.hosts.values())

    @property
    def uncertain(self) -> tuple[str, ...]:
        """Nodes that may have a quorum behind them although we cannot see it.

        systemd calls them ready, so they once had one; whoever has lost it says so by naming
        no leader. Anything else (a refused login, a late answer) is unknown.
        """
        return tuple(
            name
            for name, host in sorted(self.hosts.items())
            if host.unit.running
            and host.unit.active == "active"
            and not host.serving
            and not (host.endpoint and host.endpoint.leader == 0)
        )

    @property
    def denied(self) -> tuple[str, ...]:
        """Nodes whose etcd answers, but its own auth denies us what we ask."""
        return tuple(name for name, host in sorted(self.hosts.items()) if host.denied)

    @property
    def leader(self) -> str | None:
        """The node that leads, or None if none of ours says so of itself."""
        for node, host in self.hosts.items():
            if host.endpoint and host.endpoint.leader and host.endpoint.leader == host.endpoint.member_id:
                return node
        return None

    @property
    def cluster_ids(self) -> dict[int, tuple[str, ...]]:
        """Every cluster id that answers, with the nodes that gave it."""
        found: dict[int, tuple[str, ...]] = {}
        for node, host in sorted(self.hosts.items()):
            if host.cluster_id is not None:
                found[host.cluster_id] = (*found.get(host.cluster_id, ()), node)
        return found

    @property
    def voters(self) -> tuple[Member, ...]:
        """Every voting member of the list: dead and unstarted ones count too."""
        return tuple(member for member in self.members if not member.learner)

    @property
    def tolerates(self) -> int | None:
        """How many more voters may be lost before writes stop; -1 if they have, None if nobody may tell."""
        if not self.has_quorum:
            return None if self.denied else -1
        serving = {host.member_id for host in self.hosts.values() if host.serving}
        alive = sum(member.id in serving for member in self.voters)
        return alive - quorum(len(self.voters))

    def node_of(self, member: Member) -> str | None:
        """The node that runs a member, by the id it reports."""
        for node, host in self.hosts.items():
            if host.member_id == member.id:
                return node
        return None


def quorum(voters: int) -> int:
    """Return the smallest majority of `voters`."""
    return voters // 2 + 1
