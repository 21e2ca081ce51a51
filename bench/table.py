"""What the samples mean: medians, ratios, targets; as text and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from .timing import Sample

Samples = Mapping[str, Sequence[Sample]]


@dataclass(frozen=True)
class Row:
    """One line: a median, perhaps compared with another one's, perhaps held against a target."""

    name: str
    value: float
    unit: str
    against: str = ""
    ratio: float | None = None
    cpu: float | None = None
    """The same ratio in CPU time, here and on the nodes: on a busy machine the steadier one."""
    target: str = ""
    over: bool = False


def rows(samples: Samples) -> list[Row]:
    """Compute the table; a row whose samples are missing is left out."""
    made = [
        _plain(samples, "floor"),
        _plain(samples, "floor and start"),
        _ratio(samples, "deploy", "floor and start", None),
        _ratio(samples, "deploy", "floor", 1.5),
        _ratio(samples, "deploy without start", "floor", 1.5),
        _plain(samples, "ssh true"),
        _ratio(samples, "deploy, nothing to do", "ssh true", 4.0),
        _plain(samples, "ssh health"),
        _ratio(samples, "health", "ssh health", 2.5),
        _plain(samples, "ssh certificates"),
        _ratio(samples, "rotate-certs", "ssh certificates", 2.0),
        _plain(samples, "longest gap, fresh"),
        _plain(samples, "longest gap, kept"),
        _limit(samples, "--help", "s", _seconds, 0.3),
        _limit(samples, "deploy", "MiB", _mib, 120.0),
        _limit(samples, "deploy, padded archive", "MiB", _mib, 120.0),
    ]
    return [row for row in made if row]


def _plain(samples: Samples, name: str) -> Row | None:
    return Row(name, _median(samples, name, _seconds), "s") if name in samples else None


def _ratio(samples: Samples, name: str, against: str, most: float | None) -> Row | None:
    if name not in samples or against not in samples:
        return None
    value = _median(samples, name, _seconds)
    ratio = value / _median(samples, against, _seconds)
    burnt = _median(samples, against, _cpu)
    whole = name != "deploy without start"  # a part of a run whose CPU nobody measured
    return Row(
        name,
        value,
        "s",
        against,
        ratio,
        cpu=_median(samples, name, _cpu) / burnt if burnt and whole else None,
        target=f"≤ {most:g} ×" if most else "",
        over=most is not None and ratio > most,
    )


def _limit(samples: Samples, name: str, unit: str, of: Callable[[Sample], float], most: float) -> Row | None:
    """A value that must stay below a limit by itself. Of memory, the worst run counts."""
    if name not in samples:
        return None
    value = max(map(of, samples[name])) if of is _mib else _median(samples, name, of)
    return Row(name, value, unit, target=f"< {most:g} {unit}", over=value >= most)


def _median(samples: Samples, name: str, of: Callable[[Sample], float]) -> float:
    return median(map(of, samples[name]))


def _seconds(sample: Sample) -> float:
    return sample.seconds


def _cpu(sample: Sample) -> float:
    return sample.cpu + sample.nodes


def _mib(sample: Sample) -> float:
    return sample.peak / (1 << 20)


def text(table: Sequence[Row], samples: Samples) -> str:
    """Lay the table out for people; below it, where the time goes."""
    lines = [f"{'':26}{'median':>10}  {'ratio':>7}  {'in CPU':>7}  target"]
    for row in table:
        value = f"{row.value:.2f} {row.unit}" if row.unit == "s" else f"{row.value:.0f} {row.unit}"
        ratio = f"{row.ratio:.2f} ×" if row.ratio is not None else ""
        cpu = f"{row.cpu:.2f} ×" if row.cpu is not None else ""
        goal = f"{row.target}{' of ' + row.against if row.against and row.target else ''}"
        goal = goal or (f"of {row.against}" if row.against else "")
        lines.append(
            f"{row.name:26}{value:>10}  {ratio:>7}  {cpu:>7}  {goal}{'   OVER' if row.over else ''}".rstrip()
        )
    lines += [
        "",
        f"{'':26}{'runs':>4}  {'seconds: least, median, most':>30}{'CPU here':>11}{'CPU nodes':>11}",
    ]
    for name, found in samples.items():
        times = sorted(map(_seconds, found))
        spread = f"{times[0]:.2f} {median(times):.2f} {times[-1]:.2f}"
        cpu, nodes = (median(getattr(one, key) for one in found) for key in ("cpu", "nodes"))
        lines.append(f"{name:26}{len(found):>4}  {spread:>30}{cpu:>9.2f} s{nodes:>9.2f} s")
    return "\n".join(lines)


def document(table: Sequence[Row], samples: Samples) -> dict[str, Any]:
    """Everything for scripts, every sample included."""
    return {
        "rows": [asdict(row) for row in table],
        "samples": {name: [asdict(one) for one in found] for name, found in samples.items()},
    }
