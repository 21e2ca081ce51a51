"""Jump hosts: each logged in to once, whatever the number of nodes behind it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from ..errors import Problem
from .connection import Link, open_link
from .login import Keyring
from .ssh_config import Endpoint, Route
from .wire import Patience


@dataclass
class Gateways:
    """Jump hosts, each logged in to once for all the nodes behind it."""

    keyring: Keyring
    patience: Patience
    _links: dict[tuple[Endpoint, ...], Link | Problem] = field(default_factory=dict)
    _locks: dict[tuple[Endpoint, ...], threading.Lock] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reach(self, hops: tuple[Endpoint, ...], host: str) -> Link | None:
        """The link to the last hop, opening what is not open yet; None without hops."""
        if not hops:
            return None
        with self._lock:
            lock = self._locks.setdefault(hops, threading.Lock())
        with lock:
            found = self._links.get(hops)
            if found is None:
                found = self._links[hops] = self._open(hops, host)
        if isinstance(found, Problem):
            raise found
        return found

    def _open(self, hops: tuple[Endpoint, ...], host: str) -> Link | Problem:
        try:
            return open_link(
                hops[-1],
                f"jump host {hops[-1].host}",
                self.keyring,
                self.patience,
                self.reach(hops[:-1], host),
            )
        except Problem as problem:
            return problem

    def close(self) -> None:
        for link in list(self._links.values()):
            if isinstance(link, Link):
                link.close()


def open_route(way: Route, host: str, gateways: Gateways, patience: Patience) -> Link:
    """Connect to a host through its hops."""
    via = gateways.reach(way.hops, host)
    return open_link(way.target, host, gateways.keyring, patience, via)
