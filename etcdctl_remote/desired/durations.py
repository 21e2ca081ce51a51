"""Spans of time as an operator types them: `30d`, `12h`, `2w`, `90m`."""

from __future__ import annotations

import re
from datetime import timedelta

from ..errors import UsageError

_UNITS = {"w": timedelta(weeks=1), "d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}
_FORM = re.compile(r"([0-9]+)([wdhm])")
_DIGITS = 5


def parse_duration(text: str, flag: str) -> timedelta:
    """Read what was given to `flag`, `--within` say; UsageError names the forms that are taken.

    One unit is a must: a bare number could mean days as well as seconds.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{flag} {text!r} is no span of time",
            "a whole number and a unit: 90m (minutes), 12h (hours), 30d (days), 2w (weeks)",
        )
    if len(match[1]) > _DIGITS:
        raise UsageError(f"{flag} {text!r} is too long", "at most five digits, for example 400d (days)")
    return int(match[1]) * _UNITS[match[2]]


def duration(span: timedelta) -> str:
    """Write a span in the largest unit in which it is whole, as `parse_duration` reads it."""
    return next(
        (f"{span // unit}{name}" for name, unit in _UNITS.items() if span and not span % unit),
        f"{span // _UNITS['m']}m",
    )
