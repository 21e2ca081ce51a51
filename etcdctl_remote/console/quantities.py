"""Sizes and durations as a person, or etcdctl, writes them."""

from __future__ import annotations


def size(count: float) -> str:
    """Write bytes with a binary unit: `20 KiB`, `1.5 GiB`."""
    if abs(count) < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= 1024
        if abs(count) < 1024 or unit == "TiB":
            break
    return f"{count:.1f}".removesuffix(".0") + f" {unit}"


def go_duration(milliseconds: float) -> str:
    """Write a duration as Go's `time.Duration` prints itself: `2.192932ms`, `1.5s`, `1m2.5s`."""
    nanoseconds = round(milliseconds * 1e6)
    if nanoseconds == 0:
        return "0s"
    for limit, unit in ((1_000, "ns"), (1_000_000, "µs"), (1_000_000_000, "ms")):
        if nanoseconds < limit:
            return f"{_decimal(nanoseconds, limit // 1000)}{unit}"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    whole = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{whole}{_decimal(rest, 1_000_000_000)}s"


def _decimal(count: int, unit: int) -> str:
    whole, rest = divmod(count, unit)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0") if rest else str(whole)


def seconds(count: float) -> str:
    """Write a step's duration: `0.8 s`, `75 s`."""
    return f"{count:.1f} s" if count < 10 else f"{count:.0f} s"
