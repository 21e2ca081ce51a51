"""What the operator wants: the inventory after validation, as frozen data.

Nothing here knows YAML, files or hosts. Settings are etcd flags by name, without the
dashes; their values are the strings that go on the command line.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import total_ordering
from pathlib import Path
from typing import Literal


@total_ordering
@dataclass(frozen=True)
class Version:
    """An etcd release, ordered as numbers: 3.10.0 is newer than 3.9.0."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read `X.Y.Z` (a leading `v` is allowed); ValueError on anything else."""
        parts = text.removeprefix("v").split(".")
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
            raise ValueError(f"not a release number X.Y.Z: {text!r}")
        return cls(*(int(part) for part in parts))

    @property
    def line(self) -> str:
        """The minor line, `3.6` for 3.6.14."""
        return f"{self.major}.{self.minor}"

    def __lt__(self, other: Version) -> bool:
        return (self.major, self.minor, self.patch) < (other.major, other.minor, other.patch)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True)
class SshSpec:
    """How one host is reached. None means: what OpenSSH's own configuration says."""

    user: str | None = None
    port: int | None = None
    key: Path | None = None
    jump: tuple[str, ...] = ()
    """Hops in OpenSSH's order, first hop first; each `[user@]host[:port]`."""
    known_hosts: Path | None = None
    host_keys: Literal["strict", "accept-new"] = "strict"
    timeout: float = 10.0
    """Seconds for the TCP connection and the login, each."""


@dataclass(frozen=True)
class NodeSpec:
    """One member: its etcd name, its addresses, how SSH reaches it."""

    name: str
    host: str
    """What SSH dials: an address or a name of the operator's OpenSSH configuration."""
    address: str | None = None
    """What etcd binds; None until it was read from `interface` on the host."""
    interface: str | None = None
    advertise: str | None = None
    """What others dial, where it differs from `address` (NAT); an IP address or a host name."""
    names: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    """All etcd settings of this node: defaults < cluster < node, checked for the wanted version."""
    ssh: SshSpec = SshSpec()

    @property
    def bind(self) -> str:
        """The address etcd binds; ValueError while `interface` is not resolved."""
        if self.address is None:
            raise ValueError(f"{self.name}: the address of {self.interface} is not known yet")
        return self.address

    @property
    def advertised(self) -> str:
        """The address or name that other members and clients dial."""
        return self.advertise or self.bind


@dataclass(frozen=True)
class ReleaseSpec:
    """Where the etcd archive comes from; see `desired.release`."""

    url: str = "https://github.com/etcd-io/etcd/releases/download"
    archive: str | None = None
    """A local path with `{version}` and `{arch}`, or None to download."""
    sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PathsSpec:
    """Where things live on a node."""

    bin: str = "/usr/local/bin"
    config: str = "/etc/etcd"
    data: str = "/var/lib/etcd"
    wal: str | None = None


@dataclass(frozen=True)
class PortsSpec:
    """TCP ports; `metrics` None means no extra listener."""

    client: int = 2379
    peer: int = 2380
    metrics: int | None = None


@dataclass(frozen=True)
class CaKeySpec:
    """How the keys of CAs lie on this computer."""

    protect: Literal["none", "passphrase", "age"] = "none"
    passphrase: str = "ask"  # noqa: S105 (where it comes from, not what it is)
    """`ask`, `env:NAME` or `fd:NUMBER`."""
    recipients: tuple[str, ...] = ()
    """age recipients, and SSH public keys."""
    identity: Path | None = None
    """The file that opens what was sealed for `recipients`."""


@dataclass(frozen=True)
class ExternalSpec:
    """A CA whose key is not on this computer: whom to trust, and how requests get signed."""

    trust: Path
    peer_trust: Path | None = None
    folder: Path | None = None
    """Requests wait here; None with a command."""
    command: tuple[str, ...] = ()
    """Takes a request on its standard input and writes the chain to its standard output."""
    peer_command: tuple[str, ...] = ()


@dataclass(frozen=True)
class PkiSpec:
    """What certificates look like. Lifetimes in days."""

    peer_ca: Literal["separate", "same"] = "separate"
    key: Literal["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"] = "ecdsa-p256"
    ca_days: int = 3650
    leaf_days: int = 365
    names: tuple[str, ...] = ()
    """More SANs for every server and peer certificate: DNS names or IP addresses."""
    ca_key: CaKeySpec = CaKeySpec()
    external: ExternalSpec | None = None


@dataclass(frozen=True)
class ClusterSpec:
    """The whole wish. `nodes` keeps the inventory's order, which carries no meaning."""

    name: str
    version: Version
    nodes: tuple[NodeSpec, ...]
    source: Path
    """The inventory file: certificates and the journal lie beside it."""
    release: ReleaseSpec = ReleaseSpec()
    service: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Options of the unit's [Service] section: defaults with the operator's merged over them."""
    paths: PathsSpec = PathsSpec()
    ports: PortsSpec = PortsSpec()
    user: str = "etcd"
    pki: PkiSpec = PkiSpec()
    warnings: tuple[str, ...] = ()

    def node(self, name: str) -> NodeSpec:
        """Find a node by its name; KeyError if there is none."""
        return {node.name: node for node in self.nodes}[name]

    def with_addresses(self, found: Mapping[str, str]) -> ClusterSpec:
        """Fill in the addresses read from interfaces, by node name."""
        nodes = tuple(replace(node, address=node.address or found.get(node.name)) for node in self.nodes)
        return replace(self, nodes=nodes)

    def peer_url(self, node: NodeSpec) -> str:
        """The URL other members dial."""
        return url(node.advertised, self.ports.peer)

    def client_url(self, node: NodeSpec) -> str:
        """The URL clients dial."""
        return url(node.advertised, self.ports.client)

    @property
    def initial_cluster(self) -> str:
        """etcd's `initial-cluster`, sorted by name: reordering the inventory is no change."""
        pairs = sorted((node.name, self.peer_url(node)) for node in self.nodes)
        return ",".join(f"{name}={peer}" for name, peer in pairs)


def url(host: str, port: int) -> str:
    """An https URL, with brackets around an IPv6 address."""
    try:
        bracketed = f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        bracketed = host
    return f"https://{bracketed}:{port}"
