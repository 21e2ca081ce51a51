"""Every command that writes, under the lock of its run, for as long as it lives.

The lock dies with the laptop; the command that was under way does not. It holds a file of its
own, shared, which whoever takes the lock next waits for. It takes that file before it looks
whose the lock is, and a new holder writes his name before he tries that file: so either he
sees the command, or the command sees him.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import BinaryIO

from ..errors import CommandFailed, Problem, Refused
from .host import Command, Held, Host, Listener, Result, Tunnel

TAKEN = 75
"""Exit code of the far script when somebody else holds the lock (EX_TEMPFAIL)."""

# $1 the file to hold, $2 the lock, $3 its holder, $4 what is done, $5 "ends" if our parent is the
# `timeout` that ends it with all its children; then the command's own arguments.
_UNDER = r"""
exec 9>>"$1" || exit 1
flock -ns 9 && read -r _holder <"$2" && [ "$_holder" = "$3" ] || { cat -- "$2" >&2; exit 75; }
_process=$$
[ -z "$5" ] || _process=$PPID
printf '%s %s\n' "$_process" "$4" >&9
shift 5
"""


@dataclass(frozen=True)
class Fence:
    """What a command has to hold, and whose the lock has to be."""

    lock: str
    busy: str
    holder: str

    def under(self, command: Command, now: datetime, *, ends: bool = True) -> Command:
        """The same command under the lock; one that only reads, or is not root, stays as it is.

        `ends`: whether it is killed on its host once its time is up.
        """
        if not (command.writes and command.root):
            return command
        what = " ".join((command.about or "a command").split())
        told = f"{what}, since {now.isoformat(timespec='seconds')}"
        told += f", for {command.timeout:g} s at most" if ends else ""
        args = (self.busy, self.lock, self.holder, told, "ends" * ends, *command.args)
        return replace(command, script=_UNDER + command.script, args=args)


@dataclass
class Fenced:
    """A host whose writing commands run under the lock; see `Host`."""

    name: str
    host: Host
    fence: Fence

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
        try:
            result = self.host.run(under, stdin, check=check, sent=sent)
        except CommandFailed as error:
            if under is command or error.exit_status != TAKEN:
                raise
            raise taken(self.name, error.stderr) from error
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
        return self.host.hold(self._under(command, ends=False), stdin)

    def dial(self, address: str, port: int, timeout: float) -> Tunnel:
        return self.host.dial(address, port, timeout)

    def listen_back(self, address: str = "127.0.0.1") -> Listener:
        return self.host.listen_back(address)

    def _under(self, command: Command, *, ends: bool = True) -> Command:
        return self.fence.under(command, datetime.now(UTC), ends=ends)


def taken(host: str, text: str) -> Problem:
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
