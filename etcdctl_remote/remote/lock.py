"""One run at a time on a cluster: a lock on every host, held as long as we are connected.

The kernel keeps the lock (flock), for a process on the host that ends with our connection. So
a killed laptop leaves nothing behind, and no file can lie about who holds it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from ..errors import CommandFailed, ConnectionLost, Problem, Refused
from .fleet import Fleet
from .host import Command, Held, Host

PATH = "/run/etcdctl-remote.lock"
TAKEN = 75
"""Exit code of the far script when somebody else holds the lock (EX_TEMPFAIL)."""

_HOLD = r"""
umask 022
exec 9<>"$1" || exit 1
flock -n 9 || { cat -- "$1" >&2; exit 75; }
pid=$(exec sh -c 'echo $PPID')
printf '%s\n%s\n' "$2" "$pid" >"$1" || exit 1
echo held
exec cat >/dev/null
"""


@dataclass(frozen=True)
class Lock:
    """The locks of one run, by host."""

    held: dict[str, Held]

    def alive(self) -> bool:
        """Whether every host still holds its lock for us."""
        return all(held.alive() for held in self.held.values())

    def require(self) -> None:
        """Raise ConnectionLost naming the hosts whose lock is gone: others may be at work there."""
        lost = {name: "the lock is gone" for name, held in self.held.items() if not held.alive()}
        if lost:
            raise ConnectionLost("the cluster's lock was lost", "run the task again", lost)


@contextmanager
def hold(fleet: Fleet, who: str, task: str, now: datetime | None = None, path: str = PATH) -> Iterator[Lock]:
    """Take the lock on every host, or Refused: who has it, with which task, and since when.

    The first host by name is asked first and alone, so that of two runs that start together
    one gets everything and the other nothing.
    """
    since = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    holder = json.dumps({"who": who, "task": task, "since": since})
    lock = Lock({})
    names = sorted(fleet.hosts)
    try:
        for hosts in (names[:1], names[1:]):
            if hosts:
                fleet.each(lambda host: _take(lock, host, holder, path), hosts, doing="take the lock")
        yield lock
    finally:
        fleet.spread(lock.held, lambda held: held.close())


def _take(lock: Lock, host: Host, holder: str, path: str) -> None:
    command = Command(_HOLD, (path, holder), about=f"take the lock {path}", timeout=20.0)
    try:
        lock.held[host.name] = host.hold(command)
    except CommandFailed as error:
        if error.exit_status != TAKEN:
            raise
        raise taken(host.name, error.stderr, path) from error


def taken(host: str, text: str, path: str) -> Problem:
    """Name the holder as far as the lock file tells."""
    described, _, process = text.strip().partition("\n")
    hint = "wait for that run to end"
    if process.isdigit():
        hint += f". If its laptop is gone for good, `sudo kill {process}` on {host} frees the lock"
    try:
        holder = json.loads(described)
        seen = f"{holder['who']} runs {holder['task']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        seen = "another run"
    return Refused(f"{host}: the cluster is locked: {seen}", hint)
