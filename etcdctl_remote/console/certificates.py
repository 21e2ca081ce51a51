"""`certs`: its text and its document."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from ..desired.durations import duration
from ..observed.verdicts import APPLICATION, LAPTOP, MILD, OWNERS, Fault, Report, Row, Verdict, gravest_first
from .style import Paint
from .tables import Cell, Table

SHORT = 8
"""Hex digits of a fingerprint in the table; the document has all of them."""
_HEAD = ("NODE", "ROLE", "WHERE", "ENDS", ">DAYS", "SHA256", "VERDICT")
_AGE = (Verdict.EXPIRED, Verdict.EXPIRING)
_AUTHORITIES = ("CA", "FOR", "WHERE", "ENDS", ">DAYS", "SHA256", "VERDICT")


@dataclass(frozen=True)
class CertificatesView:
    """CAs, then the nodes' certificates, what to do, and what ends first."""

    report: Report
    limit: timedelta | None = None
    """What `--fail-within` asked for."""

    def text(self, paint: Paint, width: int | None = None) -> str:
        """Render."""
        report = self.report
        notes = tuple(Cell(f"note: {note}", "yellow") for note in report.notes)
        if not report.deployed:
            line = Cell(
                f"{report.cluster} is not deployed yet: there is no certificate anywhere. Next: `deploy`"
            )
            return Table((), (), before=(line,)).text(paint, width)
        authorities = tuple(row for row in report.rows if row.authority)
        leaves = tuple(row for row in report.rows if not row.authority)
        everywhere = frozenset(row.node for row in leaves if row.role != APPLICATION)
        above = Table(_AUTHORITIES, _authority_rows(authorities, everywhere), before=notes)
        below = Table(_HEAD, _leaf_rows(leaves), after=(*_cures(report.rows), *self._closing()))
        return f"{above.text(paint, width)}\n\n{below.text(paint, width)}"

    def _closing(self) -> Iterable[Cell]:
        if self.limit is not None:
            yield from _failing(self.report, self.limit)
        first = self.report.first
        if first:
            yield Cell(_first(first), _style(first.verdict))


def _authority_rows(rows: tuple[Row, ...], everywhere: frozenset[str]) -> tuple[tuple[Cell | str, ...], ...]:
    """Put what is the same at several places into one row."""
    shown = []
    for same in _grouped(rows, lambda row: (_digest(row), row.verdict, _seen(row))):
        first, nodes = same[0], list(dict.fromkeys(row.node for row in same if row.place != LAPTOP))
        where = [LAPTOP] if any(row.place == LAPTOP for row in same) else []
        where += (
            ["all nodes"] if len(nodes) > 1 and everywhere <= {*nodes} else [" ".join(nodes)] if nodes else []
        )
        signs = any(row.signs for row in same)
        roles = dict.fromkeys(row.role.removesuffix(" CA") for row in same)
        subject = first.leaf.subject if first.leaf else "-"
        shown.append(
            (subject, " ".join(roles), ", ".join(where), *_facts(first, "ok, signs" if signs else "ok"))
        )
    return tuple(shown)


def _leaf_rows(rows: tuple[Row, ...]) -> tuple[tuple[Cell | str, ...], ...]:
    shown: list[tuple[Cell | str, ...]] = []
    for places in _grouped(rows, lambda row: (row.node, row.role, row.role == APPLICATION and _digest(row))):
        groups = _grouped(places, lambda row: (_digest(row), row.verdict, _seen(row)))
        for same in groups:
            where = [row.place if len(groups) > 1 else row.place.partition(":")[0] for row in same]
            shown.append((same[0].node, same[0].role, " ".join(where), *_facts(same[0], _fine(same[0]))))
    return tuple(shown)


def _fine(row: Row) -> str:
    """Name the CA of an application's: nothing else in the table tells which of two it is."""
    return f"ok, by {row.leaf.issuer}" if row.role == APPLICATION and row.leaf else "ok"


def _grouped(rows: Iterable[Row], key: Callable[[Row], object]) -> list[list[Row]]:
    found: dict[object, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return list(found.values())


def _facts(row: Row, fine: str) -> tuple[Cell | str, ...]:
    style = _style(row.verdict)
    said = _seen(row) if row.faults else fine
    if row.leaf is None:
        return ("-", "-", "-", Cell(said, style))
    return (
        f"{row.leaf.not_after:%Y-%m-%d}",
        Cell(str(row.days), style),
        _digest(row)[:SHORT],
        Cell(said, style),
    )


def _style(verdict: Verdict) -> str:
    return "green" if verdict is Verdict.OK else "yellow" if verdict in MILD else "red"


def _digest(row: Row) -> str:
    return row.leaf.fingerprint if row.leaf else ""


def _seen(row: Row) -> str:
    """Say all that was found at one place, the gravest with what was seen of it."""
    if not row.faults:
        return ""
    first, *others = row.faults
    return "; ".join([f"{first.verdict}: {first.seen}", *(str(fault.verdict) for fault in others)])


def _cures(rows: Iterable[Row]) -> Iterable[Cell]:
    """Say what to do, each thing once, with whom it concerns; the gravest first."""
    found: list[tuple[Fault, Row]] = [(fault, row) for row in rows for fault in row.faults if fault.do]
    order = {fault: number for number, fault in enumerate(gravest_first(fault for fault, _ in found))}
    concerned: dict[str, list[Row]] = {}
    for fault, row in sorted(found, key=lambda pair: order[pair[0]]):
        concerned.setdefault(fault.do, []).append(row)
    for do, whom in concerned.items():
        yield Cell(f"→ {_names(whom)}: {do}", "yellow")


def _names(rows: Iterable[Row]) -> str:
    """Name certificates shortly: `n1 (server, peer), n2 (client CA)`."""
    roles: dict[str, dict[str, None]] = {}
    for row in rows:
        roles.setdefault(LAPTOP if row.node == "-" else row.node, {})[row.role] = None
    return ", ".join(f"{node} ({', '.join(some)})" for node, some in roles.items())


def _failing(report: Report, limit: timedelta) -> Iterable[Cell]:
    """Say who fails by what is wrong, then who fails by the date alone, and what to do about that."""
    bad: list[Row] = []
    ending: dict[str, list[Row]] = {}
    for row in report.failing(limit):
        (ending.setdefault(_renewal(report, row, limit), []) if row.verdict in MILD else bad).append(row)
    if bad:
        yield Cell(f"fails: {_names(bad)}", "red")
    for renew, some in ending.items():
        yield Cell(f"fails: {_names(some)}: ends within {duration(limit)}: {renew}", "red")


def _renewal(report: Report, row: Row, limit: timedelta) -> str:
    """Say what gives one that lasts longer than the limit; or that none would."""
    if row.anew:
        return f"`{row.anew}`"
    key, days = ("ca_days", report.ca_days) if row.authority else ("leaf_days", report.leaf_days)
    if days and limit >= timedelta(days=days):
        return f"no new one lasts so long, for `pki.{key}` is {days}: ask for less, or raise that"
    return "`rotate-certs --ca`" if row.authority else f"`rotate-certs --within {duration(limit)}`"


def _first(row: Row) -> str:
    """Say what ends first, when, and what to do."""
    if row.leaf is None or row.days is None:
        return ""
    whose = "" if row.node == "-" else f" of {row.node}"
    what = f"the {row.role} {row.leaf.subject}" if row.authority else f"the {row.role} certificate{whose}"
    when = f"in {row.days} days" if row.days >= 0 else "and has expired"
    after = f" after {row.later:%Y-%m-%d}" if row.later else ""
    default = "`rotate-certs --ca` replaces it" if row.authority else f"`rotate-certs` renews it{after}"
    if row.anew:
        default = OWNERS if row.authority else f"`{row.anew}` makes another"
    do = row.faults[0].do if row.faults else default
    return f"first to expire: {what}, on {row.leaf.not_after:%Y-%m-%d}, {when}: {do}"


def document(report: Report, limit: timedelta | None = None) -> dict[str, object]:
    """Return the JSON shape of `certs`: every certificate at every place; null means not seen."""
    first = report.first
    return {
        "cluster": report.cluster,
        "taken": report.taken.isoformat(timespec="seconds"),
        "verdict": str(report.verdict),
        "authorities": [_record(row, limit) for row in report.rows if row.authority],
        "certificates": [_record(row, limit) for row in report.rows if not row.authority],
        "first_to_expire": _record(first, limit) if first else None,
        "notes": list(report.notes),
        "unreachable": dict(report.unreachable),
    }


def _record(row: Row, limit: timedelta | None) -> Mapping[str, object]:
    leaf, file = row.leaf, row.file
    failing = None if limit is None else row.failing(limit)
    return {
        "node": None if row.node == "-" else row.node,
        "role": row.role,
        "place": row.place,
        "verdict": str(row.verdict),
        "faults": [{"verdict": str(f.verdict), "seen": f.seen, "do": f.do} for f in row.faults],
        "failing": failing,
        "days_left": row.days,
        "signs": row.signs if row.authority else None,
        "mode": f"{file.mode:04o}" if file else None,
        "owner": f"{file.owner}:{file.group}" if file else None,
        **(
            dict.fromkeys(_LEAF)
            if leaf is None
            else {
                "subject": leaf.subject,
                "issuer": leaf.issuer,
                "names": sorted(leaf.names),
                "usages": list(leaf.usages),
                "serial": leaf.serial,
                "fingerprint": leaf.fingerprint,
                "key_type": leaf.key_type,
                "not_before": leaf.not_before.isoformat(),
                "not_after": leaf.not_after.isoformat(),
            }
        ),
    }


_LEAF = (
    "subject",
    "issuer",
    "names",
    "usages",
    "serial",
    "fingerprint",
    "key_type",
    "not_before",
    "not_after",
)
