"""Build the one line a login shell sees, and become root by sudo.

Any login shell (bash, dash, fish, tcsh) reads that line, so it holds no newline, backslash,
`!` or single quote inside its one quoted word. Script, arguments and data travel on standard
input, where no process list and no sudo log shows them.
"""

from __future__ import annotations

import math
import shlex
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from ..errors import LoginFailed
from ..secret import Secret
from .host import Command

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = f"/usr/bin/env -i PATH={PATH} LC_ALL=C"
"""No proxies, no locale, nothing of the login shell's; sudo may keep some, hence twice."""
KILL_AFTER = 2
"""Seconds between SIGTERM and SIGKILL for a command that is over its time."""

Mode = Literal["plain", "free", "password"]


def mark(nonce: str) -> bytes:
    """The line the far shell prints first: what comes before it is a login script's chatter."""
    return f"READY-{nonce}\n".encode()


def prompt(nonce: str) -> bytes:
    """What sudo asks with; nobody else can know it beforehand."""
    return f"PASSWORD-{nonce}:".encode()


def line(mode: Mode, nonce: str, size: int, limit: float | None) -> str:
    """The command line: it reads `size` bytes of shell script from standard input and runs them.

    The script runs in a sub-shell, so that `exec` or a kill in it still gives 128+N here.
    `limit` is in seconds; the far end kills what lasts longer, even when we are gone.
    """
    sudo = {
        "plain": "",
        "free": f" sudo -n -- {ENVIRONMENT}",
        "password": f" sudo -S -p {prompt(nonce).decode()} -- {ENVIRONMENT}",
    }[mode]
    limited = "" if limit is None else f" timeout -k {KILL_AFTER} {math.ceil(limit)}"
    boot = (
        f"umask 022; cd /; echo {mark(nonce).decode().strip()}; "
        f'(eval "$(dd bs={size} count=1 iflag=fullblock status=none)"); exit $?'
    )
    return f"exec {ENVIRONMENT}{sudo}{limited} sh -c '{boot}'"


def script(command: Command) -> bytes:
    """The bytes for `line`: the arguments as $1 …, then the script. Quoted here and nowhere else."""
    arguments = " ".join(shlex.quote(arg) for arg in command.args)
    text = f"set -- {arguments}\n{command.script}"
    if "\0" in text:
        raise ValueError(f"{command.about}: a NUL byte cannot be part of a shell script")
    return text.encode("utf-8", "surrogateescape")


# %s is the program. Its input is a pipe, made without a file: Linux opens a pipe's other end by its name in
# /proc. Our own input has no end while somebody wants the program, so what it is fed comes in pieces, each
# with its size before it, and 0 after the last one.
_STREAMING = """exec 3<&0
: | {
exec 5<&0 4>/proc/self/fd/0 </dev/null
setsid sh -c %s <&5 3<&- 4>&- 5<&- & p=$!
{
  exec 5<&-
  while read -r n && [ "${n:-0}" -gt 0 ] && dd bs="$n" count=1 iflag=fullblock status=none >&4; do :; done
  exec 4>&-
  cat
  kill -- -$p && sleep %d && kill -s KILL -- -$p
} <&3 >/dev/null 2>&1 & w=$!
exec 3<&- 4>&- 5<&-
wait $p; s=$?; kill $w 2>/dev/null; exit $s
}"""


def streaming(command: Command) -> bytes:
    """The script for a command that may run for ever: it ends when our end of its input closes.

    Its own input is what `piece` makes of ours, up to `NO_MORE`. One that never reads it, and was given
    more than a pipe holds (64 KiB), is not ended.
    """
    own = script(command).decode("utf-8", "surrogateescape")
    return (_STREAMING % (shlex.quote(own), KILL_AFTER)).encode("utf-8", "surrogateescape")


NO_MORE = b"0\n"
"""Tells a streamed command that its input ends here."""


def piece(data: bytes) -> bytes:
    """A piece of a streamed command's input."""
    return b"%d\n%b" % (len(data), data)


def no_password() -> Secret:
    """Refuse to ask: there is nobody to answer."""
    raise LoginFailed(
        "sudo asks for a password and nobody can be asked", "allow NOPASSWD, or run in a terminal"
    )


RETYPE = "run again and retype it; all hosts must share one sudo password, or use NOPASSWD"


@dataclass
class SudoPassword:
    """One password for all hosts: asked once, kept in memory, typed once.

    Until one host has accepted it, the others wait: a mistyped password must count as one
    failed login, not as one on each host.
    """

    ask: Callable[[], Secret] = no_password
    trial: threading.RLock = field(default_factory=threading.RLock)
    accepted: bool = False
    rejected: str = ""
    _secret: Secret | None = None

    def get(self) -> Secret:
        """The password; asks for it the first time."""
        if self.rejected:
            raise LoginFailed(self.rejected, RETYPE)
        if self._secret is None:
            self._secret = self.ask()
        return self._secret

    def accept(self) -> None:
        self.accepted = True

    def reject(self, seen: str) -> LoginFailed:
        """Note that the password is wrong; it is not tried anywhere else, unless it worked before.

        `seen` is `<host>: <what sudo did>`; the other hosts' errors say which host it was.
        """
        host, _, said = seen.partition(": ")
        if not self.accepted:
            self.rejected = f"{said} on {host}, so it was not tried here"
        return LoginFailed(seen, RETYPE)


def refused(host: str, user: str, seen: str, missing: bool) -> LoginFailed:
    """Say why sudo did not run anything, and the two usual ways out."""
    if missing:
        return LoginFailed(
            f"{host}: {user} is not root, and there is no sudo",
            "install sudo on the host, or log in as root with `ssh: {user: root}`",
        )
    return LoginFailed(
        f"{host}: sudo does not let {user} run commands as root: {seen or 'it said nothing'}",
        f"on the host: echo '{user} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{user} "
        f"(and `Defaults:{user} !requiretty` if it wants a terminal), or `ssh: {{user: root}}`",
    )
