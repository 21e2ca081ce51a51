"""How a task ends on the screen."""

from __future__ import annotations

import json

import pytest
from invoke.exceptions import Exit

from etcdctl_remote.console.output import Output
from etcdctl_remote.plan.step import Plan
from etcdctl_remote.running import finish

NOTE = "n2 is not started: /var/lib/etcd is absent"


def test_a_member_that_was_left_out_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """Never "nothing to do": who, why, and exit 1."""
    with pytest.raises(Exit) as caught:
        finish(Output("text"), Plan("start demo", (), (NOTE,), ("n2",), incomplete=True), "all serve")
    assert caught.value.code == 1
    said = capsys.readouterr()
    assert said.out == "start demo: nothing was started; left out: n2\n"
    assert NOTE in said.err


def test_an_unreachable_host_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """It may well serve; JSON has the reason in its notes, and the same fields as ever."""
    finish(Output("json"), Plan("start demo", (), (NOTE,), ("n2",)), "all serve")
    said = capsys.readouterr()
    assert json.loads(said.out) == {"changes": 0, "notes": [NOTE], "stages": []}
    assert NOTE in said.err


def test_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """With everybody where they should be."""
    finish(Output("text"), Plan("start demo"), "all serve")
    assert capsys.readouterr().out == "start demo: nothing to do\n"
