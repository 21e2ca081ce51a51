"""Change the leaf certificates of running members: no restart, one member at a time. Pure.

etcd reads certificate and key at every handshake, so a switch of one symbolic link is enough, and
only a new connection proves it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from ..desired.hostspec import LISTS
from ..desired.model import NodeSpec
from ..desired.spec import DirSpec, FileSpec, HostSpec, LinkSpec
from ..errors import Refused
from ..observed.state import ClusterState, HostState
from ..pki import crl
from ..pki.profiles import Kind
from ..plan import gates
from ..plan.reconcile import files
from ..plan.step import Gate, Plan, Stage
from ..plan.steps import WriteFiles
from .wish import Wish

DEADLINE = 60.0
"""Seconds until a member shows what lies on its disk: it does so at the next connection."""

SWITCH = "Switch"
"""How the title of a stage begins that changes a running member's leaves."""

BUNDLES = ("ca.crt", "peer-ca.crt")


def parted(want: Wish, spec: HostSpec) -> tuple[HostSpec, HostSpec]:
    """Part what a host should hold into its certificates and all the rest."""
    root = f"{want.cluster.paths.config}/pki"

    def under(item: FileSpec | DirSpec | LinkSpec) -> bool:
        return item.path == root or item.path.startswith(f"{root}/")

    def kept(inside: bool) -> HostSpec:
        return replace(
            spec,
            dirs=tuple(item for item in spec.dirs if under(item) is inside),
            files=tuple(item for item in spec.files if under(item) is inside),
            links=tuple(item for item in spec.links if under(item) is inside),
        )

    return kept(True), kept(False)


def writing(want: Wish, spec: HostSpec, host: HostState) -> tuple[WriteFiles, ...]:
    """Return the step that brings a host's certificates to what is wanted; none if they are."""
    steps = files(parted(want, spec)[0], host)
    return tuple(
        replace(step, title=_title(want, spec, host)) for step in steps if isinstance(step, WriteFiles)
    )


def switch(want: Wish, node: NodeSpec, steps: tuple[WriteFiles, ...], serve: Collection[str]) -> Stage:
    """Change one member's leaves while all of `serve` serve; done once it shows the new ones."""
    return Stage(
        f"{SWITCH} {node.name} to its new certificates",
        steps,
        gate=gates.all_serve(serve),
        until=gates.every(shows(want, node.name), gates.all_serve([node.name])),
        deadline=DEADLINE,
        dials=(node.name,),
    )


def relisted(todo: Plan) -> Plan:
    """Say what the stages do where all that is new is a list of what is revoked."""
    return replace(
        todo,
        stages=tuple(
            replace(stage, title=f"{SWITCH} {stage.hosts[0]} to its new list of revoked certificates")
            if stage.title.startswith(SWITCH)
            else stage
            for stage in todo.stages
        ),
    )


def turning(todo: Plan) -> tuple[str, ...]:
    """Name the members whose leaves a plan changes while they run."""
    return tuple(host for stage in todo.stages if stage.title.startswith(SWITCH) for host in stage.hosts)


def restarting(todo: Plan) -> tuple[str, ...]:
    """Name the members that a plan restarts one by one: what they were given shows in a new connection."""
    return tuple(name for stage in todo.stages if not stage.title.startswith(SWITCH) for name in stage.dials)


def shows(want: Wish, node: str) -> Gate:
    """The gate for a member that shows the wanted leaves."""
    server, peer = (want.generation.leaf(node, kind).fingerprint for kind in (Kind.SERVER, Kind.PEER))
    return gates.shows(node, server, peer)


def linked_to(want: Wish, spec: HostSpec, host: HostState) -> bool:
    """Whether the host's link names the wanted certificates, whatever became of the files."""
    current = f"{want.cluster.paths.config}/pki/current"
    wanted = {link.path: link.target for link in spec.links}[current]
    return host.paths[current].target == wanted if current in host.paths else False


def damaged(want: Wish, spec: HostSpec, host: HostState) -> Iterator[str]:
    """Name the files of the wanted certificates that are not as they were issued."""
    if linked_to(want, spec, host):
        for file in parted(want, spec)[0].files:
            found = host.paths.get(file.path)
            name = file.path.rpartition("/")[2]
            if found is None:
                yield f"{name} is missing"
            elif found.sha256 != file.sha256:
                yield f"{name} is not the one that was issued"
            elif (found.mode, found.owner, found.group) != (file.mode, file.owner, file.group):
                yield f"{name} has the rights {found.mode:04o} {found.owner}:{found.group}"


def other_bundle(want: Wish, node: str, host: HostState) -> bool:
    """Whether the CA bundles in use on a host are known, and others than are wanted."""
    current, wanted = f"{want.cluster.paths.config}/pki/current", want.generation.node_files(node)
    found = {name: host.paths.get(f"{current}/{name}") for name in BUNDLES}
    return any(
        state is not None and state.sha256 is not None and state.sha256 != FileSpec("", wanted[name]).sha256
        for name, state in found.items()
    )


def refuse_unlisted(want: Wish, now: ClusterState) -> None:
    """Refuse a store without the list of revoked certificates that members were started with.

    While it is missing they refuse everybody, and without it they would accept what was revoked.
    """
    gone = {
        f"--{flag}=": file for flag, file in LISTS.items() if file not in want.generation.revocations.files
    }
    found = {
        name: [file for flag, file in gone.items() if any(has.startswith(flag) for has in host.unit.flags)]
        for name, host in now.hosts.items()
        if host.unit.running and host.unit.flags
    }
    if lacking := {name: f"runs with {', '.join(files)}" for name, files in found.items() if files}:
        raise Refused(
            f"members read a list of revoked certificates that certs/{want.cluster.name} does not have: it is "
            "older than a revocation; with its certificates they would refuse everybody; nothing was changed",
            f"put the newer one here (`certs.restore`); if it is lost: {_way_out(want, now)}",
            lacking,
        )
    _refuse_older(want, now)


def _refuse_older(want: Wish, now: ClusterState) -> None:
    """Refuse a store that does not know of all that nodes refuse: by its list it would be accepted again."""
    lost = {
        name: {
            file: serials
            for port, file in crl.FILES.items()
            if (serials := want.generation.revocations.forgotten(port, refused(want, host, file)))
        }
        for name, host in now.hosts.items()
    }
    told = {
        name: "; ".join(f"{file} refuses {', '.join(sorted(serials))}" for file, serials in files.items())
        for name, files in lost.items()
        if files
    }
    if told:
        raise Refused(
            f"nodes refuse certificates that certs/{want.cluster.name} does not know to be revoked: it is older than "
            "a revocation, and by its list they would be accepted again; nothing was changed",
            f"put the newer one here (`certs.restore`); if it is lost: {_way_out(want, now)}",
            told,
        )


def _way_out(want: Wish, now: ClusterState) -> str:
    """Say how the lists of the nodes come into a store that lacks something of them: all in one run."""
    there = {
        file: frozenset(serial for host in now.hosts.values() for serial in refused(want, host, file))
        for file in crl.FILES.values()
    }
    lost = [
        serial
        for port, file in crl.FILES.items()
        for serial in want.generation.revocations.forgotten(port, there[file])
    ]
    if not lost:
        return "`certs.revoke --serial` of what was revoked makes a list anew"
    files = [file for file, serials in there.items() if serials]
    return (
        f"copy {' and '.join(files)} from a node ({want.cluster.paths.config}/pki/current); "
        f"`certs.revoke --serial {min(lost)} --crl {','.join(files)}` takes in all of it"
    )


def refused(want: Wish, host: HostState, file: str) -> frozenset[str]:
    """Return the serials of a host's list; none where there is no list, or none that can be read."""
    found = host.paths.get(list_path(want, file))
    try:
        return crl.serials(found.content) if found and found.content else frozenset()
    except ValueError:
        return frozenset()


def list_path(want: Wish, file: str) -> str:
    """Name the path by which a member reads a list of revoked certificates."""
    return f"{want.cluster.paths.config}/pki/current/{file}"


def bundle_paths(want: Wish) -> tuple[str, ...]:
    """Name the paths that `other_bundle` wants observed."""
    return tuple(f"{want.cluster.paths.config}/pki/current/{name}" for name in BUNDLES)


def _title(want: Wish, spec: HostSpec, host: HostState) -> str:
    if bad := list(damaged(want, spec, host)):
        return f"put certificates right: {', '.join(bad)}"
    current = f"{want.cluster.paths.config}/pki/current"
    return f"switch to the certificates pki/{ {link.path: link.target for link in spec.links}[current] }"
