"""Look before and after: a plan is made of hosts that stand still, and done when nothing is left to do."""

from __future__ import annotations

from dataclasses import replace

from ..desired.hostspec import LISTS
from ..errors import Failed, Refused
from ..observed.lost import silence, silent
from ..observed.state import ClusterState, HostState
from ..plan.step import Plan
from .converge import plan
from .leaves import bundle_paths, list_path
from .session import Session
from .settle import settled
from .wish import Wish

ROUNDS = 2
"""How often what is left after a run is done as well, before it is an error."""


def seen(want: Wish, session: Session, before: Wish | None = None) -> ClusterState:
    """Observe the hosts and the paths whose state decides anything, once they stand still.

    Whoever also plans for what was wanted `before` has to see the paths of that.
    """
    asked = paths(want)
    if before:
        asked = {name: tuple(dict.fromkeys((*asked[name], *more))) for name, more in paths(before).items()}
    return settled(lambda: session.observe(asked), len(want.cluster.nodes))


def paths(want: Wish) -> dict[str, tuple[str, ...]]:
    """Name the paths whose state decides anything, by node."""
    specs = [want.spec(node, HostState(node.name), formed=True) for node in want.cluster.nodes]
    return {
        spec.node: (
            *(item.path for group in (spec.dirs, spec.files, spec.links) for item in group),
            *(list_path(want, name) for name in LISTS.values()),
            *bundle_paths(want),
        )
        for spec in specs
    }


def prove(want: Wish, session: Session) -> ClusterState:
    """Observe again and return what was seen: success is said only when nothing is left to do.

    What happened meanwhile may have left something: systemd tried a crashed member again just
    before its new unit was loaded, say. That is done as well, behind the same gates.
    """
    want = replace(want, generation=session.prepare())
    for _ in range(ROUNDS):
        now, left = _left(want, session)
        if not left:
            return now
        session.ways.tell(f"hosts changed meanwhile: {left.changes} more steps")
        session.execute(left)
    now, left = _left(want, session)
    if left:
        steps = {step.host: str(step) for stage in left.stages for step in stage.steps}
        raise Failed(
            "the deploy ran, but not everything is as wanted", "run it again; it goes on from here", steps
        )
    return now


def refuse_silent(now: ClusterState) -> None:
    """Say of no member that it serves unless it was seen to."""
    if found := {name: silence(now, name) for name in silent(now)}:
        raise Failed("the deploy ran, but not every member serves", "each line names what to do", found)


def _left(want: Wish, session: Session) -> tuple[ClusterState, Plan]:
    """Observe, and plan what is left; a refusal says that the deploy ran."""
    now = seen(want, session)
    try:
        return now, plan(want, now)
    except Refused as refusal:
        raise Refused(
            "the deploy did what it had planned; what is left would be unsafe", refusal.hint, refusal.hosts
        ) from refusal
