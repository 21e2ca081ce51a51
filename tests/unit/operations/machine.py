"""One host of the world: its files, its etcd, and whom it shows what and trusts on the wire."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from etcdctl_remote.desired.hostspec import UNIT_PATH
from etcdctl_remote.desired.identity import Marker as MarkerFile
from etcdctl_remote.observed.state import Data, Marker, PathState, Told, UnitState
from etcdctl_remote.pki.inspect import signed_by

MARKER = "/etc/etcd/member"
IDENTITY = "/etc/etcd/identity"
DATA = "/var/lib/etcd"
PKI = "/etc/etcd/pki"


@dataclass
class Machine:
    """One host. `log` is what its member has in its data directory, None without data."""

    name: str
    peer: str
    paths: dict[str, PathState] = field(default_factory=dict)
    user: bool = False
    releases: set[str] = field(default_factory=set)
    log: list[str] | None = None
    cluster: int = 0
    running: bool = False
    failed: bool = False
    """Whether its process fell rather than being stopped."""
    digest: str | None = None
    flags: tuple[str, ...] = ()
    """The command line that etcd was started with."""
    stuck: bool = False
    """Whether a first start left a database that etcd ends from, and systemd starts it again and again."""
    looping: bool = False
    foreign: bool = False
    ready: bool = False
    starts: int = 0
    trusts: Mapping[str, str] | None = None
    """The CA bundles that its process loaded, by port; None where certificates are not modelled."""
    aside: list[list[str]] = field(default_factory=list)
    """Data directories that were moved aside."""
    deleted: list[list[str]] = field(default_factory=list)
    """Data directories that are gone for good."""

    @property
    def unit(self) -> str:
        found = self.paths.get(UNIT_PATH)
        return (found.text or "") if found else ""

    def flag(self, name: str) -> str:
        found = re.search(rf"--{name}=(\S+?)(?:\s|\\|$)", self.unit)
        return found[1] if found else ""

    @property
    def marker(self) -> Marker | None:
        identity = self.paths.get(IDENTITY)
        if MARKER not in self.paths or identity is None or not identity.text:
            return None
        found = MarkerFile.decode(identity.text.encode())
        return Marker(found.cluster, int(found.cluster_id, 16), int(found.member_id, 16), found.name)

    def data(self) -> Data:
        """As a look into the data directory tells it."""
        if self.foreign:
            return Data.OTHER
        if self.log is not None:
            return Data.MEMBER
        return Data.STUCK if self.stuck else Data.ABSENT

    def unit_state(self) -> UnitState:
        """As systemd tells it."""
        return UnitState(
            active=self.active(),
            sub="running" if self.running else "auto-restart" if self.looping else "dead",
            result="exit-code" if self.failed and not self.running else "success",
            enabled="enabled" if self.unit else "",
            fragment=UNIT_PATH if self.unit else "",
            pid=100 + self.starts if self.running else 0,
            digest=self.digest if self.running else None,
            program="/opt/etcd/v3.6.14/etcd" if self.running else None,
            flags=self.flags if self.running else None,
        )

    def active(self) -> str:
        """The unit's ActiveState."""
        if self.running:
            return "active"
        return "activating" if self.looping else "failed" if self.failed else "inactive"

    def told(self) -> Told:
        """As the unit's command line tells it."""
        return Told(
            self.flag("data-dir"),
            self.flag("wal-dir").removesuffix("/wal"),
            self.flag("cert-file").removesuffix("/pki/current/server.crt"),
            "/usr/local/bin/etcdctl",
            self.flag("listen-client-urls").partition(",")[0],
            self.flag("initial-cluster-token"),
        )

    # -- the wire ------------------------------------------------------------------------------

    def file(self, name: str) -> str:
        """What lies under `pki/current` now; empty if nothing does."""
        link = self.paths.get(f"{PKI}/current")
        found = self.paths.get(f"{PKI}/{link.target}/{name}") if link else None
        return (found.text or "") if found else ""

    def seen(self) -> dict[str, PathState]:
        """All paths, those by way of `pki/current` too."""
        link = self.paths.get(f"{PKI}/current")
        place = f"{PKI}/{link.target}/" if link else "none"
        named = {p.replace(place, f"{PKI}/current/"): s for p, s in self.paths.items() if p.startswith(place)}
        return self.paths | named

    def load(self) -> None:
        """Read the bundles, as a process does at its start and never again."""
        found = {"client": self.file("ca.crt"), "peer": self.file("peer-ca.crt")}
        self.trusts = found if all(found.values()) else None

    def takes(self, port: str, certificate: str, clock: datetime | None) -> bool:
        """Whether the process takes this certificate in a new handshake."""
        return self.trusts is None or taken(certificate, self.trusts[port], clock)

    def answers(self, clock: datetime | None) -> bool:
        """Whether etcdctl on this host and its etcd take each other's certificates."""
        if self.trusts is None:
            return True
        shown = taken(self.file("server.crt"), self.file("ca.crt"), clock)
        return shown and self.takes("client", self.file("etcdctl.crt"), clock)


@cache
def taken(certificate: str, bundle: str, clock: datetime | None) -> bool:
    """Whether a CA of this bundle vouches for a certificate; at no time in particular without `clock`."""
    if not certificate:
        return False
    leaf = x509.load_pem_x509_certificate(certificate.encode())
    return any(
        signed_by(leaf, certificate.encode(), root.public_bytes(Encoding.PEM))
        and all(valid(each, clock) for each in (leaf, root))
        for root in x509.load_pem_x509_certificates(bundle.encode())
    )


def valid(certificate: x509.Certificate, clock: datetime | None) -> bool:
    return clock is None or certificate.not_valid_before_utc <= clock < certificate.not_valid_after_utc


def can_meet(one: Machine, other: Machine, clock: datetime | None) -> bool:
    """Whether two members can make a new link: each takes the other's peer certificate."""
    if one.trusts is None or other.trusts is None:
        return True
    return one.takes("peer", other.file("peer.crt"), clock) and other.takes(
        "peer", one.file("peer.crt"), clock
    )
