"""`certs` from its flags to its exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from etcdctl_remote import tasks_certs
from etcdctl_remote.observed.judging import judge
from etcdctl_remote.observed.verdicts import Report, Sight
from tests.unit.observed.sights import healthy, with_files
from tests.unit.program import run


def seen(sight: Sight) -> Report:
    return Report("demo", sight.now, judge(sight))


FINE = seen(healthy())
BROKEN = seen(with_files(healthy(), "n1", {"server.crt": None}))
LOST = replace(FINE, unreachable={"n3": "no route to host"})


@pytest.mark.parametrize(
    ("report", "flags", "code"),
    [
        (FINE, {}, 0),
        (FINE, {"fail_within": "30d"}, 0),
        (FINE, {"fail_within": "365d"}, 1),
        (FINE, {"within": "365d"}, 0),
        (BROKEN, {}, 0),
        (BROKEN, {"fail_within": "0d"}, 1),
        (replace(FINE, damaged="no"), {"fail_within": "0d"}, 1),
        (LOST, {}, 3),
        (LOST, {"fail_within": "365d"}, 3),
    ],
)
def test_how_it_ends(
    report: Report,
    flags: dict[str, str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The result is shown in any case; a host that was not looked at weighs more than what was seen."""
    monkeypatch.setattr(tasks_certs, "look", lambda *_: report)
    ended = 0
    try:
        tasks_certs.certs_list(Context(), output="json", **flags)
    except Exit as end:
        ended = end.code
    assert ended == code
    assert len(json.loads(capsys.readouterr().out)["certificates"]) == 24


def test_the_metrics_are_written_whatever_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a dead host would stop the alarm that tells of it."""
    monkeypatch.setattr(tasks_certs, "look", lambda *_: LOST)
    with pytest.raises(Exit):
        tasks_certs.certs_list(Context(), metrics=str(tmp_path / "x.prom"))
    assert 'etcdctl_remote_certs_unreachable_hosts{cluster="demo"} 1' in (tmp_path / "x.prom").read_text(
        "utf-8"
    )


def test_every_mistake_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any host is asked."""
    monkeypatch.setattr(tasks_certs, "look", lambda *_: pytest.fail("it looked"))
    with pytest.raises(Exit) as caught:
        tasks_certs.certs_list(Context(), within="x", fail_within="3", metrics=str(tmp_path))
    assert caught.value.code == 2
    told = capsys.readouterr().err
    for mistake in ("--within 'x'", "--fail-within '3'", f"--metrics {tmp_path}: it is a directory"):
        assert mistake in told


@pytest.mark.parametrize(("flag", "value"), [("--within", ""), ("--fail-within", ""), ("--within", "-5d")])
def test_an_empty_span_is_none(flag: str, value: str, tmp_path: Path) -> None:
    """A variable that is not set is no reason to check nothing; a negative one is no flag."""
    done = run("certs", flag, value, "-o", "json", folder=tmp_path)
    assert done.returncode == 2
    assert f"{flag} {value!r} is no span of time" in json.loads(done.stdout)["error"]


@pytest.mark.parametrize("name", ["certs", "certs.list"])
def test_both_names(name: str, tmp_path: Path) -> None:
    """The collection itself runs the list; the flags are the same."""
    done = run(name, "--fail-within", "soon", "-o", "json", folder=tmp_path)
    assert done.returncode == 2
    assert "'soon' is no span of time" in json.loads(done.stdout)["error"]
