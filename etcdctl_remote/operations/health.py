"""Ask each member, on its own node, to do a linearizable read. Only observes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..desired.model import NodeSpec, url
from ..errors import Problem, Unreachable, bare, none_reached
from ..observed import etcdctl
from ..observed.etcdctl import argv
from ..observed.report import EndpointHealth, Health
from ..observed.state import Endpoint
from ..remote.host import Command, Host
from .session import Session

TIMEOUT = 5
"""Seconds: etcdctl's own default for one command."""
_STATUS = "\n@@status\n"
_SCRIPT = f"""{etcdctl.INSTALLED}"$@" health || exit
printf '\\n@@status\\n'
"$@" status 2>/dev/null || :
"""


@dataclass(frozen=True)
class _Mute:
    """A host that lets nobody ask."""

    why: Unreachable


def health(session: Session) -> Health:
    """Check every member of the inventory; an unreachable node is unhealthy, never left out."""
    if not session.fleet.hosts:
        raise none_reached(session.unreachable)
    answers = session.fleet.each(lambda host: _ask(session, host), doing="health")
    asked = {name: answer for name, answer in answers.items() if not isinstance(answer, _Mute)}
    mute = {name: answer.why for name, answer in answers.items() if isinstance(answer, _Mute)}
    lost = {**session.unreachable, **mute}
    if not asked:
        none = none_reached(lost)
        raise Unreachable("no node could be asked", none.hint, none.hosts)
    said = {name: told for name, (_, told) in asked.items() if told}
    different = _clusters(said)
    endpoints = tuple(
        _judged(asked[node.name][0], said.get(node.name), different)
        if node.name in asked
        else _lost(session, node, lost.get(node.name))
        for node in session.cluster.nodes
    )
    return Health(session.cluster.name, endpoints)


def _clusters(said: Mapping[str, Endpoint]) -> str:
    """Say who is in which cluster; nothing where all are in the same one, as they should be."""
    members: dict[int, list[str]] = {}
    for name, told in said.items():
        members.setdefault(told.cluster_id, []).append(name)
    shown = "; ".join(f"{id:x}: {', '.join(sorted(names))}" for id, names in sorted(members.items()))
    return f"the members are in different clusters ({shown})" if len(members) > 1 else ""


def _judged(found: EndpointHealth, told: Endpoint | None, different: str) -> EndpointHealth:
    """A read that went through is not enough: with an alarm there are no writes.

    etcdctl 3.4 does not look at alarms, and none looks at the others' cluster.
    """
    alarms = dict.fromkeys(kind for _, kind in (told.alarms if told else ()))
    alarm = f"active alarm: {', '.join(alarms)}; see `status`" if alarms else ""
    wrong = "; ".join(each for each in (alarm, different if told else "") if each)
    return replace(found, healthy=False, error=wrong) if found.healthy and wrong else found


def _ask(session: Session, host: Host) -> tuple[EndpointHealth, Endpoint | None] | _Mute:
    """Ask for a read, and where it went through for the member's own status, in one round trip.

    A host that lets nobody ask is an answer too: the others' shall be heard.
    """
    node = session.cluster.node(host.name)
    command = (
        *argv(session.cluster, node),
        f"--command-timeout={TIMEOUT}s",
        "-w",
        "json",
        "endpoint",
    )
    try:
        result = host.run(
            Command(_SCRIPT, command, about="health", writes=False, timeout=TIMEOUT + 10), check=False
        )
    except Unreachable as problem:
        return _Mute(problem)
    except Problem as problem:
        lost = EndpointHealth(
            node.name, session.cluster.client_url(node), False, None, bare(node.name, problem)
        )
        return lost, None
    answer, _, status = result.text.partition(_STATUS)
    return _read(session, node, answer, result.stderr.decode("utf-8", "replace")), _status(status)


def _status(answer: str) -> Endpoint | None:
    """Read the status; None where it was not told: with auth it may be denied."""
    try:
        return etcdctl.endpoint(answer)
    except ValueError:
        return None


def _read(session: Session, node: NodeSpec, answer: str, stderr: str) -> EndpointHealth:
    endpoint = session.cluster.client_url(node)
    try:
        healthy, took, error = etcdctl.health(answer)
    except ValueError:
        return EndpointHealth(node.name, endpoint, False, None, etcdctl.error_line(stderr) or "no answer")
    if not healthy and error in etcdctl.VAGUE:
        error = etcdctl.error_line(f"{stderr}\n{error}")
    return EndpointHealth(node.name, endpoint, healthy, took, error)


def _lost(session: Session, node: NodeSpec, problem: Problem | None) -> EndpointHealth:
    endpoint = (
        session.cluster.client_url(node) if node.address else url(node.host, session.cluster.ports.client)
    )
    why = bare(node.name, problem) if problem else "unreachable"
    return EndpointHealth(node.name, endpoint, False, None, why, asked=False)
