"""The textfile for Prometheus: its format, and how it is written."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from etcdctl_remote.errors import UsageError
from etcdctl_remote.observed.judging import judge
from etcdctl_remote.observed.verdicts import Fault, Report, Row, Sight, Verdict
from etcdctl_remote.operations import metrics
from tests.unit.observed.sights import BORN, healthy, with_files

LINE = re.compile(r'([a-z_]+)\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\} (-?\d+)')


def report(sight: Sight | None = None) -> Report:
    sight = sight or healthy()
    return Report("demo", BORN, judge(sight), unreachable={"n9": "gone"})


def samples(text: str) -> dict[tuple[str, str], int]:
    """Read the samples, each of which must be well formed and stand once."""
    found: dict[tuple[str, str], int] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = LINE.fullmatch(line)
            assert match, line
            assert (match[1], match[2]) not in found, line
            found[match[1], match[2]] = int(match[3])
    return found


def test_every_metric_has_help_and_type() -> None:
    """Once each, ahead of its samples; the file ends with a newline."""
    text = metrics.exposition(report())
    names = {name for name, _ in samples(text)}
    assert names == {f"etcdctl_remote_{name}" for name in metrics._HELP}
    for name in names:
        block = text[text.index(f"# HELP {name} ") :].splitlines()
        assert block[1] == f"# TYPE {name} gauge"
        assert block[2].startswith(f"{name}{{")
        assert text.count(f"# TYPE {name} ") == 1
    assert text.endswith("\n")


def test_the_dates() -> None:
    """Seconds of the epoch, with who and where."""
    found = samples(metrics.exposition(report()))
    ends = {
        labels: value
        for (name, labels), value in found.items()
        if name.endswith("certificate_not_after_timestamp_seconds")
    }
    assert len(ends) == 24
    assert set(ends.values()) == {int((BORN + timedelta(days=365)).timestamp())}
    assert sum('place="wire:2380"' in labels for labels in ends) == 3
    assert all('subject="etcd' in labels and re.search(r'serial="[0-9a-f]+"', labels) for labels in ends)
    run = found["etcdctl_remote_certs_last_run_timestamp_seconds", 'cluster="demo"']
    assert run == int(BORN.timestamp())
    assert found["etcdctl_remote_certs_unreachable_hosts", 'cluster="demo"'] == 1


def test_what_is_wrong_is_zero() -> None:
    """Also where there is no certificate; its date is then not told. Old age alone is told by the date."""
    lost = with_files(healthy(), "n1", {"server.crt": None})
    found = samples(metrics.exposition(report(replace(lost, now=BORN + timedelta(days=300)))))
    bad = [
        labels for (name, labels), value in found.items() if name.endswith("certificate_ok") and value == 0
    ]
    assert bad == ['cluster="demo",node="n1",role="server",place="disk"']
    assert len([name for name, _ in found if name.endswith("certificate_not_after_timestamp_seconds")]) == 23


def test_two_cas_at_one_place_are_one_sample() -> None:
    """A set of labels that stands twice spoils the whole file: the worse of them counts."""
    bad = Row("n1", "peer CA", "disk", None, None, (Fault(Verdict.MISSING, "x", "y"),))
    rows = (Row("n1", "peer CA", "disk"), bad, Row("n1", "peer CA", "disk"))
    found = samples(metrics.exposition(Report("demo", BORN, rows)))
    assert found["etcdctl_remote_ca_ok", 'cluster="demo",node="n1",role="peer CA",place="disk"'] == 0


def test_labels_are_escaped() -> None:
    """Backslashes, quotes and newlines, as the format wants it."""
    text = metrics.exposition(Report('a"b\\c\nd', BORN, ()))
    assert 'cluster="a\\"b\\\\c\\nd"' in text
    assert samples(text)


def test_it_is_replaced_at_once(tmp_path: Path) -> None:
    """Readable for the collector, nothing left beside it."""
    file = tmp_path / "etcd.prom"
    file.write_text("old")
    metrics.writable(file)
    metrics.write(file, report())
    assert file.read_text("utf-8") == metrics.exposition(report())
    assert file.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["etcd.prom"]


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """Wrong usage, with the reason; nothing is left behind."""
    with pytest.raises(UsageError, match="it is a directory"):
        metrics.writable(tmp_path)
    with pytest.raises(UsageError, match="there is no directory"):
        metrics.writable(tmp_path / "none" / "x.prom")
    with pytest.raises(UsageError, match="there is no directory"):
        metrics.writable(Path("/dev/null/x.prom"))
    (tmp_path / "x.prom").mkdir()
    with pytest.raises(UsageError, match=r"--metrics .*x\.prom: Is a directory"):
        metrics.write(tmp_path / "x.prom", report())
    assert [path.name for path in tmp_path.iterdir()] == ["x.prom"]
