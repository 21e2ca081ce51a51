"""Applications that write all the time over TLS, and count every single request.

`python -m etcdctl_remote.lab.writer FOLDER fresh|kept URL…` writes until FOLDER/stop appears, then puts
what it has seen into FOLDER/MODE.json. `fresh` makes a new TLS connection for every write, `kept` keeps one
to each member. Each wait in a request has 200 ms. With FOLDER/retry there, one that fails is tried at the next member
for up to three seconds, as client libraries do; it is counted. Certificates are read from
FOLDER/{ca.crt,client.pem} whenever a connection is made. When the first write is through, a line says so.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from .model import Lab

TIMEOUT = 0.2
"""Seconds for each wait in a request: to connect, to shake hands, for the answer."""
PATIENCE = 3.0
"""Seconds until a write that is tried again counts as failed."""
PAUSE = 0.02
MODES: tuple[Literal["fresh", "kept"], ...] = ("fresh", "kept")


@dataclass
class Seen:
    """What one client has seen."""

    acked: list[tuple[int, float]] = field(default_factory=list)
    """Which write was acknowledged, and when."""
    failed: list[tuple[int, str]] = field(default_factory=list)
    retried: list[tuple[int, str]] = field(default_factory=list)
    connections: int = 0

    @property
    def longest_gap(self) -> float:
        """Seconds between two acknowledged writes."""
        return max((b[1] - a[1] for a, b in pairwise(self.acked)), default=0.0)


class Client:
    """One application."""

    def __init__(self, folder: Path, mode: str, urls: list[str]) -> None:
        self.folder, self.mode, self.urls = folder, mode, urls
        self.kept: dict[str, http.client.HTTPSConnection] = {}
        self.seen = Seen()

    def run(self) -> None:
        """Write until told to stop."""
        turn = cycle(self.urls)
        number = 0
        while not (self.folder / "stop").exists():
            number += 1
            self.write(number, turn)
            if number == 1:
                print("writing", flush=True)
            time.sleep(PAUSE)
        result = {"acked": self.seen.acked, "failed": self.seen.failed, "retried": self.seen.retried}
        result |= {"connections": self.seen.connections}
        (self.folder / f"{self.mode}.json").write_text(json.dumps(result), encoding="utf-8")

    def write(self, number: int, turn: Iterator[str]) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            url = next(turn)
            try:
                self.put(url, f"{self.mode}/{number}", str(number))
            except (OSError, http.client.HTTPException) as error:
                said = f"{url}: {type(error).__name__}: {error}"
                if not (self.folder / "retry").exists() or time.monotonic() > end:
                    self.seen.failed.append((number, said))
                    return
                self.seen.retried.append((number, said))
            else:
                self.seen.acked.append((number, time.time()))
                return

    def put(self, url: str, key: str, value: str) -> None:
        connection = self.kept.pop(url, None) or self.connect(url)
        body = {"key": encoded(key), "value": encoded(value)}
        try:
            connection.request("POST", "/v3/kv/put", json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
        except BaseException:
            connection.close()
            raise
        if self.mode == "kept":
            connection.auto_open = 0
            self.kept[url] = connection
        else:
            connection.close()
        if answer.status != 200:
            raise http.client.HTTPException(f"{answer.status} {text.decode()[:200]}")

    def connect(self, url: str) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        context.load_cert_chain(self.folder / "client.pem")
        at = urlsplit(url)
        self.seen.connections += 1
        return http.client.HTTPSConnection(at.hostname or "", at.port, timeout=TIMEOUT, context=context)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def equip(lab: Lab, folder: Path, node: str = "n1") -> None:
    """Give the clients what the laptop holds now: the bundle, and a node's client certificate with its key."""
    trust(lab, folder)
    own = (_store(lab) / node / f"etcdctl.{end}" for end in ("crt", "key"))
    _replace(folder / "client.pem", b"".join(path.read_bytes() for path in own))


def trust(lab: Lab, folder: Path) -> None:
    """Give the clients the bundle that the laptop holds now, and no certificate."""
    folder.mkdir(exist_ok=True)
    _replace(folder / "ca.crt", (_store(lab) / "ca.crt").read_bytes())


def _store(lab: Lab) -> Path:
    return lab.inventory.parent / "certs" / lab.name / "current"


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}")
    partial.write_bytes(content)
    partial.replace(path)


@contextmanager
def writing(lab: Lab, folder: Path, *, retry: bool = False) -> Iterator[dict[str, Seen]]:
    """Have both clients write from before the block to its end; then what they saw is complete.

    `folder` has the certificates they use; see `equip`.
    """
    for name in ("stop", "retry"):
        (folder / name).unlink(missing_ok=True)
    urls = [f"https://{node.address}:2379" for node in lab.nodes]
    if retry:
        (folder / "retry").touch()
    run = ("nice", "-n", "-15", sys.executable, "-m", __name__, str(folder))
    running = [subprocess.Popen([*run, mode, *urls], stdout=subprocess.PIPE) for mode in MODES]  # noqa: S603 (our own program)
    found: dict[str, Seen] = {}
    try:
        for process in running:
            if process.stdout is not None:
                process.stdout.readline()
        yield found
    finally:
        (folder / "stop").touch()
        for process in running:
            process.communicate(timeout=30)
    for mode in MODES:
        told: dict[str, Any] = json.loads((folder / f"{mode}.json").read_text(encoding="utf-8"))
        found[mode] = Seen(**told)


if __name__ == "__main__":
    Client(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]).run()
