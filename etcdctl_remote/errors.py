"""Every way the program can fail, as one small tree.

An error says which host, what was tried, what was seen (the message) and what to do
(the hint). `hosts` carries one line for each host, so that the second failure is never lost;
an error about one host alone has it in `host`, and its message says the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Problem(Exception):
    """Something the operator must know; ends the task with `exit_code`."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "", hosts: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.hosts: dict[str, str] = dict(hosts or {})
        self.host = ""

    @property
    def by_host(self) -> dict[str, str]:
        """What was seen on each host, also where the message is that of one."""
        return self.hosts or ({self.host: bare(self.host, self)} if self.host else {})

    def __str__(self) -> str:
        """Render everything known, one line each: message, hosts, hint."""
        lines = [self.message]
        lines += [f"  {host}: {seen}" for host, seen in self.hosts.items()]
        if self.hint:
            lines.append(f"  → {self.hint}")
        return "\n".join(lines)


class Failed(Problem):
    """A step was tried and did not work. Exit code 1."""

    exit_code = 1


class UsageError(Problem):
    """The command line or the inventory is wrong; nothing was touched. Exit code 2."""

    exit_code = 2


class Unreachable(Problem):
    """A host cannot be reached or logged in to. Exit code 3."""

    exit_code = 3


class Refused(Problem):
    """The task would be unsafe, so nothing was done. Exit code 4."""

    exit_code = 4


class Locked(Refused):
    """Another run is at work on the cluster."""


class Interrupted(Problem):
    """The operator pressed Ctrl-C, or something sent SIGTERM. Exit code 130."""

    exit_code = 130


class LeftAtQuestion(KeyboardInterrupt):
    """Ctrl-C instead of an answer: nothing was changed."""


class HostKeyRefused(Unreachable):
    """The host's SSH key is unknown or has changed."""


class LoginFailed(Unreachable):
    """The host answers, but does not let us in, or sudo does not."""


class ConnectionLost(Unreachable):
    """The link broke, or the peer went silent, in the middle of a command."""


class CommandFailed(Failed):
    """A remote command ended with a non-zero exit code."""

    def __init__(self, host: str, about: str, exit_status: int, stderr: str, hint: str = "") -> None:
        seen = stderr.strip() or "no message"
        super().__init__(f"{host}: {about}: exit {exit_status}: {seen}", hint)
        self.host, self.about, self.exit_status, self.stderr = host, about, exit_status, stderr


class TimedOut(Failed):
    """A remote command, or something awaited, did not finish by its deadline."""


def gather(failures: Mapping[str, Exception], doing: str) -> Problem:
    """Fold the failures of several hosts into one error of the gravest kind; nothing is lost.

    Unreachable beats refused beats failed beats wrong usage: an operator mends the link first.
    """
    problems = {host: _as_problem(host, error, doing) for host, error in failures.items()}
    if len(problems) == 1:
        return on(*next(iter(problems.items())))
    kinds = (Unreachable, Refused, Failed, UsageError)
    kind = next((k for k in kinds if any(isinstance(p, k) for p in problems.values())), Failed)
    seen = {host: _told(host, problem) for host, problem in problems.items()}
    return kind(f"{doing} failed on {len(problems)} hosts", _hints(problems), seen)


def on(host: str, problem: Problem) -> Problem:
    """The same problem, which then tells whose it is."""
    problem.host = host
    return problem


@contextmanager
def at(host: str) -> Iterator[None]:
    """Have whatever goes wrong inside tell that it is this host's."""
    try:
        yield
    except Problem as problem:
        on(host, problem)
        raise


def none_reached(problems: Mapping[str, Problem]) -> Unreachable:
    """Say of every host why it cannot be reached, and what to do."""
    seen = {host: _told(host, problem) for host, problem in problems.items()}
    return Unreachable("no node can be reached", _hints(problems), seen)


def bare(host: str, problem: Problem) -> str:
    """Return the message for a place that names the host itself."""
    return problem.message.removeprefix(f"{host}: ")


_COMMAND = re.compile("`(?:mkdir|ssh)[^`]*`")
"""A command in a hint that names its host."""


def _hints(problems: Mapping[str, Problem]) -> str:
    """Join what to do, each thing once; where only the commands to try differ, those of the first host."""
    hosts: dict[str, list[str]] = {}
    for host, problem in problems.items():
        if problem.hint:
            hosts.setdefault(_COMMAND.sub("", problem.hint), []).append(host)
    said = []
    for first, *others in hosts.values():
        differ = any(problems[host].hint != problems[first].hint for host in others)
        likewise = f" (for {first}; likewise {', '.join(others)})" if differ else ""
        said.append(problems[first].hint + likewise)
    return "; ".join(said)


def _as_problem(host: str, error: Exception, doing: str) -> Problem:
    """Name the host of an error that does not know it."""
    if isinstance(error, Problem):
        return error
    problem = Failed(f"{host}: {doing}: {type(error).__name__}: {error}")
    problem.__cause__ = error
    return problem


def _told(host: str, problem: Problem) -> str:
    """One host's line: its message without its name, and what the message itself gathered."""
    lines = (bare(host, problem), *(f"{k}: {v}" for k, v in problem.hosts.items()))
    return "; ".join(lines)
