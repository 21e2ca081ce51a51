"""What the preflight found: one line for each node and check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    """How a check ended. A warning never forbids a task, a failure may."""

    PASS = "pass"  # noqa: S105 (the word, not a password)
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One check on one node. `message` is the value seen or, if it is not good, the fix."""

    node: str
    check: str
    result: Result
    message: str


_GRAVITY = {Result.PASS: 0, Result.WARN: 1, Result.FAIL: 2}


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort by gravity, the worst last: the end of a long table is what a terminal shows.

    Within one gravity the order of the checks stays as they were made.
    """
    return tuple(sorted(findings, key=lambda finding: _GRAVITY[finding.result]))


def worst(findings: Iterable[Finding]) -> Result:
    """Return the gravest result; PASS if nothing was checked."""
    return max((finding.result for finding in findings), key=_GRAVITY.__getitem__, default=Result.PASS)


def document(findings: Iterable[Finding]) -> dict[str, object]:
    """Return the JSON shape: `{"result": [{"node", "check", "result", "message"}]}`."""
    return {
        "result": [
            {"node": f.node, "check": f.check, "result": str(f.result), "message": f.message}
            for f in ordered(findings)
        ]
    }
