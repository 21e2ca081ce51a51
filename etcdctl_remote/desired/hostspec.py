"""All that one host should hold, from the cluster's wish and the node's certificates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..secret import Secret
from . import render
from .model import ClusterSpec, NodeSpec, Version, url
from .spec import DirSpec, FileSpec, HostSpec, LinkSpec
from .words import is_loopback

INSTALL_ROOT = "/opt/etcd"
UNIT_PATH = "/etc/systemd/system/etcd.service"
CONFIG_MODE = 0o750
"""Of `paths.config` and all directories in it: keys are read by etcd's group only."""
BOOTSTRAP_ONLY = frozenset({"initial-cluster", "initial-cluster-state", "initial-cluster-token"})
"""Read only when there is no data; in the digest each scale-out would restart everyone."""
LISTS = {"client-crl-file": "ca.crl", "peer-crl-file": "peer-ca.crl"}
"""etcd's flag for a list of revoked certificates, and the file below `pki/current`."""

Pki = Mapping[str, bytes | Secret]
"""File name below `pki/current` → content: ca.crt, server.crt, server.key, peer-ca.crt, …"""


@dataclass(frozen=True)
class Membership:
    """As what a node belongs to its cluster."""

    token: str
    state: Literal["new", "existing"]
    identity: bytes | None = None
    """Content of the identity file (`identity.Marker`). The link to it is the marker that a member
    lived here: systemd makes it the first time etcd is ready, so it is wanted only from then on."""


def host_spec(
    cluster: ClusterSpec,
    node: NodeSpec,
    membership: Membership,
    pki: Pki,
    *,
    dropins: str = "",
    arch: str = "amd64",
) -> HostSpec:
    """Say what `node` should look like; the same input gives the same bytes.

    `dropins` is a hash over the operator's own drop-ins, as observed: a change restarts.
    `arch` is the host's: hosts of several kinds may be mixed.
    """
    everything = flags(cluster, node, membership, pki)
    stamp = digest(cluster, everything, pki, dropins)
    text = render.unit(cluster, node, everything, stamp, environment(cluster.version, arch))
    config, group = cluster.paths.config, cluster.user
    files = [
        FileSpec(UNIT_PATH, text.encode()),
        FileSpec(f"{config}/etcdctl.env", render.etcdctl_env(cluster, node).encode(), 0o640, group=group),
        FileSpec(f"{cluster.paths.bin}/etcdctl.sh", render.etcdctl_sh(cluster).encode(), 0o755),
        *_certificates(config, group, pki),
    ]
    links = _links(cluster, pki)
    if membership.identity is not None:
        files.append(FileSpec(f"{config}/identity", membership.identity))
        if membership.state == "existing":
            links = (*links, LinkSpec(f"{config}/member", "identity"))
    lasting = frozenset(
        f"--{name}={value}" for name, value in everything.items() if name not in BOOTSTRAP_ONLY
    )
    return HostSpec(node.name, _dirs(cluster, pki), tuple(files), links, stamp, lasting)


def flags(cluster: ClusterSpec, node: NodeSpec, membership: Membership, files: Pki) -> dict[str, str]:
    """Return every flag of etcd's command line: the node's settings and the ones we own."""
    pki, ports = f"{cluster.paths.config}/pki/current", cluster.ports
    owned = {
        "name": node.name,
        "data-dir": cluster.paths.data,
        "listen-peer-urls": url(node.bind, ports.peer),
        "listen-client-urls": ",".join(url(host, ports.client) for host in client_addresses(node)),
        "initial-advertise-peer-urls": cluster.peer_url(node),
        "advertise-client-urls": cluster.client_url(node),
        "initial-cluster": cluster.initial_cluster,
        "initial-cluster-state": membership.state,
        "initial-cluster-token": membership.token,
        "cert-file": f"{pki}/server.crt",
        "key-file": f"{pki}/server.key",
        "trusted-ca-file": f"{pki}/ca.crt",
        "client-cert-auth": "true",
        "peer-cert-file": f"{pki}/peer.crt",
        "peer-key-file": f"{pki}/peer.key",
        "peer-trusted-ca-file": f"{pki}/peer-ca.crt",
        "peer-client-cert-auth": "true",
    }
    if cluster.paths.wal:
        # One below: etcd makes the log as `wal.tmp` beside its place, then removes the place and
        # renames, so that cannot be a mount point (server/storage/wal/wal.go, `Create`).
        owned["wal-dir"] = f"{cluster.paths.wal}/wal"
    if ports.metrics:
        # https with the server's certificate: http would be open to everyone who can reach it.
        # etcd checks here that a client's address is among its certificate's, if it names any.
        owned["listen-metrics-urls"] = url(node.bind, ports.metrics)
    # etcd refuses everybody while a list it was told of is missing; the flags alone are in the digest:
    # what the list says is read at each connection.
    owned |= {flag: f"{pki}/{name}" for flag, name in LISTS.items() if name in files}
    return dict(node.settings) | owned


def client_addresses(node: NodeSpec) -> tuple[str, ...]:
    """List what the client port binds: the node's address and the loopback of the same family.

    The other family's loopback may not exist (IPv6 switched off), and etcd would not start.
    """
    if is_loopback(node.bind):
        return (node.bind,)
    return (node.bind, "::1" if ":" in node.bind else "127.0.0.1")


def environment(version: Version, arch: str) -> tuple[str, ...]:
    """List the variables this release needs on this architecture.

    3.4 refuses arm64 without this one; elsewhere it would warn of a variable it does not know.
    """
    return ("ETCD_UNSUPPORTED_ARCH=arm64",) if (version.line, arch) == ("3.4", "arm64") else ()


def digest(cluster: ClusterSpec, everything: Mapping[str, str], pki: Pki, dropins: str) -> str:
    """Hash all that etcd reads only at start; when it differs from the process's, restart.

    CA bundles are in, they are read once; leaf certificates are not, they are read at every
    handshake. What only a bootstrap reads is out.
    """
    read_at_start = {
        "version": str(cluster.version),
        "flags": {name: value for name, value in everything.items() if name not in BOOTSTRAP_ONLY},
        "service": {key: list(lines) for key, lines in cluster.service.items()},
        "paths": [cluster.paths.bin, cluster.paths.config, cluster.paths.data, cluster.paths.wal],
        "user": cluster.user,
        "ca": {name: _sha256(_bytes(pki[name])) for name in ("ca.crt", "peer-ca.crt") if name in pki},
        "dropins": dropins,
    }
    return _sha256(json.dumps(read_at_start, sort_keys=True).encode())


def generation(pki: Pki) -> str:
    """Name the directory of this set of certificates and keys: the same set, the same name."""
    total = hashlib.sha256()
    for name in sorted(pki):
        total.update(f"{name}\0{_sha256(_bytes(pki[name]))}\n".encode())
    return total.hexdigest()[:16]


def release_dir(version: Version) -> str:
    """Say where the programs of one release live."""
    return f"{INSTALL_ROOT}/v{version}"


def programs(version: Version) -> tuple[str, ...]:
    """List the programs of a release; etcdutl came with 3.5."""
    return ("etcd", "etcdctl") if version.line == "3.4" else ("etcd", "etcdctl", "etcdutl")


def _certificates(config: str, group: str, pki: Pki) -> list[FileSpec]:
    place = f"{config}/pki/{generation(pki)}"
    return [
        FileSpec(f"{place}/{name}", content, 0o640, group=group)
        if name.endswith(".key")
        else FileSpec(f"{place}/{name}", content, 0o644)
        for name, content in sorted(pki.items())
    ]


def _dirs(cluster: ClusterSpec, pki: Pki) -> tuple[DirSpec, ...]:
    """List the directories that are ours; `paths.bin` is not: made where it is missing, else left alone."""
    paths, user = cluster.paths, cluster.user
    found = [
        DirSpec(INSTALL_ROOT, 0o755),
        DirSpec(paths.config, CONFIG_MODE, group=user),
        DirSpec(f"{paths.config}/pki", CONFIG_MODE, group=user),
        DirSpec(f"{paths.config}/pki/{generation(pki)}", CONFIG_MODE, group=user),
        DirSpec(paths.data, 0o700, user, user),
    ]
    if paths.wal:
        found.append(DirSpec(paths.wal, 0o700, user, user))
    return tuple(found)


def _links(cluster: ClusterSpec, pki: Pki) -> tuple[LinkSpec, ...]:
    place = release_dir(cluster.version)
    binaries = [
        LinkSpec(f"{cluster.paths.bin}/{name}", f"{place}/{name}") for name in programs(cluster.version)
    ]
    return (LinkSpec(f"{cluster.paths.config}/pki/current", generation(pki)), *binaries)


def _bytes(content: bytes | Secret) -> bytes:
    return content.reveal if isinstance(content, Secret) else content


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
