"""Try new leaves before anybody uses them: each is held against all that will meet it.

Whom a running member trusts was decided at its start, whatever its disk says now: so every one of
them is dialled with the new certificate, from the host that will dial it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from ..errors import Refused
from ..observed.state import ClusterState, HostState
from ..observed.wire import shown
from ..pki.authority import Credential
from ..pki.generation import Generation
from ..pki.inspect import Leaf, key_matches, signed_by
from ..pki.profiles import Kind, node_profiles
from ..remote.host import Host
from .session import Session
from .wish import Wish


def refuse_misfit(session: Session, want: Wish, now: ClusterState, nodes: Collection[str]) -> None:
    """Refuse leaves of `nodes` that would not fit: all of them at once, each with what is wrong."""
    refuse_unfit(want, now, nodes)
    held = session.held()
    hosts = {name: session.fleet.hosts[name] for name in nodes if name in now.hosts}
    tried = session.fleet.spread(hosts, lambda host: _tried(want, held, now, host))
    wrong: dict[str, list[str]] = {}
    for name, found in tried.items():
        if isinstance(found, Exception):
            raise found
        wrong[name] = found
    _refuse(wrong)


def refuse_unfit(want: Wish, now: ClusterState, nodes: Collection[str] | None = None) -> None:
    """Refuse leaves that are wrong by themselves, or by the clock of their node; dials nobody."""
    hosts = {name: host for name, host in now.hosts.items() if nodes is None or name in nodes}
    _refuse({name: list(_unfit(want, name, host)) for name, host in hosts.items()})


def _refuse(wrong: Mapping[str, list[str]]) -> None:
    if seen := {name: "; ".join(lines) for name, lines in wrong.items() if lines}:
        raise Refused(
            "new certificates would not fit; nothing was installed",
            "each line names what to mend; a CA is replaced with `rotate-certs --ca`",
            seen,
        )


def _unfit(want: Wish, name: str, host: HostState) -> Iterator[str]:
    """Say what is wrong with a node's leaves by themselves, and by its clock."""
    profiles = node_profiles(want.cluster, want.cluster.node(name))
    clock = _clock(host)
    for kind in Kind:
        leaf, credential = want.generation.leaf(name, kind), want.generation.credential(name, kind)
        yield from (f"{kind.value}: {what}" for what in _wrong(leaf, credential, clock))
        if lacking := sorted(profiles[kind].names - leaf.names):
            yield f"{kind.value}: it does not name {', '.join(lacking)}"
        bundle = want.generation.peer_ca_bundle if kind is Kind.PEER else want.generation.ca_bundle
        if not signed_by(leaf.certificate, credential.certificate_pem, bundle):
            yield f"{kind.value}: no CA of the bundle has signed it"


def _wrong(leaf: Leaf, credential: Credential, clock: datetime) -> Iterator[str]:
    if not key_matches(leaf.certificate, credential.key_pem):
        yield "its key is another certificate's"
    if clock < leaf.not_before:
        yield f"it begins at {leaf.not_before:%Y-%m-%d %H:%M:%S} UTC, and there it is {clock:%Y-%m-%d %H:%M:%S}"
    if clock >= leaf.not_after:
        yield f"it ends at {leaf.not_after:%Y-%m-%d %H:%M:%S} UTC, and there it is {clock:%Y-%m-%d %H:%M:%S}"


def _clock(host: HostState) -> datetime:
    """Tell what the node's clock says now; this machine's if it was not asked."""
    ahead = host.clock - host.asked_at if host.clock and host.asked_at else 0.0
    return datetime.now(UTC) + timedelta(seconds=ahead)


def _tried(want: Wish, held: Generation | None, now: ClusterState, host: Host) -> list[str]:
    """Dial everybody who serves from one host, with its new leaves; say who refuses them.

    Who refuses the present one as well (it has expired, say) is no witness against the new. A member
    whose ports cannot be dialled from its own host could not be seen to show the new one.
    """
    wrong = []
    for address, port, kind, who in _ways(want, now, host.name):
        new = want.generation.credential(host.name, kind)
        served, _ = shown(host, address, port, new, "/version")
        if served.accepted:
            continue
        if not served.refused:
            if address == want.cluster.node(host.name).bind and kind is Kind.CLIENT:
                wrong.append(f"what it shows to new connections cannot be seen: {served.error}")
            continue
        present = held.credentials.get((host.name, kind)) if held else None
        if present not in (None, new) and not shown(host, address, port, present, "/version")[0].accepted:
            continue
        wrong.append(f"{who} refuses its new {kind.value} certificate: {served.error}")
    return wrong


def _ways(want: Wish, now: ClusterState, name: str) -> Iterator[tuple[str, int, Kind, str]]:
    """List what a node dials with which leaf: its own client port, and every other's peer port."""
    cluster = want.cluster
    for node in cluster.nodes:
        host = now.hosts.get(node.name)
        if host is None or not host.serving:
            continue
        if node.name == name:
            yield node.bind, cluster.ports.client, Kind.SERVER, "its own gateway"
            yield node.bind, cluster.ports.client, Kind.CLIENT, "its own client port"
        else:
            yield node.advertised, cluster.ports.peer, Kind.PEER, node.name
