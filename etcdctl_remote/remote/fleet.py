"""All hosts of a cluster, side by side: connect, do the same on each, end together.

Every failure is kept: the second one is never lost. Threads are daemons, and closing the
connections unblocks whatever waits on them, so an interrupt ends within a second.
"""

from __future__ import annotations

import os
import queue
import signal
import termios
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..desired.model import ClusterSpec, NodeSpec
from ..errors import Failed, Problem, gather
from ..secret import Secret
from .host import Host
from .privilege import SudoPassword
from .ssh_config import route
from .wire import Patience

if TYPE_CHECKING:
    from .gateways import Gateways
    from .host_keys import KnownKey

T = TypeVar("T")
U = TypeVar("U")

WORKERS = 10
"""Hosts at a time: sshd starts to drop connections at ten that have not logged in yet."""
ENDING = 0.8
"""Seconds an interrupted run waits for its threads."""
WAKE = 0.1
"""Seconds the main thread sleeps at most: a signal that comes just before an endless wait is not seen in it."""
INTERRUPTED = Failed("not done: the run is being interrupted")


@dataclass
class Fleet:
    """The reachable hosts by node name, in the inventory's order."""

    hosts: Mapping[str, Host]
    closers: list[Callable[[], None]] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set once the run is being interrupted; long work on the laptop should look at it."""

    @classmethod
    def connect(
        cls,
        cluster: ClusterSpec,
        *,
        read_only: bool = False,
        require_all: bool = True,
        password: Callable[[str], Secret] | None = None,
        tell: Callable[[str], None] = lambda line: None,
        patience: Patience | None = None,
    ) -> tuple[Fleet, dict[str, Problem]]:
        """Connect to all nodes at once; the fleet, and why the others are not in it.

        With `require_all` one unreachable host is an error that names every one of them.
        `password` is asked for sudo's password and for passphrases, at most once each, for
        all hosts; without it nobody is asked. `patience` is for tests.
        """
        tell(f"connecting to {len(cluster.nodes)} host{'s' if len(cluster.nodes) > 1 else ''}")
        way = _Way(cluster, read_only, password, patience)
        fleet = cls({}, [way.close])
        try:
            found = fleet.spread({node.name: node for node in cluster.nodes}, way.connect)
        except BaseException:
            fleet.close()
            raise
        failures = {name: error for name, error in found.items() if isinstance(error, Exception)}
        if failures and (require_all or not all(isinstance(error, Problem) for error in failures.values())):
            fleet.close()
            raise gather(failures, "connect")
        fleet.hosts = {name: host for name, host in found.items() if not isinstance(host, Exception)}
        return fleet, {name: error for name, error in failures.items() if isinstance(error, Problem)}

    def each(
        self, do: Callable[[Host], T], hosts: Collection[str] | None = None, doing: str = "the step"
    ) -> dict[str, T]:
        """Do the same on the named hosts, or on all; the results by host name.

        Waits for all of them. If any failed, raises one error of the gravest kind with a line
        for each host that failed.
        """
        chosen = {name: host for name, host in self.hosts.items() if hosts is None or name in hosts}
        missing = set(hosts or ()) - set(chosen)
        if missing:
            raise Failed(f"{doing}: not connected to {', '.join(sorted(missing))}")
        found = self.spread(chosen, do)
        failures = {name: error for name, error in found.items() if isinstance(error, Exception)}
        if failures:
            raise gather(failures, doing)
        return {name: value for name, value in found.items() if not isinstance(value, Exception)}

    def spread(self, items: Mapping[str, U], do: Callable[[U], T]) -> dict[str, T | Exception]:
        """Call `do` for each item, at most ten at a time; a result or an exception for each."""
        if len(items) == 1 and threading.current_thread() is not threading.main_thread():
            return {name: _attempt(do, item) for name, item in items.items()}
        results: dict[str, T | Exception] = {}
        waiting: queue.SimpleQueue[tuple[str, U]] = queue.SimpleQueue()
        for pair in items.items():
            waiting.put(pair)
        done = threading.Semaphore(0)

        def work() -> None:
            with suppress(queue.Empty):
                while True:
                    name, item = waiting.get_nowait()
                    results[name] = INTERRUPTED if self.stopping.is_set() else _attempt(do, item)
                    done.release()

        threads = [
            threading.Thread(target=work, daemon=True, name=f"fleet-{n}")
            for n in range(min(len(items), WORKERS))
        ]
        with self._interruptible(threads):
            for thread in threads:
                thread.start()
            for _ in items:
                while not done.acquire(timeout=WAKE):
                    pass
        return {name: results[name] for name in items}

    @contextmanager
    def _interruptible(self, threads: list[threading.Thread]) -> Iterator[None]:
        """On Ctrl-C close every connection and go on as soon as the threads have noticed.

        A second Ctrl-C ends the program at once. Either way the terminal is left as it was: a
        thread that reads a password has switched its echo off, and never comes to switch it on.
        """
        main = threading.current_thread() is threading.main_thread()
        restore = terminal_state() if main else lambda: None
        try:
            yield
        except BaseException:
            if main:
                signal.signal(signal.SIGINT, lambda *_: _leave(restore))
            self.stopping.set()
            self.close()
            end = time.monotonic() + ENDING
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(0.0, end - time.monotonic()))
            restore()
            raise

    def close(self) -> None:
        """Close all connections; safe to call twice."""
        for closer in self.closers:
            closer()


def _leave(restore: Callable[[], None]) -> None:
    restore()
    os._exit(130)


def terminal_state() -> Callable[[], None]:
    """Remember how the terminal is set; the function returned sets it so again."""
    try:
        descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:  # there is no terminal, so nothing to restore
        return lambda: None
    try:
        found = termios.tcgetattr(descriptor)
    except termios.error:
        return lambda: None
    finally:
        os.close(descriptor)

    def restore() -> None:
        with suppress(OSError, termios.error):
            again = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
            try:
                if termios.tcgetattr(again) != found:  # setting it would stop a run in the background
                    termios.tcsetattr(again, termios.TCSANOW, found)
            finally:
                os.close(again)

    return restore


def _attempt(do: Callable[[U], T], item: U) -> T | Exception:
    """The thread's edge: whatever went wrong becomes a value for the caller to raise."""
    try:
        return do(item)
    except Exception as error:
        return error
    except BaseException as end:  # SystemExit in a thread would leave the caller waiting for ever
        return Failed(f"ended by {type(end).__name__}")


class _Way:
    """What the connections of one fleet share: keys, passwords, jump hosts."""

    def __init__(
        self,
        cluster: ClusterSpec,
        read_only: bool,
        ask: Callable[[str], Secret] | None,
        patience: Patience | None,
    ) -> None:
        self.read_only, self.ask, self.patience = read_only, ask, patience
        self.timeout = max((node.ssh.timeout for node in cluster.nodes), default=10.0)
        self.sudo = SudoPassword(lambda: ask("sudo password")) if ask else SudoPassword()
        self._lock = threading.Lock()
        self._gateways: Gateways | None = None
        self._open: list[Callable[[], None]] = []
        self._closed = False
        self._seen: list[KnownKey] = []

    def connect(self, node: NodeSpec) -> Host:
        """Resolve the way, then connect. fabric is imported here, while others already dial."""
        way = route(node.ssh, node.host)
        if self.read_only:
            way = way.remembering(self._seen)
        from .gateways import open_route
        from .ssh_host import SshHost

        patience = self.patience or Patience(connect=node.ssh.timeout)
        link = open_route(way, node.name, self.gateways(), patience)
        host = SshHost(node.name, link, self.sudo, self.read_only, sudo=link.server.user != "root")
        with self._lock:
            self._open.append(link.close)
            closed = self._closed
        if closed:
            link.close()
        return host

    def gateways(self) -> Gateways:
        """The jump hosts, made with the first connection."""
        from .gateways import Gateways
        from .login import Keyring

        with self._lock:
            if self._gateways is None:
                keyring = Keyring(self.passphrase) if self.ask else Keyring()
                self._gateways = Gateways(keyring, self.patience or Patience(connect=self.timeout))
            return self._gateways

    def passphrase(self, path: Path) -> Secret:
        if self.ask is None:
            raise Failed("nobody can be asked")
        return self.ask(f"passphrase of {path}")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            closers = [*self._open, *([self._gateways.close] if self._gateways else [])]
        for closer in closers:
            closer()
