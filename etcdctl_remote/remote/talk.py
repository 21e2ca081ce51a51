"""One command under way: what it has said so far, and when its own script began to speak."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .exchange import Channel, Output, pump
from .host import Command
from .privilege import mark, prompt


@dataclass
class Talk:
    """A command under way."""

    command: Command
    channel: Channel
    nonce: str
    deadline: float
    output: Output = field(default_factory=Output)
    started: bool = False

    @property
    def ready(self) -> bool:
        """Whether the far shell has started our script; drops what a login script said before."""
        if not self.started:
            before, found, _ = bytes(self.output.stdout).partition(mark(self.nonce))
            if found:
                self.started = True
                self.output.stdout[: len(before) + len(found)] = b""
        return self.started

    @property
    def asked(self) -> int:
        """How often sudo asked for a password."""
        return self.output.stderr.count(prompt(self.nonce))

    @property
    def stderr(self) -> bytes:
        """The script's own messages, without sudo's prompt and lecture."""
        return bytes(self.output.stderr).rpartition(prompt(self.nonce))[2]

    @property
    def said(self) -> str:
        """The end of what was said on standard error, or else on standard output, as text."""
        said = self.stderr.strip() or bytes(self.output.stdout[-2000:]).strip()
        return said[-2000:].decode("utf-8", "replace")

    def until(self, condition: Callable[[], bool]) -> bool:
        """Read until the condition holds; False if the command ended first."""
        return not pump(self.channel, self.output, condition, self.deadline) or condition()

    def take_lines(self, ended: bool) -> Iterator[str]:
        """Take whole lines out of what has arrived; at the end also one without its newline."""
        if not self.ready:
            return
        *whole, rest = bytes(self.output.stdout).split(b"\n")
        self.output.stdout[:] = b"" if ended else rest
        for text in (*whole, *([rest] if ended and rest else [])):
            yield text.decode("utf-8", "replace")

    def hand_on(self, out: Callable[[bytes], None], err: Callable[[bytes], None]) -> None:
        """Give away what both outputs have brought so far."""
        said, complained = bytes(self.output.stdout), self.stderr
        self.output.stdout.clear()
        self.output.stderr.clear()
        if said:
            out(said)
        if complained:
            err(complained)
