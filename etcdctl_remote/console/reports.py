"""`status`, `health` and `check`: their text and their documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ..observed.findings import Finding, Result, ordered
from ..observed.report import EndpointHealth, Health, Status, StatusRow
from .quantities import go_duration, size
from .tables import Cell, Table

HEADINGS = (
    "NODE",
    "MEMBER ID",
    "ROLE",
    "VERSION",
    ">DB SIZE",
    ">IN USE",
    ">TERM",
    ">INDEX",
    ">LAG",
    "ALARMS",
    ">CERT DAYS",
    "ERROR",
)

_ROLES = {"leader": "green", "unstarted": "yellow", "not a member": "yellow", "unknown": "yellow"}
_RESULTS = {Result.PASS: "green", Result.WARN: "yellow", Result.FAIL: "red"}


def status_table(status: Status) -> Table:
    """Show one row a member, then what may still be lost, then what to do."""
    return Table(
        HEADINGS,
        tuple(_status_row(row) for row in status.members),
        before=(Cell(_headline(status), "bold"),),
        after=(_tolerance(status.tolerates), *(Cell(f"→ {line}", "yellow") for line in status.advice)),
    )


def _headline(status: Status) -> str:
    parts = [
        status.cluster,
        f"cluster id {status.cluster_id:x}" if status.cluster_id is not None else "no cluster id seen",
        f"etcd {status.version}" if status.version else "no version seen",
        f"leader {status.leader}" if status.leader else _no_leader(status),
    ]
    return ", ".join(parts)


def _no_leader(status: Status) -> str:
    return "no leader" if status.tolerates == -1 else "no leader seen"


def _status_row(row: StatusRow) -> tuple[Cell | str, ...]:
    days = "red" if row.cert_days is not None and row.cert_days < 30 else ""
    return (
        row.node or "-",
        _id(row.id) or "-",
        Cell(row.role, "red" if row.down or row.role == "unreachable" else _ROLES.get(row.role, "")),
        row.version or "-",
        "-" if row.db_size is None else size(row.db_size),
        "-" if row.db_in_use is None else size(row.db_in_use),
        _number(row.raft_term),
        _number(row.raft_index),
        _number(row.applied_lag),
        Cell(" ".join(row.alarms), "red") if row.alarms else "none" if row.version else "-",
        Cell(_number(row.cert_days), days),
        Cell(row.error, "red"),
    )


def _tolerance(tolerates: int | None) -> Cell:
    if tolerates is None:
        return Cell("it cannot be told whether there is a quorum: etcd's auth denies the answer", "yellow")
    if tolerates < 0:
        return Cell("there is no quorum: the cluster takes no writes until lost members are back", "red")
    if tolerates == 0:
        return Cell("tolerates the loss of 0 more: one more lost member stops all writes", "yellow")
    return Cell(f"tolerates the loss of {tolerates} more", "green")


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _id(value: int | None) -> str | None:
    return None if value is None else f"{value:x}"


def status_document(status: Status) -> dict[str, object]:
    """Return the JSON shape of `status`; ids are hex strings, null means not seen."""
    return {
        "cluster": status.cluster,
        "cluster_id": _id(status.cluster_id),
        "version": status.version,
        "leader": status.leader,
        "tolerates": status.tolerates,
        "members": [
            {**vars(row), "id": _id(row.id), "alarms": list(row.alarms), "error": row.error or None}
            for row in status.members
        ],
        "advice": list(status.advice),
    }


def health_table(health: Health) -> Table:
    """Show one line an endpoint, in the words of `etcdctl endpoint health`."""
    return Table((), (), before=tuple(_health_line(endpoint) for endpoint in health.endpoints))


def _health_line(endpoint: EndpointHealth) -> Cell:
    if not endpoint.healthy:
        seen = endpoint.error or "no reason given"
        tried = "failed to commit proposal" if endpoint.asked else "it could not be asked"
        return Cell(f"{endpoint.endpoint} is unhealthy: {tried}: {seen}", "red")
    took = "unknown" if endpoint.took_ms is None else go_duration(endpoint.took_ms)
    return Cell(f"{endpoint.endpoint} is healthy: successfully committed proposal: took = {took}", "green")


def health_document(health: Health) -> dict[str, object]:
    """Return the JSON shape of `health`."""
    keys = ("node", "endpoint", "healthy", "took_ms")
    endpoints = [
        {**{key: getattr(each, key) for key in keys}, "error": each.error or None}
        for each in health.endpoints
    ]
    return {"cluster": health.cluster, "healthy": health.healthy, "endpoints": endpoints}


def findings_table(findings: Iterable[Finding]) -> Table:
    """Show every check, the failures last, right above the summary."""
    found = ordered(findings)
    rows = tuple((f.node, f.check, Cell(str(f.result), _RESULTS[f.result]), f.message) for f in found)
    return Table(("NODE", "CHECK", "RESULT", "MESSAGE"), rows, after=(_summary(found),))


def _summary(found: tuple[Finding, ...]) -> Cell:
    count = Counter(finding.result for finding in found)
    failing = list(dict.fromkeys(f.node for f in found if f.result is Result.FAIL))
    where = f" on {' '.join(failing)}" if failing else ""
    text = f"{count[Result.PASS]} passed, {count[Result.WARN]} warned, {count[Result.FAIL]} failed{where}"
    worst = Result.FAIL if failing else Result.WARN if count[Result.WARN] else Result.PASS
    return Cell(text, _RESULTS[worst])
