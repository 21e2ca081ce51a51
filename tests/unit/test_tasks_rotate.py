"""The flags of `rotate-certs`: what goes together, and every mistake at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from etcdctl_remote.operations.rotate_ca import Task
from etcdctl_remote.pki.generation import Due
from etcdctl_remote.pki.profiles import Kind
from etcdctl_remote.pki.rotation import BOTH
from etcdctl_remote.plan.step import Plan, Stage
from etcdctl_remote.plan.steps import StartEtcd
from etcdctl_remote.tasks_rotate import rotate_certs
from tests.unit.operations.here import session

Told = pytest.CaptureFixture[str]


class Call:
    """What an operation was called with; it returns a plan that was given."""

    def __init__(self) -> None:
        self.plan = Plan("rotate the certificates of demo")
        self.due: Due | None = None
        self.task: Task | None = None
        self.options: dict[str, object] = {}
        self.noted: object = None
        self.opened = 0

    def leaves(self, session: object, consent: object, due: Due, **options: object) -> Plan:
        self.due, self.options = due, options
        return self.plan

    def cas(self, session: object, consent: object, task: Task) -> Plan:
        self.task = task
        return self.plan


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    made = Call()

    @contextmanager
    def opening(*_: object, **options: object) -> Iterator[Any]:
        made.opened += 1
        made.noted = options.get("arguments")
        yield session()

    monkeypatch.setattr("etcdctl_remote.session.session", opening)
    monkeypatch.setattr("etcdctl_remote.operations.rotate_certs.rotate_certs", made.leaves)
    monkeypatch.setattr("etcdctl_remote.operations.rotate_ca.rotate_ca", made.cas)
    return made


Ask = Callable[..., None]
INVENTORY = 'cluster: demo\nversion: "3.6.14"\nnodes: {n1: 192.0.2.1, n2: 192.0.2.2}\n'


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY)

    def run(**flags: object) -> None:
        rotate_certs(Context(), inventory=str(path), **flags)

    return run


@pytest.mark.parametrize(
    ("flags", "due"),
    [
        ({}, Due(None)),
        ({"within": "30d"}, Due(timedelta(days=30))),
        ({"within": "2w", "force": True}, Due(timedelta(weeks=2), force=True)),
        ({"only": "peer"}, Due(None, (Kind.PEER,))),
        ({"only": "client, server"}, Due(None, (Kind.SERVER, Kind.CLIENT))),
        ({"node": ["n1", "n2"]}, Due(None, only=["n1", "n2"])),
        ({"if_needed": True}, Due(None)),
    ],
)
def test_what_is_due_is_what_was_asked(call: Call, ask: Ask, flags: dict[str, object], due: Due) -> None:
    """Without a window, of each leaf the last third of its life."""
    ask(**flags)
    assert call.due == due
    assert call.task is None


@pytest.mark.parametrize(
    ("flags", "task"),
    [
        ({"ca": True}, Task(BOTH, "")),
        ({"ca_only": "peer"}, Task({"peer"}, "")),
        ({"ca": True, "ca_only": "client"}, Task({"client"}, "")),
        ({"ca": True, "pause_before_leaves": True}, Task(BOTH, "before-leaves")),
        ({"ca": True, "pause_before_drop": True}, Task(BOTH, "before-drop")),
        ({"ca": True, "confirm": "demo"}, Task(BOTH, "", "demo")),
    ],
)
def test_a_replacement_is_what_was_asked(call: Call, ask: Ask, flags: dict[str, object], task: Task) -> None:
    """Both CAs, or one; with a pause, or none."""
    ask(**flags)
    assert call.task == task
    assert call.due is None


def test_going_back_and_agreement_are_handed_on(call: Call, ask: Ask) -> None:
    """And stand in the journal, but for the name that was typed."""
    ask(back=True, confirm="demo")
    assert call.options == {"back": True, "confirm": "demo"}
    assert isinstance(call.noted, dict)
    assert call.noted["back"] is True


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"within": "30"}, ["--within '30' is no span of time", "30d (days)"]),
        ({"within": ""}, ["--within '' is no span of time"]),
        ({"within": "soon"}, ["--within 'soon'"]),
        ({"only": "leaf"}, ["--only leaf", "of: server, peer, client"]),
        ({"only": "peer,ca,leaf"}, ["--only ca, leaf"]),
        ({"only": "leaf", "within": "x"}, ["--only leaf", "--within 'x'"]),
        ({"ca_only": "server"}, ["--ca-only server", "client or peer"]),
        ({"ca": True, "pause_before_leaves": True, "pause_before_drop": True}, ["--pause-before-leaves and"]),
        (
            {"ca_only": "x", "pause_before_leaves": True, "pause_before_drop": True},
            ["--ca-only x", "--pause-before-leaves and"],
        ),
        ({"ca": True, "force": True}, ["--force beside --ca"]),
        ({"ca_only": "peer", "node": ["n1"]}, ["--node beside --ca"]),
        (
            {"pause_before_drop": True, "only": "peer", "within": "3d", "if_needed": True},
            ["--only --within --if-needed beside --pause-before-drop"],
        ),
        ({"back": True, "ca": True}, ["--back beside --ca"]),
        ({"back": True, "force": True, "node": ["n1"]}, ["--back beside --node --force"]),
        ({"back": True, "if_needed": True}, ["--back beside --if-needed"]),
        ({"node": ["n1", "n9"]}, ["--node n9: no such node in the inventory", "one of: n1, n2"]),
        ({"node": ["n9"], "within": "x"}, ["--node n9", "--within 'x'"]),
    ],
)
def test_wrong_flags_are_wrong_usage(
    call: Call, ask: Ask, capsys: Told, flags: dict[str, object], said: list[str]
) -> None:
    """Exit code 2 and every mistake, before anything is opened."""
    with pytest.raises(Exit) as caught:
        ask(**flags)
    assert caught.value.code == 2
    told = " ".join(capsys.readouterr().err.split())
    for words in said:
        assert words in told
    assert call.opened == 0


def test_every_mistake_of_every_kind_at_once(call: Call, ask: Ask, capsys: Told) -> None:
    """Flags that do not go together, and values that are none, in one run."""
    with pytest.raises(Exit) as caught:
        ask(within="x", only="leaf", back=True, ca=True, ca_only="server")
    assert caught.value.code == 2
    told = " ".join(capsys.readouterr().err.split())
    for words in ("--within 'x'", "--only leaf", "--ca-only server", "beside --ca", "--back beside"):
        assert words in told
    assert call.opened == 0


def test_cron_hears_nothing_where_nothing_is_due(call: Call, ask: Ask, capsys: Told) -> None:
    """Without the flag it is said."""
    ask(if_needed=True)
    assert capsys.readouterr() == ("", "")
    ask()
    assert "nothing to do" in capsys.readouterr().out


def test_cron_hears_of_a_node_that_was_left_out(call: Call, ask: Ask, capsys: Told) -> None:
    """Nothing due on those that were reached, and one was not: exit 1."""
    call.plan = Plan(
        "rotate the certificates of demo", notes=("n2 is left out",), left_out=("n2",), incomplete=True
    )
    with pytest.raises(Exit) as caught:
        ask(if_needed=True)
    assert caught.value.code == 1
    assert "n2 is left out" in capsys.readouterr().err


def test_cron_hears_what_was_done(call: Call, ask: Ask, capsys: Told) -> None:
    """A renewal is worth a mail."""
    call.plan = Plan("rotate the certificates of demo", (Stage("x", (StartEtcd("n1"),)),))
    ask(if_needed=True, yes=True)
    assert "rotate the certificates of demo: done" in capsys.readouterr().out


def test_a_document_is_a_document_even_where_nothing_is_due(call: Call, ask: Ask, capsys: Told) -> None:
    """Whoever reads JSON reads one."""
    ask(if_needed=True, output="json")
    assert capsys.readouterr().out.startswith("{")


@pytest.mark.parametrize("flags", [{}, {"ca": True}])
def test_no_inventory_is_wrong_usage(
    call: Call, tmp_path: Path, flags: dict[str, object], capsys: Told
) -> None:
    """Named, and nothing opened."""
    with pytest.raises(Exit) as caught:
        rotate_certs(Context(), inventory=str(tmp_path / "none.yaml"), **flags)
    assert caught.value.code == 2
    assert "no such file" in capsys.readouterr().err
    assert call.opened == 0
