"""Whether a host has room for etcd, and whether what lies there may stay. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ..desired.hostspec import CONFIG_MODE, INSTALL_ROOT
from ..observed.findings import Finding, Result
from ..observed.lost import HOLDS
from .case import GIB, MIB, Case, size
from .facts import Place

INSTALL_SPACE = 256 * MIB
"""Archive (25 MB) and unpacked release (80 MB), and the same again while a broken one is replaced."""
DATA_SPACE = 256 * MIB
"""Two WAL segments of 64 MB, which are preallocated, a snapshot and a first database."""
QUOTA = 2 * GIB
"""etcd's default for quota-backend-bytes."""


def data(case: Case) -> Iterator[Finding]:
    """Empty, or this cluster's; the same for a WAL directory of its own."""
    facts, paths = case.facts, case.cluster.paths
    marked = facts.marker is not None
    for path, holds in ((paths.data, facts.data), (paths.wal, facts.wal)):
        if path is None:
            continue
        if holds == "other":
            text = f"{path} holds files that are not etcd's: empty it, or choose another `paths.data`"
            yield case.says("data", Result.FAIL, text)
        elif holds == "torn" and not marked:
            text = f"{path}/member/snap/db has data in it, and no log: put it back, or choose another `paths.data`"
            yield case.says("data", Result.FAIL, text)
        elif holds in ("begun", "stuck") and not case.deployed:
            text = f"{path} {HOLDS[holds]}, by an etcd that is not ours: move it away, or choose another `paths.data`"
            yield case.says("data", Result.FAIL, text)
        elif holds == "member" and not case.deployed:
            whose = f"of the cluster {facts.marker}" if facts.marker else "of an etcd that is not ours"
            text = f"{path} holds the data {whose}: move it away, or choose another `paths.data`"
            yield case.says("data", Result.FAIL, text)
        elif marked and holds != "member" and path == paths.data:
            text = f"{path} {HOLDS[holds]}, but a member lived here: mount its disk, or replace the member; never start it"
            yield case.says("data", Result.FAIL, text)
        elif facts.strange and facts.user_exists and holds == "member":
            text = f"{facts.strange[0]} is not {case.cluster.user}'s: `chown -R {case.cluster.user}: {path}`"
            # It runs with them: a deploy may go on, the next start may not.
            yield case.says("data", Result.WARN if facts.ours else Result.FAIL, text)
        else:
            yield case.says("data", Result.PASS, f"{path} {HOLDS.get(holds, 'is this member’s')}")


def config(case: Case) -> Iterator[Finding]:
    """A directory that others use would change owner and mode; one that has ours already does not."""
    path, ours = case.cluster.paths.config, f"{CONFIG_MODE:04o} root:{case.cluster.user}"
    taken = [place for place in case.facts.occupied if place.rights != ours]
    for place in taken:
        names = ", ".join(place.names[:3]) + (" and more" if len(place.names) > 3 else "")
        text = f"{place.path} is somebody else's: it holds {names}, and deploy would turn {place.rights} into {ours}"
        way = "choose a directory of etcd's own for `paths.config`, or, if nobody needs them, move them away"
        yield case.says("config", Result.FAIL, f"{text}; {way}")
    if not taken:
        yield case.says("config", Result.PASS, f"{path} is nobody else's")


def disk(case: Case) -> Iterator[Finding]:
    """Free space where we install and where etcd writes."""
    paths, places = case.cluster.paths, case.facts.places
    quota = int(case.node.settings.get("quota-backend-bytes", "0") or 0) or QUOTA
    wanted = [
        (
            paths.data,
            DATA_SPACE,
            quota + GIB // 2,
            f"for a database of {size(quota)} (quota-backend-bytes) and the log",
        ),
    ]
    if not case.facts.installed:
        wanted.insert(0, (INSTALL_ROOT, INSTALL_SPACE, INSTALL_SPACE, "to install a release"))
    if paths.wal:
        wanted.append((paths.wal, DATA_SPACE, GIB // 2, "for the write-ahead log"))
    bad = [finding for wish in wanted for finding in _room(case, *wish)]
    yield from bad
    if not bad:
        free = dict.fromkeys((places[path].mount, places[path].free) for path, *_ in wanted)
        yield case.says(
            "disk", Result.PASS, ", ".join(f"{size(left)} free on {mount}" for mount, left in free)
        )


def _room(case: Case, path: str, least: int, enough: int, purpose: str) -> Iterator[Finding]:
    place = case.facts.places.get(path)
    if place is None:
        yield case.says("disk", Result.WARN, f"the free space at {path} cannot be told")
    elif place.free < least and case.facts.ours and path != INSTALL_ROOT:
        # A member that runs has its log already, and a deploy may be what frees the space.
        text = f"only {size(place.free)} free on {place.mount} for {path}: free some {purpose}"
        yield case.says("disk", Result.WARN, text)
    elif place.free < least:
        text = f"only {size(place.free)} free on {place.mount} for {path}: {size(least)} are needed {purpose}"
        yield case.says("disk", Result.FAIL, text)
    elif place.inodes is not None and place.inodes < 100:
        yield case.says("disk", Result.FAIL, f"only {place.inodes} inodes free on {place.mount} for {path}")
    elif place.free < enough:
        text = f"{size(place.free)} free on {place.mount} for {path}: {size(enough)} would do {purpose}"
        yield case.says("disk", Result.WARN, text)


def mounts(case: Case) -> Iterator[Finding]:
    """File systems that cannot do what we want of them."""
    paths, places = case.cluster.paths, case.facts.places
    bad = [finding for place in places.values() for finding in _mount(case, place)]
    yield from bad
    if not bad and places:
        kinds = ", ".join(dict.fromkeys(f"{places[p].type} at {p}" for p in (paths.data,) if p in places))
        yield case.says("mounts", Result.PASS, f"writable, programs may run; {kinds}")


def _mount(case: Case, place: Place) -> Iterator[Finding]:
    paths = case.cluster.paths
    if "ro" in place.options:
        text = f"{place.mount} is mounted read-only: {place.path} cannot be written; choose another under `paths`"
        yield case.says("mounts", Result.FAIL, text)
    if "noexec" in place.options and place.path == INSTALL_ROOT:
        text = f"{place.mount} is mounted noexec: etcd in {INSTALL_ROOT} could not run; mount it with exec"
        yield case.says("mounts", Result.FAIL, text)
    if "noexec" in place.options and place.path == paths.bin:
        text = f"{place.mount} is mounted noexec: etcdctl.sh in {paths.bin} will not run; choose another `paths.bin`"
        yield case.says("mounts", Result.WARN, text)
    if place.path in (paths.data, paths.wal):
        if place.type in ("tmpfs", "ramfs"):
            text = f"{place.path} is in memory ({place.type}): a reboot takes this member's data"
            yield case.says("mounts", Result.WARN, text)
        elif place.type.startswith(("nfs", "cifs", "smb", "fuse", "9p")):
            text = f"{place.path} is on {place.type}: etcd wants a local disk, its locks and syncs are not safe there"
            yield case.says("mounts", Result.WARN, text)
