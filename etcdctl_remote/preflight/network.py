"""The network as etcd will use it: every node dials every other, over TLS, before etcd exists.

From each node a TCP connection goes out by its sshd, so with its real source address through
the real firewalls, to a listener on the other node; both TLS ends are ours, with the very
certificates etcd will use. While all are open, the kernels' tables say under which address
each node is seen: etcd turns away a peer whose certificate does not name it.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from ..desired.model import ClusterSpec
from ..errors import Problem
from ..observed.tls import Contexts, call, contexts
from ..pki.generation import Generation
from ..pki.profiles import Address, Kind
from ..remote.fleet import Fleet
from ..remote.host import Command, Host
from . import sockets
from .byhand import look_again
from .doors import TLS_SECONDS, Doors, open_doors
from .facts import Facts
from .sockets import End, Socket, Source, as_address
from .ways import DIAL_SECONDS, Trial, Way, ways

_TABLES = r'cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -E "$1"; exit 0'


@dataclass(frozen=True)
class Probe:
    """Everything the probe saw; `network_findings` says what it means."""

    trials: tuple[Trial, ...] = ()
    sources: Mapping[tuple[str, str], Source] = field(default_factory=dict)
    """Under which address a node (first) is seen by another (second) on its peer port."""
    unprobed: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Why a node's port of this kind could not be tried."""
    resolved: Mapping[str, frozenset[Address]] = field(default_factory=dict)
    """By acceptor: what DNS names in peers' certificates resolve to there."""
    seconds: float = 0.0
    untold: Mapping[str, str] = field(default_factory=dict)
    """By node: why its table of connections could not be read."""


def probe(cluster: ClusterSpec, generation: Generation, fleet: Fleet, facts: Mapping[str, Facts]) -> Probe:
    """Try every way between the nodes we have facts of. Takes some 0.3 s; failing ways take 2 s more."""
    began = time.monotonic()
    hosts = {name: host for name, host in fleet.hosts.items() if name in facts}
    roles = contexts(generation, hosts)
    ports = {"client": cluster.ports.client, "peer": cluster.ports.peer}

    def open_one(host: Host) -> Doors:
        bind = cluster.node(host.name).bind
        return open_doors(host, bind, ports, facts[host.name], roles[host.name])

    with ExitStack() as stack:
        found = fleet.spread(hosts, open_one)
        doors = {
            name: Doors(name, why=dict.fromkeys(ports, seen_as(opened)))
            if isinstance(opened, Exception)
            else opened
            for name, opened in found.items()
        }
        stack.callback(lambda: fleet.spread(doors, lambda found: found.close()))
        todo = [way for way in ways(cluster, doors) if way.kind in doors[way.target].open]
        trials = _try_all(fleet, todo, doors, roles)
        stack.callback(_close, trials)
        trials = look_again(fleet, hosts, trials, stack)
        sources, untold = _sources(cluster, fleet, hosts, facts, trials)
        resolved = _resolve(generation, fleet, hosts, sources)
    unprobed = {(name, kind): why for name, found in doors.items() for kind, why in found.why.items()}
    return Probe(tuple(trials), sources, unprobed, resolved, time.monotonic() - began, untold)


def seen_as(error: Exception) -> str:
    """Say in one line what went wrong, whatever it was."""
    return error.message if isinstance(error, Problem) else f"{type(error).__name__}: {error}"


def _try_all(
    fleet: Fleet, todo: Sequence[Way], doors: Mapping[str, Doors], roles: Mapping[str, Contexts]
) -> list[Trial]:
    def one(way: Way) -> Trial:
        return _try(way, fleet.hosts[way.source], doors[way.target].open[way.kind], roles[way.source])

    found = fleet.spread({str(number): way for number, way in enumerate(todo)}, one)
    return [
        Trial(way, "unknown", seen_as(result)) if isinstance(result, Exception) else result
        for way, result in zip(todo, found.values(), strict=True)
    ]


def _try(way: Way, host: Host, door: str, role: Contexts) -> Trial:
    """Dial, then shake hands; the tunnel stays open for the tables to be read."""
    began = time.monotonic()
    try:
        tunnel = host.dial(way.host, way.port, DIAL_SECONDS)
    except PermissionError as error:
        return Trial(way, "unknown", str(error.strerror or error))
    except TimeoutError as error:
        # Of two channels refused at the same moment paramiko tells only one why: that is quick.
        late = time.monotonic() - began > DIAL_SECONDS * 0.9
        return (
            Trial(way, "lost", f"no answer in {DIAL_SECONDS:g} s")
            if late
            else Trial(way, "unknown", str(error))
        )
    except OSError as error:
        return Trial(way, "refused", str(error.strerror or error))
    if door == "plain":
        return Trial(way, "tcp", "", tunnel)
    try:
        call(tunnel, role.dial[way.kind], way.host, TLS_SECONDS)
    except ssl.SSLCertVerificationError as error:
        return Trial(way, "certificate", error.verify_message, tunnel)
    except ssl.SSLError as error:
        return Trial(way, "certificate", error.reason or str(error), tunnel)
    except TimeoutError:
        return Trial(way, "waiting" if door == "etcd" else "broken", "no answer to the TLS handshake", tunnel)
    except (OSError, EOFError) as error:
        return Trial(way, "broken", str(error) or "the connection was closed", tunnel)
    return Trial(way, "tls", "", tunnel)


def _close(trials: Sequence[Trial]) -> None:
    for trial in trials:
        if trial.tunnel:
            with suppress(OSError, EOFError):
                trial.tunnel.close()


def _sources(
    cluster: ClusterSpec,
    fleet: Fleet,
    hosts: Mapping[str, Host],
    facts: Mapping[str, Facts],
    trials: Sequence[Trial],
) -> tuple[dict[tuple[str, str], Source], dict[str, str]]:
    """Read all tables while the connections are open; see under which address each peer is seen.

    With it, why some tables could not be read.
    """
    port = cluster.ports.peer
    opened = [
        t.way for t in trials if t.way.kind == "peer" and t.outcome not in ("refused", "lost", "unknown")
    ]
    found = _tables(fleet, hosts, port) if opened else {}
    tables = {name: table for name, table in found.items() if not isinstance(table, Exception)}
    untold = {name: seen_as(error) for name, error in found.items() if isinstance(error, Exception)}
    return sources(port, opened, tables, lambda way: _addresses(way, facts)), untold


def _tables(fleet: Fleet, hosts: Mapping[str, Host], port: int) -> dict[str, tuple[Socket, ...] | Exception]:
    command = Command(
        _TABLES, (sockets.grep([port]),), about="read the TCP table", root=False, writes=False, timeout=10
    )
    return fleet.spread(hosts, lambda host: sockets.parse(host.run(command).text.splitlines()))


def _addresses(way: Way, facts: Mapping[str, Facts]) -> set[Address]:
    """What the dialler's table shows as the far end of this way."""
    texts = facts[way.source].names.get(way.host, (way.host,))
    return {address for text in texts if (address := as_address(text))}


def sources(
    port: int,
    opened: Sequence[Way],
    tables: Mapping[str, Collection[Socket]],
    addresses: Callable[[Way], Collection[Address]],
) -> dict[tuple[str, str], Source]:
    """Join the dialler's table with the acceptor's, for each way to a peer port."""
    dialled = {
        way: {
            entry.local
            for entry in tables.get(way.source, ())
            if entry.remote.port == port and entry.remote.address in addresses(way)
        }
        for way in opened
    }
    explained: set[End] = {end for ends in dialled.values() for end in ends}
    found: dict[tuple[str, str], Source] = {}
    for way in opened:
        accepted = {entry.remote for entry in tables.get(way.target, ()) if entry.local.port == port}
        source = sockets.source_of(dialled[way], accepted, explained)
        if source.addresses:
            found[way.source, way.target] = source
    return found


def _resolve(
    generation: Generation,
    fleet: Fleet,
    hosts: Mapping[str, Host],
    sources: Mapping[tuple[str, str], Source],
) -> dict[str, frozenset[Address]]:
    """Ask an acceptor for the DNS names of peers whose address no certificate names."""
    wanted: dict[str, set[str]] = {}
    for (dialler, acceptor), source in sources.items():
        names = generation.leaf(dialler, Kind.PEER).names
        if not all(sockets.admitted(address, names) for address in source.addresses):
            dns = {name for name in names if as_address(name) is None and ":" not in name}
            wanted.setdefault(acceptor, set()).update(dns)
    script = 'for n do getent ahosts "$n"; done; exit 0'

    def ask(host: Host) -> frozenset[Address]:
        names = tuple(sorted(wanted[host.name]))
        command = Command(script, names, about="resolve names", root=False, writes=False, timeout=10)
        lines = host.run(command).text.splitlines()
        return frozenset(found for line in lines if line.split() and (found := as_address(line.split()[0])))

    try:
        found = fleet.spread({name: hosts[name] for name in wanted}, ask)
    except Problem:
        return {}
    return {name: answer for name, answer in found.items() if isinstance(answer, frozenset)}
