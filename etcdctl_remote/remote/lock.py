"""One run at a time on a cluster: a lock on every host, held as long as we are connected.

The kernel keeps the lock (flock), for a process on the host that ends with our connection. So
a killed laptop leaves no lock behind, and no file can lie about who holds it.

What the dead laptop began may go on for a while: an unpack, a stop. So every command that
writes holds a second file, shared, for as long as it lives; whoever takes the lock waits
for that one too. And a command that starts only after the lock went to another run does nothing.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ..errors import CommandFailed, ConnectionLost
from .fence import BUSY, LOOK, TAKEN, Beside, Fence, Fenced, Terms, listed, still_busy, taken
from .fleet import Fleet
from .host import Command, Held, Host

PATH = "/run/etcdctl-remote.lock"
PATIENCE = 30.0
"""Seconds we wait for that: an unpack takes a few, and nothing but a sick disk takes longer."""

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

    held: dict[str, Held]
    fence: Fence

    def fenced(self, fleet: Fleet) -> Fleet:
        """The same hosts, where every command that writes does so under this lock."""
        return _on(fleet, self.fence)

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
    since = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    holder = json.dumps({"who": who, "task": task, "since": since, "run": secrets.token_hex(4)})
    lock = Lock({}, Fence(path, _busy(path), holder))
    names = sorted(fleet.hosts)
    try:
        for hosts in (names[:1], names[1:]):
            if hosts:
                fleet.each(lambda host: _take(lock, host, tell), hosts, doing="take the lock")
        yield lock
    finally:
        fleet.spread(lock.held, lambda held: held.close())


def beside(fleet: Fleet, whose: str, path: str = PATH) -> Fleet:
    """The same hosts without a lock: what is held open there is so only while nobody else is at work."""
    return _on(fleet, Beside(path, _busy(path), whose))


def _on(fleet: Fleet, terms: Terms) -> Fleet:
    return replace(fleet, hosts={name: Fenced(name, host, terms) for name, host in fleet.hosts.items()})


def _busy(path: str) -> str:
    return f"{path.removesuffix('.lock')}.busy"


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
                raise taken(host.name, error.stderr) from error
            if error.exit_status != BUSY:
                raise
            if time.monotonic() > end:
                raise still_busy(host.name, error.stderr) from error
            if not told:
                tell(f"{host.name}: waiting for what another run began there: {listed(error.stderr)}")
            told = True
