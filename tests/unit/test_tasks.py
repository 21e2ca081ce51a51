"""Every task's flags: the same letter means the same everywhere, and nothing is positional."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.parser.argument import Argument
from invoke.tasks import Task

from etcdctl_remote.command import HELP, OWN, SHORT
from etcdctl_remote.console.output import Output
from etcdctl_remote.errors import Unreachable, UsageError
from etcdctl_remote.operations.session import Session
from etcdctl_remote.plan.journal import Journal
from etcdctl_remote.plan.step import Plan
from etcdctl_remote.running import consent_on
from etcdctl_remote.tasks import lab_up, namespace
from tests.unit.operations.here import Canned, session
from tests.unit.program import ROOT

CHANGING = {"deploy", "start", "stop", "destroy", "rotate-certs", "certs.revoke"}
PRINTING = {"check", "plan", "health", "status", "logs", "audit", "init", "lab.up", "lab.list", "lab.down"}


def tasks(collection: Collection, prefix: str = "") -> Iterator[tuple[str, Task]]:  # type: ignore[type-arg]
    for name, task in collection.tasks.items():
        yield f"{prefix}{name}", task
    for name, inner in collection.collections.items():
        yield from tasks(inner, f"{name}.")


TASKS = dict(tasks(namespace))
EVERY = pytest.mark.parametrize("name", sorted(TASKS))


def flags(name: str) -> dict[str, Argument]:
    return {str(argument.name): argument for argument in TASKS[name].get_arguments()}


def test_the_command_surface() -> None:
    """What the README promises is there."""
    assert CHANGING | PRINTING | {"etcdctl", "certs.issue", "certs.export"} <= set(TASKS)


@EVERY
def test_nothing_is_positional(name: str) -> None:
    """Invoke would take --help for the value of a missing one, and run the task."""
    assert [argument.name for argument in flags(name).values() if argument.positional] == []


@EVERY
def test_letters_mean_the_same_everywhere(name: str) -> None:
    """-i, -o, -y, -n and no letter that Invoke chose by the order of arguments."""
    for argument in flags(name).values():
        long, *short = argument.names
        known = SHORT.get(long.replace("-", "_"))
        assert short == ([known] if known else []), long


@pytest.mark.parametrize("name", sorted(CHANGING))
def test_what_changes_something_can_be_tried_first(name: str) -> None:
    """--yes, --dry-run, an inventory and an output format."""
    assert {"inventory", "output", "yes", "dry_run"} <= set(flags(name))
    assert flags(name)["yes"].kind is flags(name)["dry_run"].kind is bool


def test_the_readme_says_which_tasks_can_be_tried_first() -> None:
    """Those that take --yes, all of them and no other; `certs.init` alone takes a dry run without it."""
    said = " ".join((ROOT / "README.md").read_text("utf-8").split())
    listed = said.partition("change a cluster by a plan (")[2].partition(")")[0]
    assert {name.strip(" `") for name in listed.split(",")} == {
        name for name in TASKS if "yes" in flags(name)
    }
    assert {name for name in TASKS if "dry_run" in flags(name)} == CHANGING | {"certs.init"}


@EVERY
def test_what_prints_has_an_output_format(name: str) -> None:
    """Every task but etcdctl, which passes another program's output on."""
    assert ("output" in flags(name)) == (name != "etcdctl")


@EVERY
def test_every_task_says_what_it_does(name: str) -> None:
    """One line for the list; every shared flag with its help."""
    first = (TASKS[name].__doc__ or "").strip().splitlines()[0]
    assert first
    assert len(first) < 110
    own = OWN.get(name.replace(".", "_").replace("-", "_"), {})
    for flag, argument in flags(name).items():
        assert argument.help
        assert argument.help == (own.get(flag) or HELP[flag])


@pytest.mark.parametrize(("stands", "done"), [(True, "kept as it was"), (False, "written")])
def test_a_labs_inventory_is_kept_or_written(
    stands: bool,
    done: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A lab that stands keeps the inventory somebody may have changed, and that is said."""
    lab = SimpleNamespace(name="demo", inventory=tmp_path / "inventory.yaml", nodes=())
    if stands:
        lab.inventory.write_text("cluster: demo")
    labs = SimpleNamespace(
        find=lambda _: lab if stands else None, up=lambda *_, **__: lab, Shape=dict, DEFAULT_STATE=tmp_path
    )
    monkeypatch.setattr("etcdctl_remote.tasks._lab_nodes", lambda: labs)
    lab_up(Context())
    assert f"{lab.inventory} {done}. Next" in capsys.readouterr().out


@pytest.mark.parametrize("there", [True, False])
def test_a_lab_wants_a_folder_to_write_to(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong usage, before an image or a container is made."""
    state = tmp_path / ".lab"
    if there:
        state.mkdir()
    labs = SimpleNamespace(find=lambda _: None, DEFAULT_STATE=state)
    monkeypatch.setattr("etcdctl_remote.tasks._lab_nodes", lambda: labs)
    monkeypatch.setattr("os.access", lambda path, mode: path != (state if there else tmp_path))
    with pytest.raises(Exit) as caught:
        lab_up(Context())
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert f"{state} is for the lab's files" in told
    assert "Traceback" not in told


def test_destroy_wants_the_name() -> None:
    """And deletes nothing by default."""
    assert flags("destroy")["confirm"].kind is str
    assert flags("destroy")["delete_data"].default is False


def opening(opened: Session, seen: list[object]) -> Callable[..., Any]:
    """Stand in for the composition root: this session, whatever is asked for."""

    @contextmanager
    def session(*arguments: object, **options: object) -> Iterator[Session]:
        seen.append(options.get("arguments"))
        yield opened

    return session


def test_logs_tell_of_nodes_that_are_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A silent node must not look quiet: it is named, and the exit code says it too."""
    opened = session(Canned("n1"), unreachable={"n2": Unreachable("n2: no route to host")})
    monkeypatch.setattr("etcdctl_remote.session.session", opening(opened, []))
    (tmp_path / "i.yaml").touch()
    with pytest.raises(Exit) as caught:
        TASKS["logs"](Context(), inventory=str(tmp_path / "i.yaml"))
    assert caught.value.code == 3
    assert "warning: n2: no route to host" in capsys.readouterr().err
    TASKS["logs"](Context(), inventory=str(tmp_path / "i.yaml"), node="n1")


def test_a_document_has_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    """So following is refused with JSON, before anything is done."""
    with pytest.raises(Exit) as caught:
        TASKS["logs"](Context(), follow=True, output="json")
    assert caught.value.code == 2
    assert "--follow has no end" in capsys.readouterr().err


def test_the_journal_gets_the_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can cost data above all; of etcdctl's words only the first."""
    seen: list[object] = []
    monkeypatch.setattr("etcdctl_remote.session.session", opening(session(unreachable={}), seen))
    path = tmp_path / "i.yaml"
    path.touch()
    with suppress(Exit):
        TASKS["destroy"](Context(), inventory=str(path), confirm="demo", delete_data=True)
    with suppress(Exit):
        TASKS["etcdctl"](Context(), inventory=str(path), command="put k hunter2", node="n1")
    assert seen == [
        {"yes": False, "dry_run": False, "delete_data": True, "confirm": True},
        {"node": "n1", "command": "put"},
    ]


def test_a_plan_that_is_declined_is_history(tmp_path: Path) -> None:
    """It is noted when it is shown, before the question."""
    path = tmp_path / "i.journal.jsonl"
    consent = consent_on(Output(stderr=StringIO()), yes=False, dry_run=False, journal=Journal(path))
    with pytest.raises(UsageError):  # nobody to ask
        consent.given(Plan("deploy demo", ()))
    assert '"event": "plan"' in path.read_text()
