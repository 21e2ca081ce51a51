"""A cluster of three with all its certificates in place: tests spoil what they are about."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, Version
from etcdctl_remote.observed.certificates import File, NodeCertificates
from etcdctl_remote.observed.judging import judge
from etcdctl_remote.observed.state import Served, Wire
from etcdctl_remote.observed.verdicts import Row, Sight
from etcdctl_remote.pki.authority import Authority, Credential, load_key
from etcdctl_remote.pki.generation import Generation, begin, renewed
from etcdctl_remote.pki.inspect import read_leaf
from etcdctl_remote.pki.profiles import Kind, Profile, node_profiles
from etcdctl_remote.secret import Secret

BORN = datetime(2030, 5, 17, 12, tzinfo=UTC)
NODES = tuple(NodeSpec(f"n{i}", f"h{i}", address=f"10.0.0.{i}") for i in (1, 2, 3))
CLUSTER = ClusterSpec("demo", Version(3, 6, 14), NODES, Path("inventory.yaml"))
Where = tuple[str, str, str]
"""Node, role, place."""


@cache
def generation() -> Generation:
    """The certificates as a first deploy makes them."""
    return renewed(begin(CLUSTER, BORN), CLUSTER, BORN)


def healthy(held: Generation | None = None, now: datetime = BORN) -> Sight:
    """Everything as deployed, seen at `now`."""
    held = held or generation()
    return Sight(CLUSTER, held, {node.name: on_node(held, node.name) for node in NODES}, {}, now)


def on_node(held: Generation, node: str) -> NodeCertificates:
    """A node that holds and serves what the laptop holds for it."""
    files = {name: file(content) for name, content in held.node_files(node).items()}
    wire = Wire(shown(held.credential(node, Kind.SERVER)), shown(held.credential(node, Kind.PEER)))
    return NodeCertificates(node, "/etc/etcd/pki/current", files, timedelta(), True, False, wire)


def file(content: bytes | Secret) -> File:
    """A certificate or a key as deploy writes it."""
    if isinstance(content, Secret):
        return File(0o640, "root", "etcd", sha256=hashlib.sha256(content.reveal).hexdigest())
    return File(0o644, "root", "root", content)


def shown(credential: Credential) -> Served:
    """A port that serves this certificate, and takes ours."""
    return Served(credential.certificate_pem, True)


def changed(sight: Sight, node: str, **changes: Any) -> Sight:
    """The same with something else about one node."""
    return replace(sight, nodes={**sight.nodes, node: replace(sight.nodes[node], **changes)})


def with_files(sight: Sight, node: str, files: Mapping[str, File | None]) -> Sight:
    """The same with other files on one node; None removes one."""
    merged = {**sight.nodes[node].files, **files}
    return changed(sight, node, files={name: each for name, each in merged.items() if each})


def issued(
    kind: Kind, node: str = "n1", ca: Authority | None = None, at: datetime = BORN, **says: Any
) -> Credential:
    """Another certificate of a node, different in what is given."""
    profile: Profile = replace(node_profiles(CLUSTER, CLUSTER.node(node))[kind], **says)
    return (ca or generation().authorities.signer(kind)).issue(profile, at)


def placed(sight: Sight, kind: Kind, credential: Credential, node: str = "n1") -> Sight:
    """The same with this pair on a node's disk, which its member serves."""
    files = {
        f"{kind.stem}.crt": file(credential.certificate_pem),
        f"{kind.stem}.key": file(credential.key_pem),
    }
    sight, wire = with_files(sight, node, files), sight.nodes[node].wire
    assert wire
    if kind is Kind.CLIENT:
        return sight
    if kind is Kind.SERVER:
        return changed(sight, node, wire=replace(wire, client=shown(credential)))
    return changed(sight, node, wire=replace(wire, peer=shown(credential)))


def holding(kind: Kind, credential: Credential, node: str = "n1") -> Generation:
    """The laptop's certificates with another one."""
    held, slot = generation(), (node, kind)
    leaf = read_leaf(credential.certificate_pem, credential.key_pem)
    return replace(
        held, credentials={**held.credentials, slot: credential}, leaves={**held.leaves, slot: leaf}
    )


def intermediate(root: Authority, days: int = 1000) -> tuple[Authority, bytes]:
    """A CA below a CA, and its certificate."""
    own = Authority.create("inner", "ecdsa-p256", days, BORN)
    assert root.key
    built = x509.CertificateBuilder(
        root.parsed.subject,
        own.parsed.subject,
        own.parsed.public_key(),
        x509.random_serial_number(),
        own.parsed.not_valid_before_utc,
        own.parsed.not_valid_after_utc,
    ).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    pem = built.sign(load_key(root.opened), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return Authority(pem + root.certificate, own.key), pem


def rows(sight: Sight) -> dict[Where, Row]:
    """Judge, by where each is; of several CAs in a bundle the last."""
    return {(row.node, row.role, row.place): row for row in judge(sight)}


def bad(sight: Sight) -> dict[Where, str]:
    """The verdicts that are not ok."""
    return {where: str(row.verdict) for where, row in rows(sight).items() if row.faults}
