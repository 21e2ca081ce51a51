"""Move bytes through an SSH channel: both outputs read while the input is being sent.

Bytes stay bytes; nothing is decoded here. Memory stays flat for any input size.
"""

from __future__ import annotations

import io
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

PIECE = 1 << 18
"""Bytes given to the channel at a time: measured as fast as 1 MiB, and progress is smoother."""
INLINE = 1 << 18
"""Input up to this size is sent without a thread: it fits in the channel's window (2 MiB)."""
TICK = 0.25
"""Seconds between looks at deadlines and at processes that ended without closing their output."""
ENDING = 2.0
"""Seconds to wait for the sending thread once the channel is closed; it ends by itself."""
LINGER = 1.0
"""Seconds we still read after the process ended while a grandchild keeps its output open."""


class Channel(Protocol):
    """What we use of an SSH session channel."""

    @property
    def closed(self) -> bool: ...
    @property
    def eof_received(self) -> int: ...
    @property
    def status_event(self) -> threading.Event: ...

    def fileno(self) -> int: ...
    def recv(self, nbytes: int) -> bytes: ...
    def recv_ready(self) -> bool: ...
    def recv_stderr(self, nbytes: int) -> bytes: ...
    def recv_stderr_ready(self) -> bool: ...
    def sendall(self, s: bytes) -> None: ...
    def shutdown_write(self) -> None: ...
    def exit_status_ready(self) -> bool: ...
    def recv_exit_status(self) -> int: ...
    def close(self) -> None: ...


@dataclass
class Output:
    """What a command has said so far."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)


class Late(Exception):
    """The deadline passed."""


def pump(channel: Channel, output: Output, until: Callable[[], bool], deadline: float) -> bool:
    """Read both outputs until `until()` or the end of the channel; say whether it ended.

    Raises Late at the deadline (a `time.monotonic()` value).
    """
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    ended_at: float | None = None
    while True:
        if drain(channel, output):
            ended_at = None
        if until():
            return False
        if channel.closed:
            drain(channel, output)
            return True
        now = time.monotonic()
        if channel.exit_status_ready():
            ended_at = ended_at or now
            if channel.eof_received or now - ended_at > LINGER:
                drain(channel, output)
                return True
        if now > deadline:
            raise Late
        if channel.eof_received:
            channel.status_event.wait(min(TICK, deadline - now))
        else:
            poll.poll(max(1.0, 1000 * min(TICK, deadline - now)))


def drain(channel: Channel, output: Output) -> bool:
    """Take what has arrived; say whether there was anything."""
    before = len(output.stdout) + len(output.stderr)
    while channel.recv_ready():
        output.stdout += channel.recv(PIECE)
    while channel.recv_stderr_ready():
        output.stderr += channel.recv_stderr(PIECE)
    return len(output.stdout) + len(output.stderr) > before


@dataclass
class Feed:
    """Input on its way to a command; `error` is set if our own end could not be read."""

    channel: Channel
    stream: BinaryIO
    sent: Callable[[int], None] | None = None
    error: OSError | None = None
    thread: threading.Thread | None = None
    piece: Callable[[bytes], bytes] = bytes
    """What a piece looks like on its way."""
    last: bytes = b""
    """What tells the end of the input; without it, closing the channel's input does."""

    def start(self) -> None:
        """Send from a thread of its own, so that outputs are read meanwhile."""
        self.thread = threading.Thread(target=self.run, daemon=True, name="ssh-stdin")
        self.thread.start()

    def end(self) -> None:
        """Leave the input alone from now on: its owner may close it. The channel is closed already."""
        if self.thread:
            self.thread.join(ENDING)

    def run(self) -> None:
        """Send piece by piece, then close the input.

        A command that stops reading early tells why by its exit code, so a closed channel
        is no error here.
        """
        while piece := self.read():
            try:
                self.channel.sendall(self.piece(piece))
            except (OSError, EOFError):
                return
            if self.sent:
                self.sent(len(piece))
        if self.error is None:
            with suppress(OSError, EOFError):
                self.channel.sendall(self.last) if self.last else self.channel.shutdown_write()

    def read(self) -> bytes:
        """Read one piece; where that fails, end the command too: half an input is none."""
        try:
            return self.stream.read(PIECE)
        except OSError as error:
            self.error = error
            self.channel.close()
            return b""


def feed(channel: Channel, stdin: bytes | BinaryIO, sent: Callable[[int], None] | None) -> Feed:
    """Send the input: at once if it is small, else beside the reading."""
    small = isinstance(stdin, bytes) and len(stdin) <= INLINE
    feeding = Feed(channel, io.BytesIO(stdin) if isinstance(stdin, bytes) else stdin, sent)
    (feeding.run if small else feeding.start)()
    return feeding
