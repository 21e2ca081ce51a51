"""Say why a start failed: the decisive lines of the journals, and what they mean."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..errors import Failed, Problem, TimedOut
from ..observed.state import ClusterState
from ..remote import units
from ..remote.host import Command
from .causes import KNOWN, Cause
from .gates import why_silent

LINES = 400
"""How far back the journal is read: etcd says some 60 lines until it is ready, a panic 60 more."""
SHOWN = 2
"""Decisive lines shown for each node."""
GRAVE = ("fatal", "panic", "dpanic", "error")
ENDING = re.compile("use of closed network connection|http: Server closed|context canceled")
"""What etcd calls an error whenever it is stopped."""


@dataclass(frozen=True)
class Line:
    """One entry of the journal: etcd's JSON taken apart, or plain text."""

    start: str
    """systemd's invocation id: which start of the unit it belongs to."""
    text: str
    level: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)

    @property
    def tells(self) -> str:
        """What patterns are looked for in: `msg: error` of etcd's own, else the text."""
        if not self.fields:
            return self.text
        parts = (self.fields.get("msg"), self.fields.get("error"), self.fields.get("reason"))
        return ": ".join(str(part) for part in parts if part)


def journal_command() -> Command:
    """Read what etcd said last; whoever explains does not wait for a sick disk for long."""
    return replace(units.journal(LINES), timeout=20.0)


def journal_lines(output: str) -> list[str]:
    """Split what `journal_command` printed; each line is one entry as JSON."""
    return [line for line in output.splitlines() if line.startswith("{")]


def explain(now: ClusterState, reason: str, journals: Mapping[str, Sequence[str]]) -> Problem:
    """Turn "this did not come true" into an error that says, node by node, why not and what helps."""
    hosts: dict[str, str] = {}
    fixes: dict[str, None] = {}
    for node in sorted({*journals, *now.unreachable}):
        told, fix = explain_node(node, journals.get(node, ()))
        hosts[node] = told or (why_silent(now, node) or "it serves").removeprefix(f"{node}: ")
        if fix:
            fixes[fix] = None
    failed = any(host.unit.active == "failed" for host in now.hosts.values())
    mend = "mend what the journal names (`logs` shows all of it; a setting: in the inventory), then run the task again"
    hint = "; ".join(fixes) or mend
    return (Failed if failed else TimedOut)(reason, hint, hosts)


def explain_node(node: str, journal: Iterable[str]) -> tuple[str, str]:
    """Say what one node's journal tells of its last start, and the fix; both empty if nothing does."""
    for lines in _starts(journal):
        known = _recognise(lines)
        if known:
            cause, told = known
            values = _values(cause, told, node)
            shown = "".join(f"\n      {_short(line)}" for line in told[-SHOWN:])
            return cause.means.format_map(values).rstrip(": ") + shown, cause.fix.format_map(values)
        grave = _distinct(line for line in lines if line.level in GRAVE and not ENDING.search(line.tells))
        if grave:
            return "etcd says" + "".join(f"\n      {_short(line)}" for line in grave[-SHOWN:]), ""
    return "", ""


def _starts(journal: Iterable[str]) -> list[list[Line]]:
    """Group entries by start of the unit; the last one, and the one before if that failed.

    A unit that is started again and again has just begun when we look: what the start before
    said is then the answer. One that was stopped in order has nothing to do with it. Lines of a
    process that is gone before journald looks carry no id: they belong where they stand.
    """
    starts: dict[str, list[Line]] = {}
    start = ""
    for entry in journal:
        line = parse(entry)
        if line:
            start = line.start or start
            starts.setdefault(start, []).append(line)
    *before, last = starts.values() if starts else [[]]
    failed = [lines for lines in before[-1:] if any("Failed with result" in line.text for line in lines)]
    return [last, *failed]


def parse(entry: str) -> Line | None:
    """Read one journal entry; None if it carries no message."""
    try:
        said = json.loads(entry)
    except ValueError:
        return None
    message = said.get("MESSAGE")
    if isinstance(message, list):  # not UTF-8: journald gives it as numbers
        message = bytes(message).decode("utf-8", "replace")
    if not message:
        return None
    start = str(said.get("_SYSTEMD_INVOCATION_ID") or said.get("INVOCATION_ID") or "")
    if said.get("INVOCATION_ID"):  # of systemd's own lines the other is pid 1's
        start = str(said["INVOCATION_ID"])
    try:
        fields = json.loads(message) if message.startswith("{") else {}
    except ValueError:
        fields = {}
    return Line(start, message, str(fields.get("level", "")), fields)


def _recognise(lines: Sequence[Line]) -> tuple[Cause, list[Line]] | None:
    """Find the most telling known cause and the distinct lines that show it."""
    decisive = [line for line in lines if line.level not in ("info", "debug")]
    for cause in KNOWN:
        told = _distinct(line for line in decisive if cause.pattern.search(line.tells))
        if told:
            return cause, told
    return None


def _distinct(lines: Iterable[Line]) -> list[Line]:
    """Each thing said once; Go says a panic again after etcd has logged it."""
    return list({line.tells.removeprefix("panic: "): line for line in lines}.values())


class _Blank(dict[str, str]):
    """Leaves out what a pattern did not catch."""

    def __missing__(self, key: str) -> str:
        return ""


def _values(cause: Cause, told: Sequence[Line], node: str) -> _Blank:
    """Collect what the pattern caught: of all lines for peers, else of the last."""
    found = [match for line in told if (match := cause.pattern.search(line.tells))]
    values = _Blank(node=node)
    for match in found:
        for name, value in match.groupdict().items():
            if value:
                values[re.sub(r"\d$", "", name)] = value
    peers = dict.fromkeys(match["peers"] for match in found if "peers" in match.groupdict())
    if peers:
        values["peers"] = ", ".join(peers)
    return values


def _short(line: Line) -> str:
    """Show a line as a person reads it: level, message, and the fields that matter."""
    if not line.fields:
        return line.text[:300]
    more = ("remote-peer-id", "remote-addr", "ip-addresses", "dir", "path")
    extra = "".join(f" {key}={line.fields[key]}" for key in more if key in line.fields)
    return f"{line.level}: {line.tells}{extra}"[:400]
