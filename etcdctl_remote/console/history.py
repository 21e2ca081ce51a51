"""The journal beside the inventory, read back: which runs there were, and what one did."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError
from .quantities import seconds
from .tables import Cell, Table

_OUTCOMES = {
    0: "done",
    1: "failed",
    2: "usage",
    3: "unreachable",
    4: "refused",
    5: "changes found",
    130: "interrupted",
}
UNFINISHED = "unfinished"
"""No last entry: the run goes on, or was killed."""


@dataclass(frozen=True)
class Run:
    """One run of one task, as its journal entries tell it."""

    id: str
    at: str = ""
    who: str = ""
    task: str = ""
    outcome: str = UNFINISHED
    steps: int = 0
    """Steps that succeeded."""
    message: str = ""
    entries: tuple[dict[str, Any], ...] = field(default=(), repr=False)


def runs(lines: Iterable[str]) -> tuple[Run, ...]:
    """Read a journal, oldest run first.

    A line that is no JSON object is passed over: the last one may be torn, as it was being
    written when the laptop died.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        entry = _entry(line)
        if entry is not None:
            found.setdefault(str(entry["run"]), []).append(entry)
    return tuple(_run(id, entries) for id, entries in found.items())


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "run" in entry else None


def _run(id: str, entries: list[dict[str, Any]]) -> Run:
    start = next((entry for entry in entries if entry.get("event") == "start"), entries[0])
    end = next((entry for entry in entries if entry.get("event") == "end"), None)
    return Run(
        id=id,
        at=str(start.get("at", "")),
        who=str(start.get("who", "")),
        task=str(start.get("task", "")),
        outcome=_outcome(end),
        steps=sum(entry.get("event") == "done" for entry in entries),
        message=str(end.get("message", "")) if end else "",
        entries=tuple(entries),
    )


def _outcome(end: dict[str, Any] | None) -> str:
    if end is None:
        return UNFINISHED
    code = end.get("exit")
    return _OUTCOMES.get(code, f"exit {code}") if isinstance(code, int) else f"exit {code}"


def one(found: Iterable[Run], id: str) -> Run:
    """Find a run by its id or an unambiguous beginning of it; UsageError if there is none."""
    hits = [run for run in found if run.id.startswith(id)]
    exact = [run for run in hits if run.id == id]
    if len(exact or hits) == 1:
        return (exact or hits)[0]
    seen = "no run" if not hits else f"{len(hits)} runs"
    raise UsageError(f"{seen} in the journal with the id {id}", "`audit` lists the runs and their ids")


def runs_table(found: Iterable[Run]) -> Table:
    """Show one row a run, the newest last."""
    rows = tuple(
        (run.id, _when(run.at), run.who, run.task, _coloured(run.outcome), str(run.steps)) for run in found
    )
    headings = ("RUN", "WHEN", "WHO", "TASK", "OUTCOME", ">STEPS")
    return Table(headings, rows, after=() if rows else (Cell("no runs yet", "dim"),))


def runs_document(found: Iterable[Run]) -> dict[str, object]:
    """Return the JSON shape of `audit`."""
    return {"runs": [_summary(run) for run in found]}


def run_document(run: Run) -> dict[str, object]:
    """Return the JSON shape of `audit --run ID`: the summary and every entry as written."""
    entries = [{key: value for key, value in entry.items() if key != "run"} for entry in run.entries]
    return {**_summary(run), "entries": entries}


def _summary(run: Run) -> dict[str, object]:
    return {
        "id": run.id,
        "at": run.at,
        "who": run.who,
        "task": run.task,
        "outcome": run.outcome,
        "steps": run.steps,
        "message": run.message,
    }


def run_table(run: Run) -> Table:
    """Show what one run did, entry by entry."""
    rows = tuple(_row(entry) for entry in run.entries)
    head = f"{run.task or 'a task'} by {run.who or 'somebody'}, {run.outcome}, {run.steps} steps done"
    return Table(("WHEN", "WHERE", "WHAT"), rows, before=(Cell(f"run {run.id}: {head}", "bold"),))


def _row(entry: dict[str, Any]) -> tuple[Cell | str, ...]:
    when, host = _when(str(entry.get("at", ""))), str(entry.get("host", ""))
    step = str(entry.get("step", ""))
    match entry.get("event"):
        case "start":
            return when, "", f"start {entry.get('task', '')} on {entry.get('cluster', '')}{_arguments(entry)}"
        case "plan":
            return when, "", f"plan {entry.get('title', '')}: {entry.get('changes', '?')} changes"
        case "stage":
            return when, "", f"stage {entry.get('number')} of {entry.get('total')}: {entry.get('title', '')}"
        case "step":
            return when, host, Cell(f"{step} …", "dim")
        case "done":
            return when, host, Cell(f"{step} … done ({seconds(float(entry.get('seconds') or 0))})", "green")
        case "failed":
            return when, host, Cell(f"{step} … failed: {entry.get('error', '')}", "red")
        case "end":
            message = f": {entry['message']}" if entry.get("message") else ""
            return when, "", _coloured(_outcome(entry) + message)
        case other:
            return when, host, str(other)


def _arguments(entry: dict[str, Any]) -> str:
    given = entry.get("arguments")
    if not isinstance(given, dict) or not given:
        return ""
    return f" ({', '.join(f'{name}={value}' for name, value in given.items())})"


def _when(at: str) -> str:
    """Shorten a UTC time to the second; leave any other as it is."""
    day, _, rest = at.partition("T")
    return f"{day}T{rest[:8]}Z" if rest.endswith(("+00:00", "Z")) else at


def _coloured(outcome: str) -> Cell:
    style = "green" if outcome == "done" else "yellow" if outcome.startswith(UNFINISHED) else "red"
    return Cell(outcome, style)
