"""Spans of time on the command line."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdctl_remote.desired.durations import duration, parse_duration
from etcdctl_remote.errors import UsageError


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("2w", timedelta(days=14)),
        ("90m", timedelta(minutes=90)),
        ("0d", timedelta()),
        (" 7d ", timedelta(days=7)),
    ],
)
def test_what_is_taken(text: str, span: timedelta) -> None:
    """A whole number and one unit."""
    assert parse_duration(text, "--within") == span


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "d",
        "-1d",
        "1.5d",
        "30 d",
        "30D",
        "1y",
        "30days",
        "1w2d",
        "+3d",
        "1e3d",
        "٣d",
        "3d\n4d",
    ],
)
def test_what_is_no_span(text: str) -> None:
    """Bad usage, with the flag, what was given, and the forms that are taken."""
    with pytest.raises(UsageError, match="is no span of time") as caught:
        parse_duration(text, "--fail-within")
    assert f"--fail-within {text!r}" in caught.value.message
    for form in ("90m", "12h", "30d", "2w"):
        assert form in caught.value.hint


def test_what_is_too_long() -> None:
    """It is a span, of centuries."""
    with pytest.raises(UsageError, match="--within '99999999d' is too long"):
        parse_duration("99999999d", "--within")


@given(st.integers(0, 99_999), st.sampled_from("wdhm"))
def test_what_is_written_is_read(number: int, unit: str) -> None:
    """Whatever can be typed comes back as the same span."""
    span = parse_duration(f"{number}{unit}", "--within")
    assert parse_duration(duration(span), "--within") == span
