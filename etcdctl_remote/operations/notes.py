"""What the operator should know of a deploy before saying yes, besides its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..desired.hostspec import UNIT_PATH
from ..desired.model import NodeSpec
from ..desired.spec import HostSpec
from ..observed.lost import silence, silent
from ..observed.state import ClusterState, HostState, PathState
from ..pki import rotation
from ..pki.generation import Generation
from ..pki.resealing import kept_otherwise
from ..pki.store import Store
from ..plan.step import Plan
from . import leaves
from .wish import Wish

_ABSENT = PathState("absent")
DIGEST = "ETCDCTL_REMOTE_DIGEST="
SEALED = "the key of the CA is sealed: it is opened to sign when this is carried out"


def notes(want: Wish, restart: Sequence[NodeSpec], now: ClusterState) -> tuple[str, ...]:
    """Return the inventory's warnings, and what the restarts of a rolling plan cost and come from."""
    lines = list(want.cluster.warnings)
    if restart and len(want.cluster.nodes) <= 2:
        lines.append("the cluster stops answering while a member restarts: it has none to spare")
    if want.generation.rotation:
        state = rotation.title(want.generation.rotation.state)
        lines.append(f"a CA is being replaced ({state}): `rotate-certs --ca` goes on with that")
    elif others := [name for name, host in now.hosts.items() if leaves.other_bundle(want, name, host)]:
        lines.append(
            f"{', '.join(others)}: other CAs are in use there than those of certs/{want.cluster.name}. Is it an older copy? "
            "Then put the newer one here. If a run of `rotate-certs --back` was cut off, this finishes it"
        )
    for node in restart:
        host = now.hosts[node.name]
        if _for_dropins(want.spec(node, host, formed=True), host):
            left = ", ".join(host.dropins) or "none is left"
            lines.append(
                f"{node.name} restarts because its drop-ins changed since deploy last saw them: {left}"
            )
    return tuple(lines)


def with_silent(todo: Plan, now: ClusterState) -> Plan:
    """Name the members that run as wanted, do not serve, and are not restarted: the way out is another."""
    touched = {step.host for stage in todo.stages if stage.until for step in stage.steps}
    left = [name for name in silent(now) if name not in touched]
    found = (*todo.notes, *(f"{name} {silence(now, name)}" for name in left))
    return replace(todo, notes=found, incomplete=bool(left) and not todo)


def with_unsigned(todo: Plan, want: Wish, *later: Generation) -> Plan:
    """Say which certificates are stand-ins in a plan (in states to come, too), and who will sign in the end.

    And which keys of CAs lie otherwise than they should.
    """
    spec = want.cluster.pki.external
    pending = {slot: request for each in (want.generation, *later) for slot, request in each.pending.items()}
    outside = [str(request.label) for request in pending.values() if request.authority.outside]
    lines = [*kept_otherwise(Store.beside(want.cluster))]
    if outside and spec:
        how = f"by {spec.command[0]}" if spec.command else f"their requests would lie in {spec.folder}"
        lines.append(f"to be signed elsewhere, {how}: {', '.join(outside)}")
        if spec.folder and later:
            lines.append("it stops there with exit 4 until they are signed; then run it again")
    if len(outside) < len(pending):
        lines.append(SEALED)
    return replace(todo, notes=(*todo.notes, *lines))


def _for_dropins(spec: HostSpec, host: HostState) -> bool:
    """Whether only the operator's drop-ins can be why a member restarts.

    The unit's digest covers all that etcd reads at start. What of that is not in the unit
    itself is a CA bundle or a drop-in. Bundles of another set may lie there from before.
    """
    files = {file.path: file for file in spec.files}
    wanted, has = files[UNIT_PATH].data.decode(), host.paths.get(UNIT_PATH, _ABSENT).text or ""
    bundles = [file for path, file in files.items() if path.endswith("ca.crt")]
    return (
        has != wanted
        and _but_digest(has) == _but_digest(wanted)
        and all(host.paths.get(link.path, _ABSENT).target == link.target for link in spec.links)
        and all(host.paths.get(file.path, _ABSENT).sha256 == file.sha256 for file in bundles)
    )


def _but_digest(unit: str) -> list[str]:
    return [line for line in unit.splitlines() if DIGEST not in line]
