"""The arguments of every process that is started: by the kernel's audit, else by looking again and again.

The audit tells of every single one, on this machine and in its containers. It needs root, and a kernel
whose audit nobody uses: there it has to tell. Elsewhere processes that live for some milliseconds only
may be missed, and who looks says so.
"""

from __future__ import annotations

import os
import platform
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Node

EXECUTED = 1309
"""The kind of message with a program's arguments; this and the next ones are from linux/audit.h."""
_ERROR, _GET, _SET, _ADD_RULE, _DELETE_RULE = 2, 1000, 1001, 1011, 1012
_REQUEST_ACK = 5
_AUDIT, _FORCED_BUFFER = 9, 33
_ENABLED, _PID, _BACKLOG = 1, 4, 16
_EXIT, _ALWAYS, _SUCCESS = 4, 2, 104
_EXEC = {"x86_64": (59, 322), "aarch64": (221, 281)}
"""The numbers of execve and execveat."""
_HEADER, _STATUS, _RULE = struct.Struct("=IHHII"), struct.Struct("=8I"), struct.Struct("=3I64I64I64I64II")
_WORD = re.compile(rb' a\d+(?:\[\d+\])?=(?:"([^"]*)"|([0-9A-F]+))')
_TIME = re.compile(rb"audit\((\d+\.\d+):")
_BOOT = "/proc/sys/kernel/random/boot_id"
BY_AUDIT = "the kernel's audit"


@dataclass
class Seen:
    """What was seen; complete once the watch has ended."""

    texts: list[bytes] = field(default_factory=list)
    by: str = ""
    """How; only the audit misses nothing."""


@contextmanager
def watched(node: Node) -> Iterator[Seen]:
    """Collect the arguments of all processes, here and on a node, while something runs."""
    ended, obstacle = Event(), unheard(node)
    seen = Seen(by=f"looking at /proc, for {obstacle}" if obstacle else BY_AUDIT)
    with ExitStack() as stack:
        works: list[Callable[[], None]] = [
            lambda: _look_here(seen, ended),
            lambda: _look_at(node, seen, ended),
        ]
        if not obstacle:
            audit = stack.enter_context(_audit())
            works = [lambda: audit.listen(seen, ended)]
        threads = [Thread(target=work) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            ended.set()
            for thread in threads:
                thread.join()


def unheard(node: Node) -> str:
    """Say why the kernel's audit cannot tell of a node's processes; empty if it can."""
    if Path(_BOOT).read_text() != execute(node, f"cat {_BOOT}"):
        return "the node runs on another machine"
    if platform.machine() not in _EXEC:
        return f"nobody has looked up the system calls of {platform.machine()}"
    try:
        with _conversation() as audit:
            _, enabled, _, pid, *_ = audit.status()
    except OSError as error:
        return f"the audit says {error}"
    return "somebody uses the audit" if pid or enabled else ""


def _look_here(seen: Seen, ended: Event) -> None:
    known: set[bytes] = set()
    while not ended.wait(0.005):
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                known.add(path.read_bytes())
    seen.texts.extend(known)


def _look_at(node: Node, seen: Seen, ended: Event) -> None:
    while not ended.is_set():
        seen.texts.append(execute(node, "cat /proc/[0-9]*/cmdline 2>/dev/null || :").encode())


@contextmanager
def _conversation() -> Iterator[_Audit]:
    """Talk to the kernel about its audit. OSError where it does not."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _AUDIT) as sock:
        sock.bind((0, 0))
        sock.settimeout(0.3)
        sock.setsockopt(socket.SOL_SOCKET, _FORCED_BUFFER, 1 << 26)
        yield _Audit(sock)


@contextmanager
def _audit() -> Iterator[_Audit]:
    """Have the kernel tell of every program that is started."""
    with _conversation() as audit:
        rule = _rule()
        *_, backlog, lost, _ = audit.status()
        audit.set(1, os.getpid(), 1 << 16)
        try:
            audit.ask(_ADD_RULE, rule)
            yield audit
            audit.ask(_DELETE_RULE, rule)
            assert audit.status()[6] == lost, "the kernel could not tell of all"
        finally:
            audit.set(0, 0, backlog)


def _rule() -> bytes:
    """Build the rule: each program that was started, whoever did."""
    calls, fields, values = [0] * 64, [0] * 64, [0] * 64
    for number in _EXEC[platform.machine()]:
        calls[number // 32] |= 1 << number % 32
    fields[0], values[0] = _SUCCESS, 1
    return _RULE.pack(_EXIT, _ALWAYS, 1, *calls, *fields, *values, *[0x40000000] * 64, 0)


class _Audit:
    """The kernel's side of a conversation about its audit."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket, self.number = sock, 0

    def listen(self, seen: Seen, ended: Event) -> None:
        """Take down what is told, until all is that began before the end."""
        last = float("inf")
        while True:
            if ended.is_set() and last == float("inf"):
                last = time.time()
            try:
                kind, _, content = self._receive()
            except TimeoutError:
                if ended.is_set():
                    return
                continue
            if kind == EXECUTED:
                seen.texts.append(words(content))
            told = _TIME.search(content)
            if told and float(told[1]) > last:
                return

    def status(self) -> tuple[int, ...]:
        """Ask how it is set: mask, enabled, failure, pid, rate, backlog limit, lost, backlog."""
        found: tuple[int, ...] = _STATUS.unpack_from(self.ask(_GET))
        return found

    def set(self, enabled: int, pid: int, backlog: int) -> None:
        """Switch it on or off, and say who listens."""
        self.ask(_SET, _STATUS.pack(_ENABLED | _PID | _BACKLOG, enabled, 0, pid, 0, backlog, 0, 0))

    def ask(self, kind: int, content: bytes = b"") -> bytes:
        """Ask, and wait until it is done; what is told meanwhile is too late to matter."""
        self.number += 1
        size = _HEADER.size + len(content)
        self.socket.send(_HEADER.pack(size, kind, _REQUEST_ACK, self.number, 0) + content)
        answer, done = b"", False
        while not done or (kind == _GET and not answer):
            told, number, content = self._receive()
            if number == self.number and told == _ERROR:
                code = -struct.unpack_from("=i", content)[0]
                if code:
                    raise OSError(code, os.strerror(code))
                done = True
            elif number == self.number and told == kind:
                answer = content
        return answer

    def _receive(self) -> tuple[int, int, bytes]:
        data = self.socket.recv(1 << 16)
        _, kind, _, number, _ = _HEADER.unpack_from(data)
        return kind, number, data[_HEADER.size :]


def words(record: bytes) -> bytes:
    """Read the arguments of a program, or a part of a very long one: as they are, or in hexadecimal digits."""
    found = _WORD.findall(record)
    return b"\n".join(plain or bytes.fromhex(digits.decode()) for plain, digits in found)
