"""The connections etcd will make, and how each went when it was tried."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from ..desired.model import ClusterSpec
from ..remote.host import Tunnel

DIAL_SECONDS = 2.0
"""A SYN and one repetition; a network that needs longer is none for etcd."""


@dataclass(frozen=True)
class Way:
    """One connection that etcd, or etcdctl on a node, will make."""

    source: str
    target: str
    kind: str
    """`client` or `peer`."""
    host: str
    """What is dialled: the target's advertised address, on the node itself the bound one."""
    port: int

    def __str__(self) -> str:
        return f"{self.source} → {self.target} ({self.host} port {self.port})"


@dataclass(frozen=True)
class Trial:
    """How one way went."""

    way: Way
    outcome: str
    """`tls`, `tcp` (connected, TLS could not be tried), `waiting` (etcd holds the port and does not
    answer yet), `refused`, `lost`, `certificate`, `broken` or `unknown`."""
    seen: str = ""
    tunnel: Tunnel | None = field(default=None, repr=False, compare=False)


def ways(cluster: ClusterSpec, nodes: Collection[str]) -> Iterator[Way]:
    """List every connection among `nodes`: peers and clients both ways, and etcdctl on each node."""
    ports = {"client": cluster.ports.client, "peer": cluster.ports.peer}
    chosen = [node for node in cluster.nodes if node.name in nodes]
    for source in chosen:
        yield Way(source.name, source.name, "client", source.bind, ports["client"])
        for target in chosen:
            if target is not source:
                for kind, port in ports.items():
                    yield Way(source.name, target.name, kind, target.advertised, port)
