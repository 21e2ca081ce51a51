"""Key material is in no text that is shown, logged or kept: plans, diffs, journals, errors."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdctl_remote.desired.hostspec import UNIT_PATH
from etcdctl_remote.desired.spec import FileSpec, HostSpec
from etcdctl_remote.errors import CommandFailed, Problem, gather
from etcdctl_remote.observed.state import ClusterState, HostState, PathState
from etcdctl_remote.plan.events import Event
from etcdctl_remote.plan.execute import Executor
from etcdctl_remote.plan.journal import Journal
from etcdctl_remote.plan.reconcile import files
from etcdctl_remote.plan.step import Plan, Stage
from etcdctl_remote.remote.fleet import Fleet
from etcdctl_remote.remote.host import Command, Result
from etcdctl_remote.secret import Secret

SECRETS = st.binary(min_size=8, max_size=80) | st.text(
    alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=8, max_size=60
).map(str.encode)


def spellings(secret: bytes) -> set[str]:
    """Every way in which a careless program would show these bytes."""
    return {
        secret.decode("utf-8", "replace"),
        secret.decode("latin-1"),
        repr(secret)[2:-1],
        secret.hex(),
        base64.b64encode(secret).decode(),
        json.dumps(secret.decode("utf-8", "replace"))[1:-1],
    }


def assert_hidden(secret: bytes, *texts: str) -> None:
    """None of the texts shows the secret, whole or by a good part of it."""
    for text in texts:
        for spelling in spellings(secret) | spellings(secret[: max(8, len(secret) // 2)]):
            assert len(spelling) < 6 or not spelling.strip(" \0.-_/") or spelling not in text


def random_looking(secret: bytes) -> bytes:
    """Give the drawn bytes a beginning that no other text has by chance."""
    return b"\xa7SECRET\xa7" + secret


def spec(secret: bytes) -> HostSpec:
    unit = FileSpec(UNIT_PATH, b"[Service]\n")
    key = FileSpec("/etc/etcd/pki/g/server.key", Secret(secret), 0o640, group="etcd")
    password = FileSpec("/etc/etcd/password", Secret(secret), 0o600)
    return HostSpec("n1", (), (unit, key, password), (), "digest")


def hosts(secret: bytes) -> list[HostState]:
    """Hosts that lack the file, have another, and have it with other rights, its text seen or not."""
    sums = [file.sha256 for file in spec(secret).files]
    path = "/etc/etcd/password"
    return [
        HostState("n1"),
        HostState("n1", paths={path: PathState("file", 0o600, "root", "root", "0" * 64, "old text")}),
        HostState(
            "n1", paths={path: PathState("file", 0o644, "root", "root", sums[2], secret.decode("latin-1"))}
        ),
    ]


@given(SECRETS)
@settings(deadline=None, max_examples=60)
def test_plans_and_diffs(drawn: bytes) -> None:
    """Steps, stages and plans, as text and as repr, whatever the host had before."""
    secret = random_looking(drawn)
    for now in hosts(secret):
        steps = files(spec(secret), now)
        plan = Plan("deploy", (Stage("write", tuple(steps)),))
        assert steps
        shown = [text for step in steps for text in (str(step), repr(step), step.diff)]
        assert_hidden(secret, *shown, repr(plan), str(plan), repr(spec(secret)))


@given(SECRETS)
@settings(deadline=None, max_examples=60)
def test_the_secret_itself(drawn: bytes) -> None:
    """However it is put into a text."""
    secret = Secret(random_looking(drawn))
    shown = [str(secret), repr(secret), f"{secret}", f"{secret!r}", f"{[secret]}", f"{Problem(str(secret))}"]
    shown += ["%s %r" % (secret, secret)]  # noqa: UP031 (that way too)
    assert_hidden(secret.reveal, *shown)


class Refusing:
    """A host on which every command fails, and that says what it was asked."""

    name = "n1"

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.inputs: list[object] = []

    def run(self, command: Command, stdin: object = b"", **options: object) -> Result:
        self.commands.append(command)
        self.inputs.append(stdin)
        raise CommandFailed("n1", command.about, 1, "tar: cannot write")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journals")


@given(drawn=SECRETS)
@settings(deadline=None, max_examples=30)
def test_a_run_that_fails(place: Path, drawn: bytes) -> None:
    """The command line, the events, the journal and the error: key material is on standard input only."""
    secret = random_looking(drawn)
    host, told = Refusing(), list[Event]()
    journal = Journal(place / "journal.jsonl")
    plan = Plan("deploy", (Stage("write", tuple(files(spec(secret), HostState("n1")))),))

    def tell(event: Event) -> None:
        journal(event)
        told.append(event)

    journal.start("deploy", "demo", {})
    journal.plan(plan)
    with pytest.raises(CommandFailed) as caught:
        Executor(Fleet({"n1": host}), lambda dials: ClusterState({}), tell).execute(plan)  # type: ignore[dict-item]
    journal.end(1, str(caught.value))
    assert any(secret in data for data in host.inputs if isinstance(data, bytes))
    both = gather({"n1": caught.value, "n2": caught.value}, "write")
    shown = [str(caught.value), repr(caught.value), str(both), repr(both)]
    shown += [repr(event) for event in told] + [repr(command) for command in host.commands]
    text = (place / "journal.jsonl").read_text("utf-8")
    assert_hidden(
        secret,
        *shown,
        text,
        *[json.dumps(json.loads(line), ensure_ascii=False) for line in text.splitlines()],
    )
    (place / "journal.jsonl").unlink()


def test_the_check_itself_would_notice() -> None:
    """A key in the open is found in each spelling."""
    leaks: list[Callable[[bytes], str]] = [
        lambda key: key.decode("latin-1"),
        repr,
        lambda key: key.hex(),
        lambda key: f"x{base64.b64encode(key).decode()}y",
    ]
    for leak in leaks:
        with pytest.raises(AssertionError):
            assert_hidden(random_looking(b"12345678"), leak(random_looking(b"12345678")))
    open_file = replace(spec(b"x" * 20).files[1], content=random_looking(b"12345678"))
    with pytest.raises(AssertionError):
        assert_hidden(random_looking(b"12345678"), repr(open_file))
