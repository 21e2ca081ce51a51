"""etcdctl's JSON, typed. Ids are bare uint64 there, and zero values are left out.

Shapes: etcd `etcdctl/ctlv3/command/printer_json.go`, 3.4 to 3.7.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..desired.model import ClusterSpec, NodeSpec, url
from .state import Endpoint, Member

_UNITS = {"h": 3_600_000.0, "m": 60_000.0, "s": 1000.0, "ms": 1.0, "µs": 1e-3, "us": 1e-3, "ns": 1e-6}


def endpoint(text: str) -> Endpoint | None:
    """Read `endpoint status -w json` of one endpoint; None if it did not answer ([] or null).

    ValueError on anything that is not etcdctl's.
    """
    with _strict("endpoint status"):
        entries = json.loads(text) or []
        return _endpoint(entries[0]["Status"]) if entries else None


def _endpoint(status: dict[str, Any]) -> Endpoint:
    header = status["header"]
    return Endpoint(
        cluster_id=_number(header, "cluster_id"),
        member_id=_number(header, "member_id"),
        version=str(status.get("version", "")),
        leader=_number(status, "leader", 0),
        raft_term=_number(status, "raftTerm", 0),
        raft_index=_number(status, "raftIndex", 0),
        raft_applied=_number(status, "raftAppliedIndex", 0),
        db_size=_number(status, "dbSize", 0),
        db_in_use=_number(status, "dbSizeInUse", 0),
        learner=bool(status.get("isLearner", False)),
        revision=_number(header, "revision", 0),
        errors=_texts(status, "errors"),
    )


def members(text: str) -> tuple[Member, ...]:
    """Read `member list -w json`, ordered by id. ValueError on anything that is not etcdctl's."""
    with _strict("member list"):
        found = [_member(entry) for entry in json.loads(text)["members"]]
        return tuple(sorted(found, key=lambda member: member.id))


def listed_by(text: str) -> tuple[int, int]:
    """Read from the same answer which cluster and which member gave it. ValueError as above."""
    with _strict("member list"):
        header = json.loads(text)["header"]
        return _number(header, "cluster_id"), _number(header, "member_id")


def _member(entry: dict[str, Any]) -> Member:
    return Member(
        id=_number(entry, "ID"),
        name=str(entry.get("name", "")),
        peer_urls=_texts(entry, "peerURLs"),
        client_urls=_texts(entry, "clientURLs"),
        learner=bool(entry.get("isLearner", False)),
    )


def health(text: str) -> tuple[bool, float | None, str]:
    """Read `endpoint health -w json` of one endpoint: healthy, milliseconds taken, error.

    ValueError on anything that is not etcdctl's.
    """
    with _strict("endpoint health"):
        entry = json.loads(text)[0]
        return entry["health"] is True, milliseconds(str(entry.get("took", ""))), str(entry.get("error", ""))


def healthy(text: str) -> bool:
    """Read the same answer: whether a linearizable read went through. ValueError as above."""
    return health(text)[0]


@contextmanager
def _strict(asked: str) -> Iterator[None]:
    """Have one error for all that can be wrong with an answer: cut off, or of another shape."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not an answer to `{asked} -w json`: {type(error).__name__}: {error}") from error


def _number(of: dict[str, Any], key: str, default: int | None = None) -> int:
    value = of[key] if default is None else of.get(key, default)
    if type(value) is not int:
        raise TypeError(f"{key} is {value!r}")
    return value


def _texts(of: dict[str, Any], key: str) -> tuple[str, ...]:
    return tuple(str(value) for value in of.get(key) or ())


def milliseconds(took: str) -> float | None:
    """Read a Go duration such as `1m2.5s` or `812.4µs`; None if it is not one."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s|µs|us|ns)", took)
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts), 6) if parts else None


VAGUE = ("", "context deadline exceeded", "unhealthy cluster")
"""What etcdctl says at last of whatever took too long; its log may know what it tried meanwhile."""

_WRAPPING = re.compile(
    r"^(?:rpc error: code = \w+ desc = |latest balancer error: |connection error: desc = |\"|transport: |"
    r"Error while dialing:? )"
)
"""What gRPC and etcd's client put around a cause, one inside the other."""


_PLAINLY = {"all SubConns are in TransientFailure": "no connection to etcd could be made"}
"""All that 3.4 tells of a refused connection or handshake, but for `endpoint status`."""


def error_line(stderr: str) -> str:
    """Return the telling part of etcdctl's stderr: its last word, or where that is vague what it logged."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip() not in ("", "null", "[]")]
    plain = [line for line in lines if not line.startswith(("{", "[{"))]
    said = _said(plain[-1]) if plain else ""
    if said not in VAGUE:
        return said
    logged = [cause for line in lines if (cause := _logged(line))]
    return next((cause for cause in reversed(logged) if cause not in VAGUE), logged[-1] if logged else said)


def _said(line: str) -> str:
    """Return a plain line without what only names the endpoint: that is known."""
    found = re.fullmatch(r"Failed to get the status of endpoint \S+ \((.*)\)", line)
    return _unwrapped(found[1] if found else line.removeprefix("Error: "))


def _logged(line: str) -> str:
    """Return the cause inside one line of JSON, a log entry or a health answer; empty if it has none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    entry = entry[0] if isinstance(entry, list) and entry else entry
    return _unwrapped(str(entry.get("error") or "")) if isinstance(entry, dict) else ""


def _unwrapped(cause: str) -> str:
    while found := _WRAPPING.match(cause):
        cause = cause[found.end() :].removesuffix('"')
    return _PLAINLY.get(cause, cause)


INSTALLED = '[ -x "$1" ] || { echo "etcd is not installed here: run deploy" >&2; exit 127; }\n'
"""The beginning of a script that runs etcdctl: says so where there is none."""


def argv(cluster: ClusterSpec, node: NodeSpec) -> tuple[str, ...]:
    """Return etcdctl on its node: own endpoint and certificates, up to the sub-command."""
    pki = f"{cluster.paths.config}/pki/current"
    return (
        f"{cluster.paths.bin}/etcdctl",
        f"--endpoints={url(node.bind, cluster.ports.client)}",
        f"--cacert={pki}/ca.crt",
        f"--cert={pki}/etcdctl.crt",
        f"--key={pki}/etcdctl.key",
    )
