"""A lock on most hosts: who is left out, and that of two runs one at most is at work."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, combinations, product

import pytest

from etcdctl_remote.errors import (
    CommandFailed,
    Failed,
    Locked,
    LoginFailed,
    Refused,
    TimedOut,
    Unreachable,
)
from etcdctl_remote.remote import lock as locks
from etcdctl_remote.remote.fence import BUSY, TAKEN
from etcdctl_remote.remote.fleet import Fleet
from etcdctl_remote.remote.host import Command
from etcdctl_remote.remote.lock import hold_most


@dataclass
class Node:
    """A node's lock as its kernel sees it."""

    name: str
    owner: str = ""
    turn: threading.Lock = field(default_factory=threading.Lock)
    asked: list[str] = field(default_factory=list)


@dataclass
class Side:
    """One run's connection to a node; `sick` is all it ever hears from there."""

    node: Node
    sick: Exception | None = None

    @property
    def name(self) -> str:
        return self.node.name

    def hold(self, command: Command, stdin: bytes = b"") -> Given:
        holder = command.args[2]
        self.node.asked.append(json.loads(holder)["who"])
        if self.sick:
            raise self.sick
        with self.node.turn:
            if self.node.owner:
                raise CommandFailed(self.name, command.about, TAKEN, f"{self.node.owner}\n7\n")
            self.node.owner = holder
        return Given(self.node)


@dataclass
class Given:
    """A node's lock in our hands."""

    node: Node
    first_line: str = "held"

    def alive(self) -> bool:
        return bool(self.node.owner)

    def close(self, patience: float = 2.0) -> None:
        self.node.owner = ""


def nodes(size: int) -> list[Node]:
    return [Node(f"n{number}") for number in range(1, size + 1)]


def seen(them: list[Node], **sick: Exception) -> Fleet:
    """What one run is connected to."""
    return Fleet({node.name: Side(node, sick.get(node.name)) for node in them})  # type: ignore[misc]


HUNG = TimedOut("n1: take the lock: not done after 20 s")
SICK = (
    (HUNG, "not done after 20 s"),
    (LoginFailed("n1: sudo does not let ops run commands as root"), "sudo does not let ops"),
    (CommandFailed("n1", "take the lock", 1, "Read-only file system"), "Read-only file system"),
    (CommandFailed("n1", "take the lock", BUSY, "unpack etcd (process 7)"), "still goes on: unpack etcd"),
)


@pytest.mark.parametrize(("why", "said"), SICK)
@pytest.mark.parametrize("name", ["n1", "n2", "n3"])
def test_a_sick_host_is_left_out(
    monkeypatch: pytest.MonkeyPatch, why: Exception, said: str, name: str
) -> None:
    """Whichever it is, and whatever it has: the others are locked, and it is told why it is not."""
    monkeypatch.setattr(locks, "PATIENCE", 0.0)
    them = nodes(3)
    fleet = seen(them, **{name: why})
    with hold_most(fleet, {}, "ann", "start") as lock:
        rest = [node.name for node in them if node.name != name]
        assert sorted(lock.held) == sorted(lock.fenced(fleet).hosts) == rest
        assert list(lock.left_out) == [name]
        assert said in lock.left_out[name].message
        lock.require()
    assert [node.owner for node in them] == [""] * 3


def test_an_unreachable_host_is_left_out() -> None:
    """With the reason that was known before."""
    gone = Unreachable("n3: no route to host")
    with hold_most(seen(nodes(3)[:2]), {"n3": gone}, "ann", "start") as lock:
        assert (sorted(lock.held), lock.left_out) == (["n1", "n2"], {"n3": gone})


@pytest.mark.parametrize(("size", "sick"), [(2, ()), (3, ("n1",)), (4, ("n2",)), (5, ("n1", "n4"))])
def test_less_than_a_majority_is_not_enough(size: int, sick: tuple[str, ...]) -> None:
    """The gravest error, with a line for each host that is left out; nothing stays locked."""
    *them, last = nodes(size)
    gone = {last.name: Unreachable(f"{last.name}: no route to host", "mend the route")}
    fleet = seen(them, **{name: Failed(f"{name}: it is sick", "heal it") for name in sick})
    with pytest.raises(Unreachable) as caught:
        hold_most(fleet, gone, "ann", "start").__enter__()
    problem = caught.value
    if sick:
        assert problem.message.startswith(f"{len(sick) + 1} of {size} hosts cannot be locked")
        assert problem.hosts == {last.name: "no route to host", **dict.fromkeys(sick, "it is sick")}
        assert problem.hint == "mend the route; heal it"
    else:
        assert problem is gone[last.name]
    assert [node.owner for node in them] == [""] * len(them)


def test_the_rest_is_not_asked_once_there_can_be_no_majority() -> None:
    """One by one until somebody has given the lock: a wrong password is not tried everywhere."""
    them = nodes(5)
    with pytest.raises(Failed, match="3 of 5 hosts"):
        hold_most(seen(them, n1=HUNG, n2=HUNG, n3=HUNG), {}, "ann", "start").__enter__()
    assert [len(node.asked) for node in them] == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("name", ["n1", "n2", "n3"])
def test_somebody_elses_lock_is_never_passed_over(name: str) -> None:
    """Not even beside a sick host: one lock of his on a host we can use keeps us out."""
    them = nodes(3)
    other = next(node for node in them if node.name == name)
    other.owner = json.dumps({"who": "bob", "task": "deploy", "since": "noon"})
    sick = "n3" if name == "n1" else "n1"
    with pytest.raises(Locked, match=f"{name}: the cluster is locked: bob runs deploy since noon"):
        hold_most(seen(them, **{sick: HUNG}), {}, "ann", "start").__enter__()
    assert [node.name for node in them if node.owner] == [name]
    if name == "n1":
        assert [len(node.asked) for node in them] == [1, 0, 0], "the first is asked alone"


def test_a_bug_is_no_sick_host() -> None:
    """It ends the run."""
    with pytest.raises(Failed, match="ZeroDivisionError"):
        hold_most(seen(nodes(3), n3=ZeroDivisionError()), {}, "ann", "start").__enter__()


def choices(size: int) -> Iterator[tuple[str, ...]]:
    """Any nodes of a cluster."""
    names = [node.name for node in nodes(size)]
    return chain.from_iterable(combinations(names, count) for count in range(size + 1))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_of_two_runs_one_at_most_is_at_work(size: int) -> None:
    """Whatever hosts each finds sick; if both find the same minority sick, one of them gets through."""
    for mine, yours in product(choices(size), repeat=2):
        through = both(nodes(size), {"ann": mine, "bob": yours})
        assert len(through) <= 1, (mine, yours)
        if mine == yours:
            assert len(through) == (2 * len(mine) < size), mine


def both(them: list[Node], sick: dict[str, tuple[str, ...]]) -> list[str]:
    """Two runs that begin together, and last until both have tried; who got through."""
    tried = threading.Barrier(len(sick), timeout=5)
    through = list[str]()

    def attempt(who: str) -> None:
        with suppress(Refused, Failed):
            with hold_most(seen(them, **dict.fromkeys(sick[who], HUNG)), {}, who, "start"):
                through.append(who)
                tried.wait()
            return
        tried.wait()

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(attempt, sick):
            pass
    return through
