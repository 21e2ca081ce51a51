"""The certificates' dates as a Prometheus textfile, for node_exporter's textfile collector.

The format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from ..errors import UsageError
from ..observed.verdicts import MILD, Report, Row

PREFIX = "etcdctl_remote"
_HELP = {
    "certificate_not_after_timestamp_seconds": "When a certificate ends, as it was seen at one place.",
    "certificate_ok": "1 if nothing but its age is wrong with a certificate at this place, else 0.",
    "ca_not_after_timestamp_seconds": "When a CA ends, as it was seen at one place.",
    "ca_ok": "1 if nothing but its age is wrong with what is trusted at this place, else 0.",
    "certs_last_run_timestamp_seconds": "When the certificates were last looked at.",
    "certs_unreachable_hosts": "Hosts that could not be looked at in that run.",
}
MODE = 0o644
"""The collector runs as another user."""


def writable(path: Path) -> None:
    """Refuse a file that could not be written in the end, before anything is done."""
    if path.is_dir():
        raise _unwritable(path, "it is a directory")
    if not path.parent.is_dir():
        raise _unwritable(path, f"there is no directory {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise _unwritable(path, f"{path.parent} cannot be written to")


def write(path: Path, report: Report) -> None:
    """Replace the file at once: a collector that reads meanwhile sees the old one or the new one."""
    partial = None
    try:
        descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(exposition(report))
            stream.flush()
            os.fchmod(stream.fileno(), MODE)
            os.fsync(stream.fileno())
        Path(partial).replace(path)
    except OSError as error:
        if partial:
            with suppress(OSError):
                Path(partial).unlink(missing_ok=True)
        raise _unwritable(path, error.strerror or str(error)) from error


def _unwritable(path: Path, why: str) -> UsageError:
    return UsageError(
        f"--metrics {path}: {why}", "name a file in a directory that you may write to, ending in .prom"
    )


def exposition(report: Report) -> str:
    """Render every metric with its help and its type; each set of labels once."""
    lines: list[str] = []
    samples = {name: dict[str, float]() for name in _HELP}
    for name, labels, value in _samples(report):
        key = _labels({"cluster": report.cluster, **labels})
        samples[name][key] = min(value, samples[name].get(key, value))
    for name, found in samples.items():
        lines += [f"# HELP {PREFIX}_{name} {_HELP[name]}", f"# TYPE {PREFIX}_{name} gauge"]
        lines += [f"{PREFIX}_{name}{{{labels}}} {value:.0f}" for labels, value in found.items()]
    return "\n".join(lines) + "\n"


def _samples(report: Report) -> Iterator[tuple[str, Mapping[str, str], float]]:
    for row in report.rows:
        if row.gone:
            continue
        kind = "ca" if row.authority else "certificate"
        if row.leaf:
            named = {**_where(row), "subject": row.leaf.subject, "serial": row.leaf.serial}
            yield f"{kind}_not_after_timestamp_seconds", named, row.leaf.not_after.timestamp()
        yield f"{kind}_ok", _where(row), float(row.verdict in MILD)
    yield "certs_last_run_timestamp_seconds", {}, report.taken.timestamp()
    yield "certs_unreachable_hosts", {}, len(report.unreachable)


def _where(row: Row) -> dict[str, str]:
    return {"node": "" if row.node == "-" else row.node, "role": row.role, "place": row.place}


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
