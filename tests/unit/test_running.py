"""How a task ends on the screen."""

from __future__ import annotations

import json

import pytest
from invoke.exceptions import Exit

from etcdctl_remote.console.output import Output
from etcdctl_remote.plan.step import Plan
from etcdctl_remote.running import finish, show_plan

NOTE = "n2 is not started: /var/lib/etcd is absent"


def test_a_member_that_was_left_out_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """Never "nothing to do": who, why, and exit 1."""
    with pytest.raises(Exit) as caught:
        finish(Output("text"), Plan("start demo", (), (NOTE,), ("n2",), incomplete=True), "all serve")
    assert caught.value.code == 1
    said = capsys.readouterr()
    assert said.out == "start demo: nothing was started; left out: n2\n"
    assert NOTE in said.err


def test_a_plan_ends_as_its_deploy_would(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to do, and a member that does not serve: neither says that all is well."""
    silent = Plan("deploy demo", (), ("n3 runs and does not serve",), incomplete=True)
    for form, told in (
        ("text", "nothing to do, but not every member serves"),
        ("json", '"incomplete": true'),
    ):
        with pytest.raises(Exit) as caught:
            show_plan(Output(form), silent)  # type: ignore[arg-type]
        assert caught.value.code == 1
        assert told in capsys.readouterr().out
    show_plan(Output("text"), Plan("deploy demo"))
    assert "every host is as the inventory says" in capsys.readouterr().out


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
