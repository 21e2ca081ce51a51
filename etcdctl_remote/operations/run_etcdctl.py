"""etcdctl on a node, with the right endpoints and certificates; its exit code is passed on."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable
from typing import BinaryIO

from ..errors import UsageError, none_reached, on
from ..observed.etcdctl import INSTALLED, argv
from ..remote.host import Command
from .session import Session


def run_etcdctl(
    session: Session,
    arguments: str,
    node: str = "",
    *,
    out: Callable[[bytes], None],
    err: Callable[[bytes], None],
    stdin: BinaryIO | None = None,
) -> int:
    """Run `etcdctl ARGUMENTS` on `node`, or on the first one that can be reached; its exit code.

    What it says is handed on as it comes, for as long as it takes: `watch` has no end. Nothing
    of the arguments is read by a shell: they are split as a shell would, then quoted.
    """
    host = session.fleet.hosts[choose(session, node)]
    try:
        words = shlex.split(arguments)
    except ValueError as error:
        raise UsageError(
            f"-c {arguments!r} cannot be split into arguments: {error}", "balance the quotes"
        ) from error
    if not words:
        raise UsageError("no etcdctl arguments were given", "for example: -c 'member list -w table'")
    base = argv(session.cluster, session.cluster.node(host.name))
    options = itertools.takewhile(lambda word: word != "--", words)
    given = {word.split("=", 1)[0] for word in options if word.startswith("--")}
    kept = tuple(flag for flag in base[1:] if flag.split("=", 1)[0] not in given)
    # What it does is not said in errors: the words may hold a password (--user root:…).
    command = Command(INSTALLED + 'exec "$@"', (base[0], *kept, *words), about="etcdctl", writes=True)
    refused = False

    def watch(data: bytes) -> None:
        nonlocal refused
        refused = refused or b"connection refused" in data
        err(data)

    code = host.stream(command, stdin, out, watch)
    others = [name for name in session.fleet.hosts if name != host.name]
    if code and refused and others and not given & {"--endpoints", "--cluster"}:
        err(
            f"{host.name}'s etcd does not answer (connection refused); another node: --node {' or '.join(others)}\n".encode()
        )
    return code


def verb(arguments: str) -> str:
    """Return the first word for the journal; none of the others, and no flag: it may hold a password."""
    first = next(iter(arguments.split()), "")
    return first if first[:1].isalpha() and first.replace("-", "").isalpha() else ""


def choose(session: Session, node: str) -> str:
    """Return the node asked for, or the first of the inventory that can be reached."""
    names = [spec.name for spec in session.cluster.nodes]
    if node and node not in names:
        raise UsageError(
            f"there is no node {node} in {session.cluster.source}", f"choose one of {', '.join(names)}"
        )
    if node in session.unreachable:
        raise on(node, session.unreachable[node])
    reachable = [name for name in names if name in session.fleet.hosts]
    if not reachable:
        raise none_reached(session.unreachable)
    return node or reachable[0]
