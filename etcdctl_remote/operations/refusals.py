"""What makes a deploy unsafe: all of it at once, each with the host and what was seen. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from ..desired.hostspec import UNIT_PATH
from ..desired.model import ClusterSpec
from ..errors import Refused, Unreachable
from ..observed import auth
from ..observed.lost import GUIDE, HOLDS, data_paths, doomed, gone, hollow
from ..observed.state import ClusterState, Data, HostState, Member, quorum
from ..plan import gates
from .ownership import foreign, identity_path, token_of
from .wish import Wish, formed

MASKED = "etcd.service is masked there: see why, then `sudo systemctl unmask etcd`, and `deploy`"


def refuse_unsafe(want: Wish, now: ClusterState) -> None:
    """Refuse foreign data, another cluster, wiped members, version and membership differences."""
    refuse_unseen(now)
    refuse_vanished(want, now)
    checks: tuple[Callable[[Wish, ClusterState], Mapping[str, str]], ...] = (
        _lost_store,
        _foreign_process,
        _foreign_data,
        _other_cluster,
        _two_clusters,
        _wiped,
        _moved,
        _linked,
        _blinded,
        _unguarded,
        _masked,
        _other_version,
        _strangers,
    )
    _refuse(f"deploy to {want.cluster.name} would be unsafe; nothing was changed", checks, want, now)


def refuse_strange(want: Wish, now: ClusterState) -> None:
    """Refuse to give certificates to a host that is not, or not yet, a member of this cluster."""
    checks = (_undeployed, _foreign_process, _other_cluster, _two_clusters, _moved)
    _refuse(f"not every host is a member of {want.cluster.name}; nothing was changed", checks, want, now)


def _refuse(
    message: str,
    checks: Iterable[Callable[[Wish, ClusterState], Mapping[str, str]]],
    want: Wish,
    now: ClusterState,
) -> None:
    seen: dict[str, list[str]] = {}
    for check in checks:
        for host, what in check(want, now).items():
            seen.setdefault(host, []).append(what)
    if seen:
        hosts = {host: "; ".join(what) for host, what in sorted(seen.items())}
        raise Refused(message, "each line names what to do", hosts)


def refuse_unseen(now: ClusterState) -> None:
    """Go no further when a host was lost since we connected: nothing is known of it."""
    if now.unreachable:
        lost = {host: why.removeprefix(f"{host}: ") for host, why in sorted(now.unreachable.items())}
        ways = "; ".join(dict.fromkeys(now.ways_out.values())) or "run the task again"
        raise Unreachable("not every host could be observed; nothing was changed", ways, lost)


def refuse_vanished(want: Wish, now: ClusterState) -> None:
    """A cluster that has served, and of which no host knows, is lost or not mounted: never new."""
    ran = want.generation.formed
    if ran is None or formed(now):
        return
    config = want.cluster.paths.config
    raise Refused(
        f"certs/{want.cluster.name} knows {want.cluster.name} as {ran}, and no host says that it was ever a member "
        f"({config}/member): a deploy would begin with an empty history; nothing was changed",
        "not mounted? mount it. Lost? restore from a backup (restore: coming). A new, empty cluster: "
        f"`destroy --confirm {want.cluster.name}` first, or move certs/{want.cluster.name} aside",
        {
            name: "; ".join(
                f"{path} {HOLDS.get(data, 'holds a member of nobody knows which cluster')}"
                for path, data in data_paths(want.cluster, host)
            )
            for name, host in sorted(now.hosts.items())
        },
    )


def _undeployed(want: Wish, now: ClusterState) -> dict[str, str]:
    return {
        name: "no etcd of ours is installed there: `deploy` first"
        for name, host in now.hosts.items()
        if host.told is None
    }


def _lost_store(want: Wish, now: ClusterState) -> dict[str, str]:
    """A new CA for a cluster that exists would lock everybody out."""
    if not want.generation.new_authorities:
        return {}
    return {
        name: f"is a member of {want.cluster.name}, but there is no CA on this laptop: "
        "`certs.restore --from FILE` puts a backup in place, or put the "
        f"certs/{want.cluster.name} folder it was deployed with beside the inventory"
        for name, host in now.hosts.items()
        if host.marker and host.marker.cluster == want.cluster.name
    }


def _foreign_process(want: Wish, now: ClusterState) -> dict[str, str]:
    return {
        name: f"etcd runs from a unit that is not ours ({host.unit.fragment}, {host.unit.program}): "
        "stop and disable it first, or take it out of the inventory"
        for name, host in now.hosts.items()
        if host.unit.running and host.unit.digest is None and token_of(host) != want.generation.token
    }


def _foreign_data(want: Wish, now: ClusterState) -> dict[str, str]:
    found = {name: foreign(want.cluster, host, want.generation.token) for name, host in now.hosts.items()}
    return {name: what for name, what in found.items() if what}


def _other_cluster(want: Wish, now: ClusterState) -> dict[str, str]:
    identity, seen = identity_path(want.cluster), {}
    fresh = want.generation.new_authorities
    for name, host in now.hosts.items():
        marker, token = host.marker, token_of(host)
        if marker and marker.cluster != want.cluster.name:
            seen[name] = (
                f"is a member of the cluster {marker.cluster}: not {want.cluster.name}; put the old name back, or "
                "take the node out of the inventory"
                if marker.cluster
                else f"{identity} is gone or unreadable, so nobody knows whose member "
                "it is: put the file back, or write it anew with the ids that `status` shows"
            )
        elif marker and marker.name != name:
            seen[name] = (
                f"is the member {marker.name}, not {name}: was the inventory renamed? put the old name back"
            )
        elif marker and list(now.cluster_ids) == [host.cluster_id] != [marker.cluster_id]:
            seen[name] = (
                f"answers as cluster {host.cluster_id:x}, {identity} says {marker.cluster_id:x}: if it was restored "
                f"from a snapshot, `sudo sed -i s/{marker.cluster_id:x}/{host.cluster_id:x}/ {identity}` there; "
                "if not, stop etcd there and move its data aside"
            )
        elif host.data is Data.MEMBER and token and not fresh and token != want.generation.token:
            seen[name] = (
                f"its unit has the cluster token {token}, ours is {want.generation.token}: another cluster's (take it "
                "out of the inventory), or the certs folder is not the one it was deployed with (put that here)"
            )
    return seen


def _two_clusters(want: Wish, now: ClusterState) -> dict[str, str]:
    if len(now.cluster_ids) <= 1:
        return {}
    seen = {}
    for id, nodes in now.cluster_ids.items():
        for name in nodes:
            marker = now.hosts[name].marker
            says = f"{identity_path(want.cluster)} says {marker.cluster_id:x}; " if marker else ""
            seen[name] = (
                f"answers as a member of cluster {id:x}; {says}of two clusters take one out of the inventory, "
                "or stop etcd on its nodes and move their data aside"
            )
    return seen


def _wiped(want: Wish, now: ClusterState) -> dict[str, str]:
    """Members whose data or log is gone: by their own marker, or, reinstalled, by the member list."""
    paths, seen = want.cluster.paths, {}
    for name, host in now.hosts.items():
        lost = [(paths.data, host.data)] if host.data is not Data.MEMBER else []
        lost += [(paths.wal, host.wal)] if paths.wal and host.wal is not Data.MEMBER else []
        id = host.marker.member_id if host.marker else _published(want, now, name)
        if lost and hollow(want.cluster, host):
            seen[name] = doomed(gone(want.cluster, host))
        elif lost and id is not None:
            what = " and ".join(f"{path} {HOLDS[data]}" for path, data in lost)
            seen[name] = (
                f"was member {id:x}, but {what}: a member without its data must be replaced, never started "
                f"(replace-node: coming; by hand: {GUIDE}); if its disk is only not mounted, mount it"
            )
    return seen


def _moved(want: Wish, now: ClusterState) -> dict[str, str]:
    """A member's data stays where it is: at a new place it would be a member without its data."""
    return {
        name: what
        for name, host in now.hosts.items()
        if Data.MEMBER in (host.data, host.wal) and (what := moved(want.cluster, host))
    }


def moved(cluster: ClusterSpec, host: HostState, *, links: bool = False) -> str | None:
    """Say what the installed etcd has elsewhere than the inventory; with `links` those in `paths.bin` too."""
    if host.told is None:
        return None
    paths, told, unit = cluster.paths, host.told, host.paths.get(UNIT_PATH)
    user = re.search(r"^User=(\S+)$", unit.text or "", re.M) if unit else None
    differences = [
        ("paths.data", told.data, paths.data),
        ("paths.wal", told.wal, paths.wal or ""),
        ("paths.config", told.config, paths.config),
        ("user", user[1] if user else cluster.user, cluster.user),
    ]
    if links:
        differences.append(("paths.bin", told.etcdctl.removesuffix("/etcdctl"), paths.bin))
    found = [f"{key} is {is_ or 'not set'} there" for key, is_, wanted in differences if is_ != wanted]
    kept = "put back in the inventory what is there; a cluster keeps it until its `destroy`"
    return f"{', '.join(found)}: {kept}" if found else None


def _linked(want: Wish, now: ClusterState) -> dict[str, str]:
    """A data directory behind a link: what it holds and what is renamed would be two things."""
    places = [path for path in (want.cluster.paths.data, want.cluster.paths.wal) if path]
    return {
        name: f"{path} is a symbolic link to {host.paths[path].target}: name the directory itself in `paths`"
        for name, host in now.hosts.items()
        for path in places
        if path in host.paths and host.paths[path].kind == "link"
    }


def _blinded(want: Wish, now: ClusterState) -> dict[str, str]:
    """Without the digest in its environment nobody knows what a process was started with."""
    return {
        name: f"etcd runs without ETCDCTL_REMOTE_DIGEST in its environment: a drop-in clears it "
        f"({' '.join(host.dropins)}); take the empty `Environment=` out of it"
        for name, host in now.hosts.items()
        if host.unit.running
        and host.unit.digest is None
        and token_of(host) == want.generation.token
        and host.dropins
    }


def _masked(want: Wish, now: ClusterState) -> dict[str, str]:
    """Somebody does not want etcd to start here: writing the unit would undo that without a word."""
    return {name: MASKED for name, host in now.hosts.items() if host.unit.enabled == "masked"}


def _unguarded(want: Wish, now: ClusterState) -> dict[str, str]:
    """A member that nothing marks, or whose marker is not looked at, would start without its data."""
    return {
        name: f"a drop-in clears what keeps a member without its data from starting: take {' and '.join(host.emptied)} "
        "out of it (lines that are added need no empty one before them)"
        for name, host in now.hosts.items()
        if host.emptied
    }


def _published(want: Wish, now: ClusterState, name: str) -> int | None:
    """Return the id of the listed member at a node's peer URL, if it has ever been ready."""
    peer = want.cluster.peer_url(want.cluster.node(name))
    return next((m.id for m in now.members if peer in m.peer_urls and m.client_urls), None)


def _other_version(want: Wish, now: ClusterState) -> dict[str, str]:
    """Another release, also one that was put there by hand: an older one cannot read what a newer one wrote."""
    link, wanted = f"{want.cluster.paths.bin}/etcd", str(want.cluster.version)
    members = {name: host for name, host in now.hosts.items() if host.data is Data.MEMBER}
    releases = {name: _release(link, host) for name, host in members.items()}
    known = sorted({release for release in releases.values() if release})
    seen = {}
    for name, release in releases.items():
        if release == "":
            seen[name] = (
                f"{link} is no link of ours, and no etcd answers: see `{link} --version`, put that into the "
                "inventory, and move the file away; then deploy makes the link"
            )
        elif release not in (None, wanted):
            way = f"put {release} into the inventory; another release is upgrade's task (coming)"
            if len(known) > 1:
                way = f"members have {' and '.join(known)}; give all the same by hand, then put that into the inventory"
            seen[name] = f"runs etcd {release}, the inventory wants {wanted}: {way}"
    return seen


def _release(link: str, host: HostState) -> str | None:
    """Name the release of a member; None if nothing tells, empty if a file hides it.

    The answer comes first: a path says little of what was copied there, and nothing of a process that is emulated.
    """
    if host.endpoint and host.endpoint.version:
        return host.endpoint.version
    place = host.paths.get(link)
    for path in (host.unit.program, place and place.target):
        if found := re.fullmatch(r"/opt/etcd/v([0-9.]+)/etcd.*", path or ""):
            return found[1]
    return "" if place else None


def _strangers(want: Wish, now: ClusterState) -> dict[str, str]:
    """Nodes that are no member, and members that are in no inventory."""
    if not now.members:
        return {}
    wanted = {want.cluster.peer_url(node): node.name for node in want.cluster.nodes}
    listed = {peer: member for member in now.members for peer in member.peer_urls}
    elsewhere = _elsewhere(want, now)
    seen = {
        name: f"{peer} is no member of the cluster: that is add-node's task (coming)"
        for peer, name in wanted.items()
        if peer not in listed
    }
    seen |= {
        node: f"the inventory gives it {want.cluster.peer_url(want.cluster.node(node))}, its membership says "
        f"{' '.join(member.peer_urls)}: put its address or ports.peer back (moving a member: coming)"
        for node, member in elsewhere.items()
    }
    for peer, member in listed.items():
        if member in elsewhere.values():
            continue
        name = wanted.get(peer)
        if (
            name
            and not member.started
            and _fresh(now, name)
            and member.id != want.bootstrap_ids(want.cluster.node(name))[1]
        ):
            seen[name] = (
                f"is listed as member {member.id:x}, which somebody added and nobody started: "
                "that is add-node's task (coming)"
            )
        if name is None:
            seen[member.name or f"{member.id:x}"] = (
                f"member {member.id:x} at {peer} is in no inventory: that is remove-node's task (coming)"
            )
    return seen


def _elsewhere(want: Wish, now: ClusterState) -> dict[str, Member]:
    """Find the nodes whose own member, by the id they report, is listed at another peer URL than the wanted."""
    found = {}
    for node in want.cluster.nodes:
        host = now.hosts[node.name]
        id = host.marker.member_id if host.marker and host.member_id is None else host.member_id
        member = next((member for member in now.members if member.id == id), None)
        if member and want.cluster.peer_url(node) not in member.peer_urls:
            found[node.name] = member
    return found


def _fresh(now: ClusterState, name: str) -> bool:
    return now.hosts[name].data is not Data.MEMBER and now.hosts[name].marker is None


def denied(want: Wish, now: ClusterState) -> Refused:
    """Say that nobody sees who has caught up: so members cannot be restarted one after the other."""
    return Refused(
        f"{want.cluster.name}: members have to restart, and etcd's auth does not let us see how they fare; "
        "nothing was changed",
        auth.way_out(now.denied),
        {name: auth.denial(name, now.hosts[name]) for name in now.denied},
    )


def lost_quorum(want: Wish, now: ClusterState) -> Refused:
    """Say who is silent and why, and whose task that is; what cannot be told is said to be so."""
    silent = {name: gates.why_silent(now, name) for name in sorted(now.hosts)}
    reasons = {name: reason.removeprefix(f"{name}: ") for name, reason in silent.items() if reason}
    if now.uncertain:
        hint = "`health` and `logs` tell more; a client certificate, a permission or time may be missing"
        if now.denied:
            hint = f"`start` starts who is down; {auth.way_out(now.denied)}"
        return Refused(
            f"{want.cluster.name}: it cannot be told whether there is a quorum; nothing was changed",
            hint,
            reasons,
        )
    alive = sum(host.data is Data.MEMBER for host in now.hosts.values())
    enough = alive >= quorum(len(want.cluster.nodes))
    hint = "`start`" if enough else "restore from a backup (restore: coming)"
    if enough and any(host.data is Data.MEMBER and host.told is None for host in now.hosts.values()):
        gone = " ".join(sorted(name for name, host in now.hosts.items() if host.data is not Data.MEMBER))
        hint = (
            f"put back the data of {gone}, then `deploy`; if it is lost, take {gone} out of the inventory for one "
            "deploy, which installs and starts the others, and replace that member then"
        )
    return Refused(f"{want.cluster.name} has lost its quorum; nothing was changed", hint, reasons)
