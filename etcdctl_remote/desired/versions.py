"""The etcd releases we know: which lines exist, their newest patch, which patches to avoid.

The table of flags (`flags.json`) knows exactly these lines; a line it has never seen could
have lost any flag, so it is refused. A newer patch of a known line is accepted: etcd adds and
removes flags with a new minor, and hardly ever in a patch.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from .model import Version

SAFE: dict[str, str] = {"3.5": "3.5.33", "3.6": "3.6.14", "3.7": "3.7.1"}
"""First patch of each living line without a known security hole (CVE-2026-73500, July 2026)."""

AVOID: tuple[tuple[str, str, str], ...] = (
    ("3.4.0", "3.4.20", "acknowledged writes of a one-node cluster can be lost in a crash (#14370)"),
    ("3.4.22", "3.4.24", "the authentication token fix was wrong and was taken back"),
    ("3.5.0", "3.5.2", "data can become inconsistent in a crash under load (#13766)"),
    ("3.5.3", "3.5.3", "panics at start with authentication on (#13946)"),
    ("3.5.4", "3.5.4", "acknowledged writes of a one-node cluster can be lost in a crash (#14370)"),
    ("3.5.5", "3.5.5", "revisions can diverge when killed during a defragmentation (#14685)"),
    ("3.4.0", "3.4.37", "a snapshot applied during a defragmentation corrupts data (#20650)"),
    ("3.5.0", "3.5.22", "a snapshot applied during a defragmentation corrupts data (#20650)"),
    ("3.6.0", "3.6.4", "a snapshot applied during a defragmentation corrupts data (#20650)"),
    ("3.4.42", "3.4.42", "users other than root cannot list members or alarms"),
    ("3.5.28", "3.5.28", "users other than root cannot list members or alarms"),
    ("3.6.9", "3.6.9", "users other than root cannot list members or alarms"),
)
"""From, to, what breaks: etcd's changelogs and post-mortems."""

LISTS: dict[str, str] = {"3.5": "3.5.32", "3.6": "3.6.13", "3.7": "3.7.0"}
"""First patch of each line that refuses what is revoked on its gRPC port, too (GHSA-3wh4-j44w-pg92)."""


@cache
def table() -> dict[str, Any]:
    """Read the table of lines, feature gates and flags once."""
    text = Path(__file__).with_name("flags.json").read_text("utf-8")
    return dict(json.loads(text))


def lines() -> tuple[str, ...]:
    """List the minor lines we know, oldest first: 3.4, 3.5, …"""
    return tuple(sorted(table()["newest"], key=_numbers))


def newest(line: str | None = None) -> Version:
    """Return the newest patch we know of a line; of the newest line if none is named."""
    return Version.parse(table()["newest"][line or lines()[-1]])


def wanted(text: str) -> Version:
    """Read the inventory's `version`; ValueError says what is wrong and what was expected."""
    known = ", ".join(str(newest(line)) for line in lines())
    try:
        version = Version.parse(text)
    except ValueError:
        if text.removeprefix("v") in lines():
            full = newest(text.removeprefix("v"))
            raise ValueError(f'{text!r} is a line, not a release; expected for example "{full}"') from None
        raise ValueError(f"{text!r} is not a release number; expected X.Y.Z, for example {known}") from None
    if version.line not in lines():
        raise ValueError(f"etcd {version.line} is not known; expected one of {known}")
    return version


def after(line: str) -> str | None:
    """Return the line that follows, if we know one."""
    following = [other for other in lines() if _numbers(other) > _numbers(line)]
    return following[0] if following else None


def advice(version: Version) -> tuple[str, ...]:
    """Say why this release should not be run, one sentence a reason; empty if it may."""
    said = [
        f"etcd {version}: {what}"
        for low, high, what in AVOID
        if Version.parse(low) <= version <= Version.parse(high)
    ]
    safe = SAFE.get(version.line)
    if safe is None:
        said.append(f"etcd {version.line} gets no more fixes; {newest(version.line)} was its last release")
    elif version < Version.parse(safe):
        said.append(f"etcd {version} has known security holes; use {safe} or newer")
    return tuple(said)


def deaf_to_lists(version: Version) -> str:
    """Say why this release lets in what is revoked, and what helps; empty if it does not."""
    first = LISTS.get(version.line)
    if first is None:
        best = Version.parse(next(iter(LISTS.values())))
        return f"etcd {version} ignores lists of revoked certificates, and {version.line} gets no fix: upgrade to {best}"
    if version < Version.parse(first):
        return (
            f"etcd {version} ignores lists of revoked certificates (GHSA-3wh4-j44w-pg92): upgrade to {first}"
        )
    return ""


def _numbers(line: str) -> tuple[int, ...]:
    return tuple(int(part) for part in line.split("."))
