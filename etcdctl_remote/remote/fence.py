"""Every command that writes, under the lock of its run, for as long as it lives.

The lock dies with the laptop; the command that was under way does not. It holds a file of its
own, shared, which whoever takes the lock next waits for. It takes that file before it looks
whose the lock is, and a new holder writes his name before he tries that file: so either he
sees the command, or the command sees him.

A check takes no lock; only its listeners hold that file, alone, and not while the lock is taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import BinaryIO, Protocol

from ..errors import CommandFailed, Locked, Problem, Refused
from .host import Command, Held, Host, Listener, Result, Tunnel

TAKEN = 75
"""Exit code of the far script when somebody else holds the lock (EX_TEMPFAIL)."""
BUSY = 76
"""Exit code of the far script when what another run began still goes on."""

_FIND = "`sudo sh -c 'ls -l /proc/[0-9]*/fd/* 2>&1 | grep run/etcdctl-remote'`"
"""Shows which process has the files open."""

# What holds one of the files has it open as 9, and a process is named only if that is so: the
# files keep the numbers of processes that are gone.
_WHOSE = r"""
# $1 the lock
whose() {
  { read -r holder; read -r process; } <"$1"
  [ ! "/proc/$process/fd/9" -ef "$1" ] || printf '%s\n%s\n' "$holder" "$process" >&2
  exit 75
}
"""

# $1 and $2 are opened as 9 and 8. They are root's alone: whoever may read a file may lock it.
LOOK = (
    _WHOSE
    + r"""
# $1 the file in which stands what goes on: a process that holds it, the one to kill, and what it does
tell() {
  while read -r holder process what; do
    [ ! "/proc/$holder/fd/9" -ef "$1" ] || echo "$what (process $process)" >&2
  done <"$1"
  exit 76
}
command -v flock >/dev/null || { echo "there is no flock command: see util-linux" >&2; exit 1; }
umask 077
exec 9<>"$1" 8<>"$2"
chmod 600 "$1" "$2" || exit 1
umask 022
read -r self _ </proc/self/stat
"""
)

# $1 the file to hold, $2 the lock, $3 its holder, $4 what is done, $5 "ends" if our parent is the
# `timeout` that ends it with all its children; then the command's own arguments. The file is
# somebody else's for a moment only: a check's, or the next holder's, who take a look.
_UNDER = (
    _WHOSE
    + r"""
umask 077
exec 9>>"$1"
umask 022
flock -w 5 -s 9 && read -r _holder <"$2" && [ "$_holder" = "$3" ] || whose "$2"
read -r _self _ </proc/self/stat
_process=$_self
[ -z "$5" ] || _process=$PPID
printf '%s %s %s\n' "$_self" "$_process" "$4" >&9
shift 5
"""
)


# $1 the file to hold, $2 the lock, $3 what is done; then the command's own arguments. Whoever takes
# the lock tries for a second: a look at it keeps nobody out.
_BESIDE = (
    LOOK
    + r"""
flock -n 9
alone=$?
flock -n 8 || whose "$2"
exec 8>&-
[ $alone = 0 ] || tell "$1"
printf '%s %s %s\n' "$self" "$self" "$3" >"$1"
shift 3
"""
)


class Terms(Protocol):
    """What a command needs before it begins."""

    def under(self, command: Command, now: datetime, *, ends: bool = True) -> Command:
        """The same command on these terms. `ends`: whether its host kills it once its time is up."""
        ...


@dataclass(frozen=True)
class Fence:
    """What a command has to hold, and whose the lock has to be."""

    lock: str
    busy: str
    holder: str

    def under(self, command: Command, now: datetime, *, ends: bool = True) -> Command:
        """The same command under the lock; one that only reads, or is not root, stays as it is."""
        if not (command.writes and command.root):
            return command
        told = _told(command.about, now) + (f", for {command.timeout:g} s at most" if ends else "")
        args = (self.busy, self.lock, self.holder, told, "ends" * ends, *command.args)
        return replace(command, script=_UNDER + command.script, args=args)


@dataclass(frozen=True)
class Beside:
    """For what is held open without the lock: nobody else may be at work, and whoever comes waits."""

    lock: str
    busy: str
    whose: str

    def under(self, command: Command, now: datetime, *, ends: bool = True) -> Command:
        """The same command, alone; one that ends by itself, only reads or is not root stays as it is."""
        if ends or not (command.writes and command.root):
            return command
        args = (self.busy, self.lock, _told(f"{command.about} for {self.whose}", now), *command.args)
        return replace(command, script=_BESIDE + command.script, args=args)


def _told(about: str, now: datetime) -> str:
    return f"{' '.join(about.split())}, since {now.isoformat(timespec='seconds')}"


@dataclass
class Fenced:
    """A host whose writing commands run on such terms; see `Host`."""

    name: str
    host: Host
    terms: Terms

    def run(
        self,
        command: Command,
        stdin: bytes | BinaryIO = b"",
        *,
        check: bool = True,
        sent: Callable[[int], None] | None = None,
    ) -> Result:
        """Run under the lock; Refused if it went to another run meanwhile."""
        under = self._under(command)
        with self._explained(under is not command):
            result = self.host.run(under, stdin, check=check, sent=sent)
        if under is not command and result.exit == TAKEN:
            raise taken(self.name, result.stderr.decode("utf-8", "replace"))
        return result

    def lines(self, command: Command) -> Iterator[str]:
        return self.host.lines(self._under(command, ends=False))

    def stream(
        self,
        command: Command,
        stdin: BinaryIO | None,
        out: Callable[[bytes], None],
        err: Callable[[bytes], None],
    ) -> int:
        return self.host.stream(self._under(command, ends=False), stdin, out, err)

    def hold(self, command: Command, stdin: bytes = b"") -> Held:
        under = self._under(command, ends=False)
        with self._explained(under is not command):
            return self.host.hold(under, stdin)

    def dial(self, address: str, port: int, timeout: float) -> Tunnel:
        return self.host.dial(address, port, timeout)

    def relay(self, address: str, port: int) -> Tunnel:
        return self.host.relay(address, port)

    def listen_back(self, address: str = "127.0.0.1") -> Listener:
        return self.host.listen_back(address)

    def _under(self, command: Command, *, ends: bool = True) -> Command:
        return self.terms.under(command, datetime.now(UTC), ends=ends)

    @contextmanager
    def _explained(self, changed: bool) -> Iterator[None]:
        """Say who is in the way of a command that is on our terms."""
        try:
            yield
        except CommandFailed as error:
            if changed and error.exit_status == TAKEN:
                raise taken(self.name, error.stderr) from error
            if changed and error.exit_status == BUSY:
                raise still_busy(self.name, error.stderr) from error
            raise


def taken(host: str, text: str) -> Problem:
    """Name the holder, if the lock file tells of him."""
    described, _, process = text.strip().partition("\n")
    free = f"`sudo kill {process}` on {host} frees the lock there, and the next run names the other hosts"
    if not process.isdigit():
        free = f"{_FIND} on {host} shows which process has the lock"
    hint = f"wait for that run to end. If its laptop is gone for good, {free}"
    try:
        holder = json.loads(described)
        seen = f"{holder['who']} runs {holder['task']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        seen = "another run"
    return Locked(f"{host}: the cluster is locked: {seen}", hint)


def still_busy(host: str, text: str) -> Problem:
    """Name what another run began and did not see the end of."""
    end = f"`sudo kill PROCESS` on {host} ends it"
    if not text.strip():
        end = f"{_FIND} on {host} shows its process"
    return Refused(
        f"{host}: what another run began there still goes on: {listed(text)}",
        f"it ends by itself; run the task again then. If it hangs, {end}",
    )


def listed(text: str) -> str:
    return "; ".join(text.strip().splitlines()) or "a command that does not tell its name"
