"""The composition root: inventory, hosts, lock, journal, made into the `Session` of a task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .desired import inventory
from .desired.model import ClusterSpec
from .errors import Failed, Problem, UsageError, gather
from .operations.session import Session, Ways
from .pki.keyring import Keyring
from .plan.journal import Journal, beside, operator
from .remote.host import Command, Host

if TYPE_CHECKING:
    from .remote.fleet import Fleet

Mode = Literal["read", "command", "change"]

_ADDRESSES = """
command -v ip >/dev/null || { echo "there is no ip command" >&2; exit 1; }
ip -o addr show dev "$1" scope global 2>/dev/null
exit 0
"""
_PASSING = frozenset({"secondary", "deprecated", "temporary", "dadfailed"})
"""Marks of an address that may be gone tomorrow, or is somebody else's to move."""


@contextmanager
def session(
    path: Path,
    task: str,
    mode: Mode = "read",
    *,
    partial: bool = False,
    ways: Ways | None = None,
    arguments: Mapping[str, object] | None = None,
) -> Iterator[Session]:
    """Connect to all hosts of an inventory, in one of three modes.

    `read`: the connections refuse every command that could change a host. `command`: they do
    not, and the journal is kept. `change`: moreover the lock is taken on every host.

    `partial` goes on when some hosts are unreachable, lack the interface they are named by, or
    cannot be locked, and names them in the session; otherwise one of them ends the task. To
    change something, a majority has to be locked.
    """
    ways = ways or Ways()
    cluster = inventory.load(path)
    keys = Keyring(cluster.pki.ca_key, ways.password)
    journal = Journal(beside(path), warn=ways.tell) if mode != "read" else None
    with _journaled(journal), ExitStack() as stack:
        if journal:
            journal.start(task, cluster.name, dict(arguments or {}))
        from .remote.fleet import Fleet

        fleet, unreachable = Fleet.connect(
            cluster, read_only=mode == "read", require_all=not partial, password=ways.password, tell=ways.tell
        )
        stack.callback(fleet.close)
        session = Session(cluster, fleet, journal, ways, unreachable, keys=keys)
        if mode == "change":
            session = stack.enter_context(_locked(session, task, partial=partial))
        yield _addressed(session, partial=partial)


@contextmanager
def _locked(session: Session, task: str, *, partial: bool) -> Iterator[Session]:
    """Take the lock on every host; with `partial`, leave out whom it cannot be taken on."""
    from .remote.lock import hold, hold_most

    fleet, tell = session.fleet, session.ways.tell
    if partial:
        holding = hold_most(fleet, session.unreachable, operator(), task, tell=tell)
    else:
        holding = hold(fleet, operator(), task, tell=tell)
    with holding as lock:
        unreachable = {**session.unreachable, **lock.left_out}
        yield replace(session, fleet=lock.fenced(fleet), unreachable=unreachable, still_ours=lock.require)


@contextmanager
def _journaled(journal: Journal | None) -> Iterator[None]:
    """Write how the run ended, whatever ended it."""
    try:
        yield
    except Problem as problem:
        if journal:
            journal.end(problem.exit_code, str(problem))
        raise
    except KeyboardInterrupt:
        if journal:
            journal.end(130, "interrupted")
        raise
    except BaseException as error:
        if journal:
            journal.end(1, f"{type(error).__name__}: {error}")
        raise
    if journal:
        journal.end(journal.exit)


def _addressed(session: Session, *, partial: bool) -> Session:
    """Fill in the addresses that only the hosts know; a host that cannot say its own is left out."""
    fleet = session.fleet
    addresses, silent = _interfaces(session.cluster, fleet, partial=partial)
    if silent:
        fleet = replace(fleet, hosts={name: host for name, host in fleet.hosts.items() if name not in silent})
    return replace(
        session,
        cluster=session.cluster.with_addresses(addresses),
        fleet=fleet,
        unreachable={**session.unreachable, **silent},
    )


def _interfaces(
    cluster: ClusterSpec, fleet: Fleet, *, partial: bool = False
) -> tuple[dict[str, str], dict[str, Problem]]:
    """Read the addresses of nodes that name an interface instead; with `partial`, why some have none."""
    asked = [node.name for node in cluster.nodes if node.interface and node.name in fleet.hosts]

    def address(host: Host) -> str:
        interface = cluster.node(host.name).interface or ""
        about = f"read the address of {interface}"
        command = Command(_ADDRESSES, (interface,), about=about, writes=False, root=False)
        found = candidates(host.run(command).text)
        if len(found) != 1:
            raise _undecided(host.name, interface, found)
        return found[0]

    if not asked:
        return {}, {}
    if not partial:
        return fleet.each(address, hosts=asked, doing="read interface addresses"), {}
    answers = fleet.spread({name: fleet.hosts[name] for name in asked}, address)
    failures = {name: answer for name, answer in answers.items() if isinstance(answer, Exception)}
    if not all(isinstance(error, Problem) for error in failures.values()):
        raise gather(failures, "read interface addresses")
    silent = {name: _no_usage(error) for name, error in failures.items() if isinstance(error, Problem)}
    return {name: answer for name, answer in answers.items() if isinstance(answer, str)}, silent


def candidates(listed: str) -> list[str]:
    """Keep the addresses a member can be known by, in the kernel's order; IPv4 before IPv6.

    An address without a network beside one that has one is a virtual one: it floats.
    """
    found: dict[str, list[tuple[str, bool]]] = {"inet": [], "inet6": []}
    for line in listed.splitlines():
        words = line.partition("\\")[0].split()
        if len(words) > 3 and words[2] in found and not _PASSING & set(words):
            address, _, prefix = words[3].partition("/")
            found[words[2]].append((address, prefix not in ("", "32", "128")))
    family = found["inet"] or found["inet6"]
    networked = [address for address, network in family if network]
    return networked or [address for address, _ in family]


def _undecided(node: str, interface: str, found: list[str]) -> UsageError:
    if found:
        return UsageError(
            f"{node}: the interface {interface} has several addresses: {', '.join(found)}",
            "say which one by the node's `address` instead of `interface`",
        )
    return UsageError(
        f"{node}: the interface {interface} does not exist or has no lasting global address",
        "`ip addr` there lists them; mend the node's `interface`, or give its `address` instead",
    )


def _no_usage(problem: Problem) -> Problem:
    """An interface that is down does not make the task's arguments wrong."""
    return Failed(problem.message, problem.hint) if isinstance(problem, UsageError) else problem


@contextmanager
def offline(
    path: Path, task: str, arguments: Mapping[str, object], ways: Ways
) -> Iterator[tuple[ClusterSpec, Keyring]]:
    """Work with the certificates beside an inventory: the journal is kept, no host is asked."""
    cluster = inventory.load(path)
    keys = Keyring(cluster.pki.ca_key, ways.password)
    journal = Journal(beside(path), warn=ways.tell)
    with _journaled(journal):
        journal.start(task, cluster.name, dict(arguments))
        yield cluster, keys


def addressed(cluster: ClusterSpec, path: Path, ways: Ways) -> ClusterSpec:
    """Fill in the addresses that only the hosts know; where all are known, none is asked."""
    if all(node.address for node in cluster.nodes):
        return cluster
    with session(path, "read addresses", ways=ways) as opened:
        return opened.cluster
