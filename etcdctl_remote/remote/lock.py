"""One run at a time on a cluster: a lock on every host, held as long as we are connected.

The kernel keeps the lock (flock), for a process on the host that ends with our connection. So
a killed laptop leaves no lock behind, and no file can lie about who holds it.

A run that can do with a majority of the hosts takes as many locks as it gets. Two majorities
share a host, so it is still one run at a time.

What the dead laptop began may go on for a while: an unpack, a stop. So every command that
writes holds a second file, shared, for as long as it lives; whoever takes the lock waits
for that one too. And a command that starts only after the lock went to another run does nothing.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from ..errors import CommandFailed, ConnectionLost, Locked, Problem, UsageError, gather
from .fence import BUSY, LOOK, TAKEN, Beside, Fence, Fenced, Terms, listed, still_busy, taken
from .fleet import Fleet
from .host import Command, Held, Host

PATH = "/run/etcdctl-remote.lock"
PATIENCE = 30.0
"""Seconds we wait for that: an unpack takes a few, and nothing but a sick disk takes longer."""
RETURN = 2.0
"""Seconds given to all hosts to free their locks at the end; one that is frozen does not answer."""
HASTE = 0.3
"""The same after Ctrl-C: the connections are closed next, and that frees the locks too."""

# $1 the lock, $2 the file that commands under way hold, $3 the holder. The holder is written
# before the second file is tried: what a former run sends from then on does nothing.
_HOLD = (
    LOOK
    + r"""
flock -w 1 9 || whose "$1"
printf '%s\n%s\n' "$3" "$self" >"$1" || exit 1
flock -w 2 8 || tell "$2"
: >"$2"
exec 8>&-
echo held
exec cat >/dev/null
"""
)


@dataclass(frozen=True)
class Lock:
    """The locks of one run, by host."""

    fence: Fence
    held: dict[str, Held] = field(default_factory=dict)
    left_out: dict[str, Problem] = field(default_factory=dict)
    """Why the others have none: nothing is written there."""

    def fenced(self, fleet: Fleet) -> Fleet:
        """The hosts that are locked; every command that writes there does so under this lock."""
        return _on(replace(fleet, hosts={name: fleet.hosts[name] for name in self.held}), self.fence)

    def alive(self) -> bool:
        """Whether every host still holds its lock for us."""
        return all(held.alive() for held in self.held.values())

    def require(self) -> None:
        """Raise ConnectionLost naming the hosts whose lock is gone: others may be at work there."""
        lost = {name: "the lock is gone" for name, held in self.held.items() if not held.alive()}
        if lost:
            raise ConnectionLost("the cluster's lock was lost", "run the task again", lost)


@contextmanager
def hold(
    fleet: Fleet,
    who: str,
    task: str,
    now: datetime | None = None,
    path: str = PATH,
    tell: Callable[[str], None] = lambda line: None,
) -> Iterator[Lock]:
    """Take the lock on every host, or Refused: who has it, with which task, and since when.

    The first host by name is asked first and alone, so that of two runs that start together
    one gets everything and the other nothing. `tell` hears what we wait for.
    """
    with _lock(fleet, who, task, now, path) as lock:
        names = sorted(fleet.hosts)
        for hosts in (names[:1], names[1:]):
            if hosts:
                fleet.each(lambda host: _take(lock, host, tell), hosts, doing="take the lock")
        yield lock


@contextmanager
def hold_most(
    fleet: Fleet,
    unreachable: Mapping[str, Problem],
    who: str,
    task: str,
    path: str = PATH,
    tell: Callable[[str], None] = lambda line: None,
) -> Iterator[Lock]:
    """Take the lock on all hosts that give it, a majority of all nodes at least; the others are left out.

    The hosts are asked one by one until one has given it, then the rest together. Somebody
    else's lock on any of them is Refused, as ever.
    """
    with _lock(fleet, who, task, None, path) as lock:
        lock.left_out.update(unreachable)
        nodes, waiting = len(unreachable) + len(fleet.hosts), sorted(fleet.hosts)
        while waiting and 2 * len(lock.left_out) < nodes:
            hosts = waiting if lock.held else waiting[:1]
            waiting = waiting[len(hosts) :]
            lock.left_out.update(_failures(lock, fleet, hosts, tell))
        if 2 * len(lock.left_out) >= nodes:
            raise _too_few(lock.left_out, nodes)
        yield lock


@contextmanager
def _lock(fleet: Fleet, who: str, task: str, now: datetime | None, path: str) -> Iterator[Lock]:
    """A lock that no host has given yet; those that have at the end get it back."""
    since = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    holder = json.dumps({"who": who, "task": task, "since": since, "run": secrets.token_hex(4)})
    lock = Lock(Fence(path, _busy(path), holder))
    patience = RETURN
    try:
        yield lock
    except KeyboardInterrupt:
        patience = HASTE
        raise
    finally:
        end = time.monotonic() + patience
        fleet.spread(lock.held, lambda held: held.close(max(0.0, end - time.monotonic())))


def beside(fleet: Fleet, whose: str, path: str = PATH) -> Fleet:
    """The same hosts without a lock: what is held open there is so only while nobody else is at work."""
    return _on(fleet, Beside(path, _busy(path), whose))


def _on(fleet: Fleet, terms: Terms) -> Fleet:
    return replace(fleet, hosts={name: Fenced(name, host, terms) for name, host in fleet.hosts.items()})


def _busy(path: str) -> str:
    return f"{path.removesuffix('.lock')}.busy"


def _failures(lock: Lock, fleet: Fleet, hosts: list[str], tell: Callable[[str], None]) -> dict[str, Problem]:
    """Take the lock on these hosts; why some did not give it, unless another run has it."""
    found = fleet.spread({name: fleet.hosts[name] for name in hosts}, lambda host: _take(lock, host, tell))
    failures = {name: error for name, error in found.items() if isinstance(error, Exception)}
    ends = {
        name: error
        for name, error in failures.items()
        if isinstance(error, Locked) or not isinstance(error, Problem)
    }
    if ends:
        raise gather(ends, "take the lock")
    return {name: error for name, error in failures.items() if isinstance(error, Problem)}


def _too_few(left_out: Mapping[str, Problem], nodes: int) -> Problem:
    problem = gather(left_out, "take the lock")
    if len(left_out) == 1:
        return problem
    seen = (
        f"{len(left_out)} of {nodes} hosts cannot be locked: the others are no majority; nothing was changed"
    )
    return type(problem)(seen, problem.hint, problem.hosts)


def _take(lock: Lock, host: Host, tell: Callable[[str], None]) -> None:
    """Take one host's lock; wait for what a former run left under way there."""
    fence, end, told = lock.fence, time.monotonic() + PATIENCE, False
    command = Command(
        _HOLD, (fence.lock, fence.busy, fence.holder), about=f"take the lock {fence.lock}", timeout=20.0
    )
    while True:
        try:
            lock.held[host.name] = host.hold(command)
            return
        except CommandFailed as error:
            if error.exit_status == TAKEN:
                if fence.holder in error.stderr:
                    raise UsageError(
                        f"{host.name}: this run has its lock already: another node of the inventory is the same host",
                        "give each node its own host: see `address` and `host`",
                    ) from error
                raise taken(host.name, error.stderr) from error
            if error.exit_status != BUSY:
                raise
            if time.monotonic() > end:
                raise still_busy(host.name, error.stderr) from error
            if not told:
                tell(f"{host.name}: waiting for what another run began there: {listed(error.stderr)}")
            told = True
