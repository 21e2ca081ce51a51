"""Errors say where, what was seen and what helps; several of them become one, and none is lost."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdctl_remote import errors
from etcdctl_remote.errors import (
    CommandFailed,
    ConnectionLost,
    Failed,
    HostKeyRefused,
    LoginFailed,
    Problem,
    Refused,
    TimedOut,
    Unreachable,
    UsageError,
    at,
    gather,
    none_reached,
    on,
)
from etcdctl_remote.secret import Secret

RANKS: tuple[tuple[type[Problem], ...], ...] = (
    (Unreachable, HostKeyRefused, LoginFailed, ConnectionLost),
    (Refused,),
    (Failed, TimedOut),
    (UsageError,),
)
"""From the gravest on."""


@pytest.mark.parametrize(
    ("kind", "code"), [(Failed, 1), (TimedOut, 1), (UsageError, 2), (Refused, 4), *((k, 3) for k in RANKS[0])]
)
def test_exit_codes(kind: type[Problem], code: int) -> None:
    """What the command line promises."""
    assert kind("x").exit_code == code


def test_a_failed_command_says_everything() -> None:
    """Host, what was tried, exit code, what it said."""
    error = CommandFailed("n1", "write /etc/x", 28, "disk full\n", "free space")
    assert str(error) == "n1: write /etc/x: exit 28: disk full\n  → free space"
    assert (error.exit_code, error.exit_status) == (1, 28)
    assert "no message" in str(CommandFailed("n1", "x", 1, " \n"))


def test_text_of_a_problem() -> None:
    """Message, one line a host, the way out."""
    assert str(Problem("bad", "mend it", {"n1": "a", "n2": "b"})) == "bad\n  n1: a\n  n2: b\n  → mend it"
    assert str(Problem("bad")) == "bad"


def test_hosts_are_copied() -> None:
    """What is changed later changes no error."""
    seen = {"n1": "a"}
    problem = Problem("bad", hosts=seen)
    seen["n2"] = "b"
    assert problem.hosts == {"n1": "a"}


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.combinations([kind for rank in RANKS for kind in rank], 2))
)
def test_the_gravest_kind_wins(first: type[Problem], second: type[Problem]) -> None:
    """Whatever the order of the hosts; kinds of one rank give the rank's own."""
    rank = next(rank for rank in RANKS if first in rank or second in rank)
    for kinds in ((first, second), (second, first)):
        found = gather({f"n{i}": kind("x") for i, kind in enumerate(kinds)}, "connect")
        assert type(found) is rank[0]
        assert found.exit_code == rank[0].exit_code


def test_one_failure_is_itself() -> None:
    """Nothing is wrapped around it."""
    error = CommandFailed("n1", "x", 1, "no")
    assert gather({"n1": error}, "write") is error


@pytest.mark.parametrize("kind", [Failed, TimedOut, Refused, UsageError, *RANKS[0]])
def test_one_failure_tells_whose_it_is(kind: type[Problem]) -> None:
    """To scripts by its host, to a person in its message: said once."""
    found = gather({"n1": kind("n1: no", "mend it")}, "write")
    assert found.by_host == {"n1": "no"}
    assert str(found) == "n1: no\n  → mend it"
    with pytest.raises(kind) as caught, at("n2"):
        raise kind("n2: no")
    assert caught.value.by_host == {"n2": "no"}


def test_whose_it_is_in_other_ways() -> None:
    """A command knows its host; lines that were gathered before stay; an error about no host has none."""
    assert CommandFailed("n1", "x", 1, "no").by_host == {"n1": "x: exit 1: no"}
    assert on("n1", Failed("the peers refuse", "", {"p1": "no route"})).by_host == {"p1": "no route"}
    assert Failed("no").by_host == {}


def test_one_bug_names_its_host() -> None:
    """An exception that knows nothing of hosts gets one, and stays the cause."""
    bug = KeyError("x")
    found = gather({"n1": bug}, "write")
    assert str(found) == "n1: write: KeyError: 'x'"
    assert found.__cause__ is bug


def test_names_are_not_said_twice() -> None:
    """The line has the host already."""
    found = gather({"n1": Failed("n1: write: no"), "n2": ValueError("bad")}, "write")
    assert found.hosts == {"n1": "write: no", "n2": "write: ValueError: bad"}


def test_what_was_gathered_before_is_kept() -> None:
    """A failure may itself be about several hosts."""
    inner = Failed("the peers refuse", "hint", {"p1": "no route", "p2": "refused"})
    found = gather({"n1": inner, "n2": Failed("x")}, "probe")
    assert found.hosts["n1"] == "the peers refuse; p1: no route; p2: refused"


def test_what_to_do_is_said_once() -> None:
    """Ways to trust a key differ only in the address: one is shown, and for whom else it is."""
    raised = {
        f"n{i}": HostKeyRefused(f"n{i}: unknown", f"compare it, then `ssh-keyscan h{i}`") for i in (1, 2, 3)
    }
    raised["n4"] = HostKeyRefused("n4: changed", "someone may be between")
    hint = "compare it, then `ssh-keyscan h1` (for n1; likewise n2, n3); someone may be between"
    assert gather(raised, "connect").hint == hint
    barred = {n: LoginFailed(f"{n}: no", f"try `ssh u@{n}`; name the user") for n in ("n1", "n2")}
    assert gather(barred, "connect").hint == "try `ssh u@n1`; name the user (for n1; likewise n2)"
    found = none_reached(raised)
    assert (found.hint, found.hosts["n2"]) == (hint, "unknown")


TEXT = st.text(alphabet="abc xyz", min_size=1, max_size=8)
KINDS = st.sampled_from([Unreachable, Refused, Failed, UsageError, LoginFailed, KeyError, OSError])


@given(st.dictionaries(TEXT, st.tuples(KINDS, TEXT, TEXT), min_size=2, max_size=6))
@settings(deadline=None, max_examples=100)
def test_nothing_is_lost(failures: dict[str, tuple[type[Exception], str, str]]) -> None:
    """Every host, every message and every different hint is in the one error."""
    raised = {
        host: kind(message, hint) if issubclass(kind, Problem) else kind(message)
        for host, (kind, message, hint) in failures.items()
    }
    found = gather(raised, "deploy")
    assert list(found.hosts) == list(failures)
    assert found.message == f"deploy failed on {len(failures)} hosts"
    for host, (kind, message, hint) in failures.items():
        assert message in found.hosts[host]
        assert hint in found.hint or not issubclass(kind, Problem)


def test_every_error_has_a_promised_exit_code() -> None:
    """Also those that are added later."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Problem)]
    assert len(kinds) >= 10
    assert {kind.exit_code for kind in kinds} == {1, 2, 3, 4, 130}


def test_secret() -> None:
    """Redacted wherever it is shown; equal by content, so that a plan can be compared."""
    secret = Secret(b"key material")
    assert str(secret) == repr(secret) == "Secret(…)"
    assert "key" not in repr([secret]) + repr({"a": secret})
    assert secret == Secret(b"key material") != Secret(b"other")
    assert secret.reveal == b"key material"
