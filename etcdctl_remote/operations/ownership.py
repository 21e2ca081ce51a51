"""Whose a host is, by what the host itself says. Pure.

A task that stops, starts or removes an etcd must know that it is this cluster's: the same
host may be named in two inventories, or run an etcd that somebody set up by hand.
"""

from __future__ import annotations

from ..desired.identity import Marker
from ..desired.model import ClusterSpec
from ..observed.lost import HOLDS, data_paths
from ..observed.state import ClusterState, Data, HostState
from ..pki.generation import Generation, refuse_other_nodes


def identity_path(cluster: ClusterSpec) -> str:
    """Name the file that says whose member a host is; it is there before the first start."""
    return f"{cluster.paths.config}/identity"


def token_of(host: HostState) -> str | None:
    """Read the cluster token from the installed unit; two clusters of one name differ in it."""
    return (host.told.token or None) if host.told else None


def foreign(cluster: ClusterSpec, host: HostState, token: str) -> str:
    """Say what lies in a host's data directories that is not, or may not be, this cluster's."""
    marked, seen = host.marker is not None, ""
    ours = marked or token_of(host) == token
    for path, data in data_paths(cluster, host):
        if data is Data.UNKNOWN:
            seen = f"did not tell what {path} holds: look there, then run the task again"
        elif data is Data.OTHER and not marked:
            seen = f"{path} holds files that are not etcd's: empty it or choose another paths.data"
        elif data is Data.TORN and not marked:
            seen = (
                f"{path}/member/snap/db has data in it, and its log is gone or kept elsewhere: no first start "
                f"leaves that. Put the log back; if nobody needs that data, move {path}/member away"
            )
        elif data.unfinished and not ours:
            seen = f"{path} {HOLDS[data]}, by an etcd that is not ours: move it away or choose another path"
        elif data is Data.MEMBER and not ours:
            seen = f"{path} holds the data of an etcd that is not ours: move it away or choose another path"
    return seen


def refuse_other_store(cluster: ClusterSpec, held: Generation | None, now: ClusterState) -> None:
    """Refuse when neither an address nor a host's own unit ties these nodes to the certificates."""
    if held and not any(token_of(host) == held.token for host in now.hosts.values()):
        refuse_other_nodes(held, cluster)


def named(cluster: ClusterSpec, host: HostState) -> bool:
    """Whether the host says that it belongs to a cluster of this name."""
    if host.marker:
        return host.marker.cluster == cluster.name
    identity = host.paths.get(identity_path(cluster))
    try:
        return Marker.decode((identity.text or "").encode()).cluster == cluster.name if identity else False
    except ValueError:
        return False


def ours(cluster: ClusterSpec, host: HostState, token: str | None) -> bool:
    """Whether the host belongs to the very cluster this laptop deployed, so that it may be touched.

    The token is random and made once, so the unit that carries it says so. Where there is no
    unit (a deploy cut off early) or no token of our own (the certs folder is elsewhere), the
    name has to do; but never for data.
    """
    if token is None:
        return named(cluster, host)
    if token_of(host) is None:
        return named(cluster, host) and host.data is not Data.MEMBER
    return token_of(host) == token
