"""Which certificates a node needs, and what stands in each.

Every certificate names one node only. Nothing here knows keys or files.
"""

from __future__ import annotations

import enum
import hashlib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from ..desired.model import ClusterSpec, NodeSpec
from ..errors import UsageError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
KeyType = Literal["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"]
Usage = Literal["server", "client"]

_BOTH: tuple[Usage, ...] = ("server", "client")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NAME_BYTES = 253
_COMMON_NAME = 64  # RFC 5280, ub-common-name


class Kind(enum.Enum):
    """What a leaf is for; the value is the word the operator types."""

    SERVER = "server"
    PEER = "peer"
    CLIENT = "client"

    @property
    def stem(self) -> str:
        """The file name without its suffix, as etcdadm and kubeadm call it."""
        return "etcdctl" if self is Kind.CLIENT else self.value


@dataclass(frozen=True)
class Profile:
    """Everything a leaf says, before it has a key, a date or an issuer."""

    common_name: str
    dns: tuple[str, ...]
    addresses: tuple[Address, ...]
    usages: tuple[Usage, ...]
    days: int
    key: KeyType = "ecdsa-p256"
    uris: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """All subject alternative names as text: what an observed leaf is compared with."""
        return frozenset((*self.dns, *map(str, self.addresses), *self.uris))


def node_profiles(cluster: ClusterSpec, node: NodeSpec) -> dict[Kind, Profile]:
    """Say what the three leaves of `node` must contain.

    Common names carry a prefix because etcd takes the CN of a client certificate for a user
    name once `auth enable` was given, and server certificates can serve as client ones: a node
    called `root` must not make a superuser.
    """
    return {
        Kind.SERVER: _server(cluster, node),
        Kind.PEER: _peer(cluster, node),
        Kind.CLIENT: _client(cluster, node),
    }


def _server(cluster: ClusterSpec, node: NodeSpec) -> Profile:
    """What clients dial: the advertised and bound address, names, and loopback on the node itself.

    `clientAuth` too: etcd's JSON gateway dials its own gRPC port with this certificate
    (etcd#9785). `host`, what SSH dials, is no name of etcd's.
    """
    local = ("localhost", "127.0.0.1", "::1")
    return _listener("etcd-server", cluster, node, (*local, *_reached(node), *cluster.pki.names))


def _peer(cluster: ClusterSpec, node: NodeSpec) -> Profile:
    """What members dial and dial from; both usages, since peers connect both ways.

    The accepting peer wants the source address among the IP names, and passes at once if it
    is; only then does it try the DNS names, by reverse and forward lookup (etcd's
    `checkCertSAN`). So DNS names beside the addresses never harm, and help a host with
    several addresses that a resolver knows.
    """
    return _listener("etcd-peer", cluster, node, (*_reached(node), *cluster.pki.names))


def _listener(prefix: str, cluster: ClusterSpec, node: NodeSpec, names: Iterable[str]) -> Profile:
    dns, addresses = split_names(names)
    if resolvable(node.name) and node.name.lower() not in dns:
        dns = (node.name.lower(), *dns)
    return Profile(
        common_name(prefix, node.name), dns, addresses, _BOTH, cluster.pki.leaf_days, cluster.pki.key
    )


def _client(cluster: ClusterSpec, node: NodeSpec) -> Profile:
    """The certificate of etcdctl on this node, and of the laptop that acts for it.

    Its only name is a URI: strict verifiers want a name, while a DNS or IP name would be
    held against the caller's address on an https metrics port.
    """
    uri = f"urn:etcdctl-remote:{quote(cluster.name, safe='')}:{quote(node.name, safe='')}"
    pki = cluster.pki
    return Profile(common_name("etcdctl", node.name), (), (), ("client",), pki.leaf_days, pki.key, (uri,))


def _reached(node: NodeSpec) -> tuple[str, ...]:
    return (node.bind, node.advertised, *node.names)


def split_names(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[Address, ...]]:
    """Sort names into DNS names and addresses, each once, in the order given.

    An unspecified address (`0.0.0.0`, `::`) is nothing one can dial and falls out.
    """
    dns: dict[str, None] = {}
    addresses: dict[Address, None] = {}
    for name in names:
        address = _address(name)
        if address is None:
            dns[_dns_name(name)] = None
        elif not address.is_unspecified:
            addresses[address] = None
    return tuple(dns), tuple(addresses)


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _dns_name(text: str) -> str:
    """Bring a host name into the form certificates hold: lower case, ASCII, no final dot."""
    try:
        name = text if text.isascii() else text.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    name = name.lower().removesuffix(".")
    if not _well_formed(name.removeprefix("*.")):
        raise UsageError(
            f"{text!r} cannot stand in a certificate: neither a host name nor an IP address",
            "correct it under `names`, `advertise` or `pki.names` in the inventory",
        )
    return name


def resolvable(name: str) -> bool:
    """Whether a node's name could be a host name that somebody dials."""
    return name.isascii() and _address(name) is None and _well_formed(name.lower()) and "_" not in name


def _well_formed(name: str) -> bool:
    return len(name) <= _NAME_BYTES and all(_LABEL.fullmatch(label) for label in name.split("."))


def common_name(prefix: str, name: str) -> str:
    """Join prefix and name, shortened with a digest where a certificate has no room for it."""
    whole = f"{prefix}-{name}"
    if len(whole) <= _COMMON_NAME:
        return whole
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{whole[: _COMMON_NAME - 13]}-{digest}"
