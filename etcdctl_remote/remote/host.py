"""A host as the floors above see it: run a command, stream one, open a tunnel.

`remote.ssh_host` implements this over SSH; tests implement it with fakes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True)
class Command:
    """A POSIX shell script with arguments, built once, quoted in one place, run anywhere.

    `script` runs as `sh -c script sh args…` with a C locale and a fixed PATH; values are
    passed as arguments ($1 …), never pasted into the script.
    """

    script: str
    args: tuple[str, ...] = ()
    about: str = ""
    """What it does, for errors and progress: "write /etc/etcd/etcdctl.env"."""
    root: bool = True
    writes: bool = True
    """False only for pure reads. A read-only connection refuses every other command."""
    timeout: float = 60.0
    """Seconds for the whole command, connection trouble included."""


@dataclass(frozen=True)
class Result:
    """How a remote command ended. A process killed by signal N has exit 128+N."""

    exit: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text, undecodable bytes replaced."""
        return self.stdout.decode("utf-8", "replace")


class Held(Protocol):
    """A command kept running as long as we hold it: a lock. Ends with the connection."""

    first_line: str

    def alive(self) -> bool: ...

    def close(self, patience: float = 2.0) -> None:
        """End it, and wait so many seconds at most until it is gone: its lock is then free."""
        ...


class Tunnel(Protocol):
    """A byte stream to an address as the host sees it (an SSH channel)."""

    def send(self, data: bytes) -> None: ...
    def recv(self, size: int) -> bytes: ...
    def settimeout(self, seconds: float) -> None: ...
    def close(self) -> None: ...


class Listener(Protocol):
    """A port on the host's side whose connections come here (an SSH remote forward)."""

    port: int

    def accept(self, timeout: float) -> Tunnel:
        """The next connection; TimeoutError if none comes in `timeout` seconds."""
        ...

    def close(self) -> None: ...


class Host(Protocol):
    """One reachable node."""

    name: str

    def run(
        self,
        command: Command,
        stdin: bytes | BinaryIO = b"",
        *,
        check: bool = True,
        sent: Callable[[int], None] | None = None,
    ) -> Result:
        """Run to the end.

        `stdin` is streamed (an open file is read in pieces, so memory stays flat); `sent` is
        called with the number of bytes after each piece. Raises CommandFailed on a non-zero
        exit if `check`, TimedOut, ConnectionLost, LoginFailed (sudo), Refused (read-only).
        """
        ...

    def lines(self, command: Command) -> Iterator[str]:
        """Run and yield lines of standard output as they come, until it ends or is closed."""
        ...

    def stream(
        self,
        command: Command,
        stdin: BinaryIO | None,
        out: Callable[[bytes], None],
        err: Callable[[bytes], None],
    ) -> int:
        """Run without a deadline, handing on both outputs as they come; the exit code."""
        ...

    def hold(self, command: Command, stdin: bytes = b"") -> Held:
        """Start a command, wait for its first line, and keep it until closed."""
        ...

    def dial(self, address: str, port: int, timeout: float) -> Tunnel:
        """Open a TCP connection *from* this host; OSError if it is refused or times out."""
        ...

    def relay(self, address: str, port: int) -> Tunnel:
        """Open such a connection where its sshd forbids `dial`: by the host's own bash.

        A connection that fails is one that ends before its first byte.
        """
        ...

    def listen_back(self, address: str = "127.0.0.1") -> Listener:
        """Listen on a free port *of this host*; OSError if its sshd forbids forwarding."""
        ...
