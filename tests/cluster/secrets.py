"""Where a private key must never be seen: arguments, output, journals, files that were meant to be gone."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Node

_LEFT = "grep -rlsF 'PRIVATE KEY' /tmp /var/tmp /run /dev/shm || :"
_ARGUMENTS = "cat /proc/[0-9]*/cmdline 2>/dev/null || :"
_MODES = r"find /etc/etcd -printf '%p %y %m %u:%g\n'"


def lines(*folders: Path) -> frozenset[str]:
    """Every line of base64 of every private key below these folders: none of them may be anywhere else."""
    keys = [path for folder in folders for path in folder.rglob("*.key")]
    return frozenset(line for key in keys for line in key.read_text().splitlines() if "-----" not in line)


@contextmanager
def arguments(node: Node) -> Iterator[list[str]]:
    """Collect the arguments of every process, here and on a node, again and again while something runs."""
    seen: list[str] = []
    ended = Event()

    def here() -> None:
        known: set[str] = set()
        while not ended.wait(0.005):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    known.add(path.read_bytes().decode("utf-8", "replace"))
        seen.extend(known)

    def there() -> None:
        while not ended.is_set():
            seen.append(execute(node, _ARGUMENTS))

    threads = [Thread(target=work) for work in (here, there)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def left_on(node: Node) -> str:
    """Name the files on a node that have a key where none belongs, and what its journal says with one in it."""
    return execute(node, f"{_LEFT}; journalctl --no-pager -q | grep -F 'PRIVATE KEY' || :")


def logged(node: Node) -> str:
    """All that the node's services and logins have written to its journal."""
    return execute(node, "journalctl --no-pager -q -o cat || :")


def on_node(node: Node) -> dict[str, str]:
    """Read type, mode and owner of everything below etcd's directory on a node."""
    return dict(line.split(" ", 1) for line in execute(node, _MODES).splitlines())


def open_to_others(folder: Path) -> list[str]:
    """Name what somebody else than its owner could read, or write."""
    wanted = {True: 0o700, False: 0o600}
    found = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    return [
        f"{path} {stat.filemode(path.stat().st_mode)} {path.owner()}"
        for path in found
        if path.stat().st_mode & 0o7777 != wanted[path.is_dir()] or path.owner() != folder.owner()
    ]
