"""A host over SSH: commands, streams, held commands and tunnels on one connection."""

from __future__ import annotations

import io
import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from ..errors import CommandFailed, ConnectionLost, Failed, LoginFailed, Refused, TimedOut
from .exchange import Channel, Feed, Late, feed
from .host import Command, Held, Listener, Result, Tunnel
from .privilege import NO_MORE, Mode, SudoPassword, line, piece, refused, script, streaming
from .talk import Talk
from .tunnels import SshListener, SshTunnel, relaying

if TYPE_CHECKING:
    from .connection import Link

GRACE = 3.0
"""Seconds given to the far end to report that it killed a command over its time."""
KILLED = 128 + 9
"""The exit code where the far shell itself was killed and cannot say by which signal."""
FOREVER = 10 * 365 * 86400.0


@dataclass
class SshHost:
    """One node; the `Host` of `remote.host` over SSH. Safe to use from several threads."""

    name: str
    link: Link
    password: SudoPassword = field(default_factory=SudoPassword)
    read_only: bool = False
    sudo: bool = True
    """Whether root needs sudo here; False for a login as root."""
    _mode: Mode | None = None

    def run(
        self,
        command: Command,
        stdin: bytes | BinaryIO = b"",
        *,
        check: bool = True,
        sent: Callable[[int], None] | None = None,
    ) -> Result:
        """Run to the end; see `Host.run`."""
        began = time.monotonic()
        talk = self._begin(command, script(command), command.timeout)
        feeding = feed(talk.channel, stdin, sent)
        try:
            talk.until(lambda: False)
            if feeding.error:
                raise Failed(f"{self.name}: {command.about}: cannot read what to send: {feeding.error}")
            return self._finish(talk, check, time.monotonic() - began)
        except Late as late:
            raise self._late(talk) from late
        finally:
            talk.channel.close()
            feeding.end()

    def lines(self, command: Command) -> Iterator[str]:
        """Yield lines as they come; see `Host.lines`."""
        talk = self._begin(command, streaming(command), None)
        try:
            with suppress(OSError):  # the exit code will tell
                talk.channel.sendall(NO_MORE)
            talk.deadline = time.monotonic() + FOREVER
            ended = False
            while not ended:
                ended = not talk.until(lambda: talk.ready and b"\n" in talk.output.stdout)
                yield from talk.take_lines(ended)
            self._finish(talk, True, 0.0)
        finally:
            talk.channel.close()

    def stream(
        self,
        command: Command,
        stdin: BinaryIO | None,
        out: Callable[[bytes], None],
        err: Callable[[bytes], None],
    ) -> int:
        """Hand on both outputs as they come; see `Host.stream`.

        The far end is killed when we go, and when a cut connection is noticed there.
        """
        talk = self._begin(command, streaming(command), None)
        try:
            talk.deadline = time.monotonic() + FOREVER
            given = Feed(talk.channel, stdin or io.BytesIO(), piece=piece, last=NO_MORE)
            given.start()  # not waited for: a terminal's pipe may never end
            ended = False
            while not ended:
                ended = not talk.until(lambda: talk.ready and bool(talk.output.stdout or talk.output.stderr))
                if talk.ready:
                    talk.hand_on(out, err)
            return self._finish(talk, False, 0.0).exit
        finally:
            talk.channel.close()

    def hold(self, command: Command, stdin: bytes = b"") -> Held:
        """Start a command and keep it; see `Host.hold`."""
        talk = self._begin(command, script(command), None)
        try:
            with suppress(OSError):
                talk.channel.sendall(stdin)
            if talk.until(lambda: talk.ready and b"\n" in talk.output.stdout):
                first, _, _ = bytes(talk.output.stdout).partition(b"\n")
                return SshHeld(first.decode("utf-8", "replace"), talk.channel, self.link)
            self._finish(talk, True, 0.0)
            raise CommandFailed(self.name, command.about, 0, "it ended instead of staying")
        except Late as late:
            talk.channel.close()
            raise self._late(talk) from late
        except BaseException:
            talk.channel.close()
            raise

    def dial(self, address: str, port: int, timeout: float) -> Tunnel:
        """Open a TCP connection from this host; see `Host.dial`."""
        return SshTunnel(self.link.dial(address, port, timeout))

    def relay(self, address: str, port: int) -> Tunnel:
        """Have this host's bash carry a TCP connection; see `Host.relay`."""
        return SshTunnel(self.link.session(f"exec {shlex.join(relaying(address, port))}"))

    def listen_back(self, address: str = "127.0.0.1") -> Listener:
        """Have this host listen on a free port and bring the connections here."""
        return SshListener(self.link, address)

    def close(self) -> None:
        """Close the connection; what still runs on the host ends with it or by its own limit."""
        self.link.close()

    def _begin(self, command: Command, text: bytes, limit: float | None) -> Talk:
        """Start a command, as root if it wants that; learn by the way how this host's sudo works."""
        if self.read_only and command.writes:
            raise Refused(
                f"{self.name}: {command.about or command.script}: not on a connection that only reads",
                "this is a mistake in the program: a dry run tried to write",
            )
        if not command.root or not self.sudo:
            return self._start(command, text, "plain", limit)
        if self._mode == "free":
            return self._start(command, text, "free", limit)
        talk = None if self._mode == "password" else self._try_free(command, text, limit)
        return talk or self._with_password(command, text, limit)

    def _start(self, command: Command, text: bytes, mode: Mode, limit: float | None) -> Talk:
        nonce = secrets.token_hex(8)
        deadline = time.monotonic() + command.timeout + GRACE
        talk = Talk(command, self.link.session(line(mode, nonce, len(text), limit)), nonce, deadline)
        if mode != "password":
            with suppress(OSError):  # the exit code will tell
                talk.channel.sendall(text)
        return talk

    def _try_free(self, command: Command, text: bytes, limit: float | None) -> Talk | None:
        """Start by `sudo -n`, which either works or runs nothing at all."""
        talk = self._start(command, text, "free", limit)
        if self._until(talk, lambda: talk.ready):
            self._mode = "free"
            return talk
        talk.channel.close()
        status = self._status(talk)
        if status == 127:
            raise refused(self.name, self.link.server.user, talk.said, missing=not self._has_sudo())
        return None

    def _has_sudo(self) -> bool:
        """Whether there is a sudo; an exit of 127 may also be that of what it was to run."""
        look = Command("command -v sudo", about="look for sudo", root=False, writes=False)
        return self.run(look, check=False).exit == 0

    def _with_password(self, command: Command, text: bytes, limit: float | None) -> Talk:
        """Start by `sudo -S`: the password goes out only after our own prompt was seen."""
        talk = self._start(command, text, "password", limit)
        try:
            self._until(talk, lambda: talk.ready or talk.asked > 0)
            if talk.asked and not talk.ready:
                self._type_password(talk)
            if not talk.ready:
                self._status(talk)
                raise refused(self.name, self.link.server.user, talk.said, missing=False)
        except BaseException:
            talk.channel.close()
            raise
        self._mode = "password"
        with suppress(OSError):
            talk.channel.sendall(text)
        return talk

    def _type_password(self, talk: Talk) -> None:
        if self.password.accepted:
            self._try_password(talk)
            return
        with self.password.trial:
            self._try_password(talk)

    def _try_password(self, talk: Talk) -> None:
        """Type the password once. A second prompt means that it was wrong."""
        try:
            secret = self.password.get()
        except LoginFailed as problem:
            raise LoginFailed(f"{self.name}: {problem.message}", problem.hint) from problem
        talk.deadline = time.monotonic() + talk.command.timeout + GRACE
        with suppress(OSError):
            talk.channel.sendall(secret.reveal + b"\n")
        self._until(talk, lambda: talk.ready or talk.asked > 1)
        if talk.ready:
            self.password.accept()
            return
        user = self.link.server.user
        wrong = self.password.reject(f"{self.name}: sudo does not take the password of {user}")
        if talk.asked == 1:
            self._status(talk)
            raise refused(self.name, user, talk.said, missing=False)
        raise wrong

    def _until(self, talk: Talk, condition: Callable[[], bool]) -> bool:
        try:
            return talk.until(condition)
        except Late as late:
            talk.channel.close()
            raise self._late(talk) from late

    def _finish(self, talk: Talk, check: bool, took: float) -> Result:
        """Turn the end of a command into a result or into the error that it is."""
        status = self._status(talk)
        if not talk.ready:
            raise LoginFailed(
                f"{self.name}: {self.link.server.user} logs in but runs nothing: exit {status}: {talk.said}",
                "see the user's login shell and ForceCommand in sshd_config",
            )
        if status in (124, KILLED) and took >= talk.command.timeout:
            raise self._late(talk)
        result = Result(status, bytes(talk.output.stdout), talk.stderr)
        if check and status:
            raise CommandFailed(self.name, talk.command.about or "a command", status, talk.said)
        return result

    def _status(self, talk: Talk) -> int:
        """The exit code; ConnectionLost if the connection ended before the command did."""
        status = talk.channel.recv_exit_status() if talk.channel.status_event.is_set() else -1
        if status == -1:
            self._alive_or_lost(talk)
            return KILLED
        return status

    def _alive_or_lost(self, talk: Talk) -> None:
        """A killed process still closes its output in order; a broken connection does not."""
        if not self.link.alive or not talk.channel.eof_received:
            raise self._lost(talk)

    def _lost(self, talk: Talk) -> ConnectionLost:
        problem = self.link.broken("")
        return ConnectionLost(f"{problem.message}, during: {talk.command.about or 'a command'}", problem.hint)

    def _late(self, talk: Talk) -> TimedOut:
        said = talk.stderr.decode("utf-8", "replace").strip()
        return TimedOut(
            f"{self.name}: {talk.command.about or 'a command'}: not done after {talk.command.timeout:g} s"
            + (f": {said[-500:]}" if said else ""),
            "see what the host is busy with: `uptime`, `dmesg`; then run the task again",
        )


@dataclass
class SshHeld:
    """A command that stays; see `Held`."""

    first_line: str
    channel: Channel
    link: Link

    def alive(self) -> bool:
        """Whether it still runs, as far as we have heard."""
        return self.link.alive and not self.channel.closed and not self.channel.status_event.is_set()

    def close(self, patience: float = 2.0) -> None:
        """End it by closing its input; see `Held.close`."""
        with suppress(OSError, EOFError):
            self.channel.shutdown_write()
        if self.link.alive:
            self.channel.status_event.wait(patience)
        self.channel.close()
