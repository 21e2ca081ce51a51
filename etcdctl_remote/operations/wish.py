"""What a deploy wants, and what it imagines: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..acquire import Archive
from ..desired.hostspec import BOOTSTRAP_ONLY, Membership, host_spec
from ..desired.identity import Marker, cluster_id, member_id
from ..desired.model import ClusterSpec, NodeSpec
from ..desired.spec import HostSpec
from ..observed.state import ClusterState, HostState, PathState, UnitState
from ..pki.generation import Generation


@dataclass(frozen=True)
class Wish:
    """All that a plan is computed from, besides the observation."""

    cluster: ClusterSpec
    generation: Generation
    archives: Mapping[str, Archive]
    """The release archive by architecture; only where a host lacks it."""

    def spec(self, node: NodeSpec, now: HostState, *, formed: bool) -> HostSpec:
        """Say what the host should look like: before the cluster exists, or from then on."""
        return host_spec(
            self.cluster,
            node,
            Membership(
                self.generation.token, "existing" if formed else "new", identity=self._marker(node, now)
            ),
            self.generation.node_files(node.name),
            dropins=now.dropins_hash,
            arch=now.arch,
        )

    def _marker(self, node: NodeSpec, now: HostState) -> bytes:
        """Remember the ids the member reports; before it runs, those bootstrap will give it."""
        if now.cluster_id is not None and now.member_id is not None:
            ids = now.cluster_id, now.member_id
        elif now.marker:
            ids = now.marker.cluster_id, now.marker.member_id
        else:
            ids = self.bootstrap_ids(node)
        return Marker(self.cluster.name, f"{ids[0]:x}", f"{ids[1]:x}", node.name).encode()

    def bootstrap_ids(self, node: NodeSpec) -> tuple[int, int]:
        """Return the cluster id and the member id that etcd derives from peer URLs and token."""
        token = self.generation.token
        members = {n.name: member_id([self.cluster.peer_url(n)], token) for n in self.cluster.nodes}
        return cluster_id(list(members.values())), members[node.name]


def formed(now: ClusterState) -> bool:
    """Whether this cluster has ever had a leader: from then on nobody is new."""
    return now.formed


def stale(spec: HostSpec, unit: UnitState) -> bool:
    """Whether the running process was started with something else than is wanted.

    Observed, never remembered: the digest in its own environment, and its command line. A unit
    that was edited by hand carries our digest for flags that are not ours.
    """
    if unit.flags is None:
        return unit.digest != spec.digest
    lasting = {flag for flag in unit.flags if flag.partition("=")[0].removeprefix("--") not in BOOTSTRAP_ONLY}
    return unit.digest != spec.digest or lasting != spec.flags


def as_paths(spec: HostSpec) -> dict[str, PathState]:
    """Say how an observation sees a host that is exactly as wanted."""
    paths = {d.path: PathState("directory", d.mode, d.owner, d.group) for d in spec.dirs}
    for link in spec.links:
        paths[link.path] = PathState("link", 0o777, "root", "root", target=link.target)
    for file in spec.files:
        text = None if file.secret else file.data.decode("utf-8", "replace")
        paths[file.path] = PathState("file", file.mode, file.owner, file.group, file.sha256, text)
    return paths
