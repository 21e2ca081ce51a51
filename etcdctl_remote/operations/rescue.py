"""Bring a cluster back whose CA has expired: nobody can make a new connection any more.

There is no way of trusting both: an expired CA vouches for nothing, for nobody. So the new CA is
put everywhere, and all members restart together, once the operator has typed the cluster's name:
what still goes over old connections stops meanwhile.
"""

from __future__ import annotations

from datetime import UTC, datetime

from ..errors import Failed
from ..observed.state import ClusterState
from ..pki import rotation
from ..pki.generation import Generation, renewed
from ..plan import gates
from ..plan.reconcile import files
from ..plan.step import Plan, Stage, Step
from ..plan.steps import RestartEtcd, StartEtcd
from .consent import Consent
from .converge import RESTART_DEADLINE, data_stayed
from .fitting import refuse_unfit
from .notes import with_unsigned
from .proof import seen
from .refusals import refuse_strange
from .session import Session
from .wish import Wish, stale

COST = "all members restart together: what still goes over old connections stops for some seconds"


def replace_at_once(session: Session, consent: Consent, held: Generation, confirm: str) -> Plan:
    """Replace CAs that have expired, or finish that; return the plan that was carried out."""
    clock = datetime.now(UTC)
    cluster = session.cluster
    if rotation.expired(held.authorities, clock):
        held = renewed(rotation.at_once(held, cluster, clock), cluster, clock)
    want = Wish(cluster, held, {})
    now = seen(want, session)
    todo = with_unsigned(plan(want, now), want)
    if not (consent.dry_run or held.pending):
        refuse_unfit(want, now)
    if not todo or not consent.confirmed(todo, confirm, cluster.name, COST):
        return todo
    if held.pending:
        held = session.signed(held)
        want = Wish(cluster, held, {})
        todo = plan(want, now)
        refuse_unfit(want, now)
    session.save(held)
    session.execute(todo)
    left = plan(want, seen(want, session))
    if left:
        steps = {step.host: str(step) for stage in left.stages for step in stage.steps}
        raise Failed("the CA was replaced, but not everything is as wanted", "run it again", steps)
    done = session.held()
    if done and done.rotation and not now.unreachable:
        session.save(rotation.advanced(done))
    return todo


def plan(want: Wish, now: ClusterState) -> Plan:
    """Write everything, then restart whoever runs with something else and start whoever is down."""
    refuse_strange(want, now)
    specs = {name: want.spec(want.cluster.node(name), host, formed=True) for name, host in now.hosts.items()}
    write = [step for name, spec in specs.items() for step in files(spec, now.hosts[name])]
    begin: list[Step] = []
    for name, spec in specs.items():
        host = now.hosts[name]
        if not host.unit.running:
            begin.append(StartEtcd(name))
        elif stale(spec, host.unit):
            begin.append(RestartEtcd(name))
    stages = (
        Stage("Write files", tuple(write)),
        Stage(
            "Restart all members together",
            tuple(begin),
            gate=data_stayed(want, now, tuple(now.hosts)),
            until=gates.all_serve(tuple(now.hosts)),
            deadline=RESTART_DEADLINE,
        ),
    )
    return Plan(
        f"replace the expired CA of {want.cluster.name}",
        tuple(stage for stage in stages if stage.steps),
        (*want.generation.issued, COST, *(_left_out(name, why) for name, why in now.unreachable.items())),
        left_out=tuple(now.unreachable),
        incomplete=bool(now.unreachable),
    )


def _left_out(name: str, why: str) -> str:
    return f"{name} is left out: {why.removeprefix(f'{name}: ')}; run it again when it is back"
