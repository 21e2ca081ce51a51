"""Members that run, do not serve, and cannot: no restart brings them back through a closed network.

A restart of one costs no quorum, so no gate stands in its way; but the run would wait for it in vain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..errors import Refused
from ..observed.findings import Finding
from ..observed.lost import silent
from ..observed.state import ClusterState
from ..pki.generation import Generation
from ..preflight import checks
from .session import Session


def refuse_cut_off(session: Session, generation: Generation, now: ClusterState) -> None:
    """Refuse while a silent member and its peers do not reach each other; asks the hosts only if one is.

    `now` has settled: a member that was restarted just now serves by then.
    """
    names = silent(now)
    if not names:
        return
    found = checks.cut_off(session.cluster, generation, session.fleet, names)
    refusal = judge(now, found, session.observe()) if found else None
    if refusal:
        raise refusal


def judge(before: ClusterState, found: Iterable[Finding], after: ClusterState) -> Refused | None:
    """Tell who is cut off by the closed ports `found` between two observations, if anybody.

    A process that ends closes its port as a firewall does: only one that ran all along, and
    does not serve even now, is cut off.
    """
    names = sorted(dict(_silent(before).items() & _silent(after).items()))
    if not names:
        return None
    seen: dict[str, str] = {}
    for finding in found:
        seen[finding.node] = "; ".join(filter(None, (seen.get(finding.node), finding.message)))
    one = len(names) == 1
    return Refused(
        f"{', '.join(names)} {'runs and does' if one else 'run and do'} not serve: cut off from "
        f"{'its' if one else 'their'} peers, and a restart would not mend that; nothing was changed",
        "open the ports between them, then run the task again",
        seen,
    )


def _silent(now: ClusterState) -> Mapping[str, int]:
    """Return the processes of members that run, are not being stopped, and do not serve."""
    return {name: now.hosts[name].unit.pid for name in silent(now)}
