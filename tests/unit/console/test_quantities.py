"""Sizes and durations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdctl_remote.console.quantities import go_duration, seconds, size
from etcdctl_remote.observed.etcdctl import milliseconds


@pytest.mark.parametrize(
    ("count", "written"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (20480, "20 KiB"),
        (24 * 1024**2 + 300_000, "24.3 MiB"),
        (2 * 1024**3, "2 GiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_sizes_have_binary_units(count: int, written: str) -> None:
    """A size is written with the unit that keeps it below 1024."""
    assert size(count) == written


@pytest.mark.parametrize(
    ("took", "written"),
    [
        (0, "0s"),
        (0.0005, "500ns"),
        (0.8124, "812.4µs"),
        (2.192932, "2.192932ms"),
        (1500, "1.5s"),
        (62_500, "1m2.5s"),
        (3_600_000, "1h0m0s"),
    ],
)
def test_durations_are_gos(took: float, written: str) -> None:
    """A duration reads as etcdctl, a Go program, would print it."""
    assert go_duration(took) == written


@given(st.integers(1, 10**15))
def test_durations_can_be_read_back(nanoseconds: int) -> None:
    """What is written is what `etcdctl -w json` would have given us."""
    read = milliseconds(go_duration(nanoseconds / 1e6))
    assert read is not None
    assert read == pytest.approx(nanoseconds / 1e6, rel=1e-9, abs=1e-6)


def test_steps_are_timed_in_tenths() -> None:
    """Short steps to a tenth, long ones to a second."""
    assert [seconds(0.04), seconds(0.84), seconds(75.2)] == ["0.0 s", "0.8 s", "75 s"]
