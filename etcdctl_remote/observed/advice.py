"""What an operator should do about what `status` shows: one line each, the gravest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..desired.model import ClusterSpec, Version
from . import auth
from .lost import (
    BLANK,
    CHECK,
    GUIDE,
    PUT_BACK,
    bare,
    doomed,
    founding,
    lost,
    short,
    silence,
    silent,
    way_back,
)
from .rows import StatusRow, endpoints
from .state import ClusterState, Data, quorum

LAG = 1000
"""Raft entries behind that are worth a word: etcd itself refuses to promote a learner only
below 90 % of the leader's index, and a loaded cluster is always a few hundred apart."""

NEARLY = 0.8
"""Share of the quota from which the database counts as nearly full; etcd's own alert is at
95 %, too late to defragment in peace."""

DEFAULT_QUOTA = 2 * 1024**3
"""Bytes; etcd's `DefaultQuotaBytes`, for a setting of 0 or none."""

CERT_DAYS = 30
"""Days before a certificate's expiry from which to renew it."""

_ALARMS = {
    "NOSPACE": "the cluster takes no more writes: compact to the current revision, defragment each "
    "member, then `etcdctl -c 'alarm disarm'`",
    "CORRUPT": "the member's data differs from the others': do not disarm; stop it, and replace it by "
    "`remove-node` and `add-node` (coming)",
}


def advise(
    cluster: ClusterSpec, now: ClusterState, rows: Sequence[StatusRow], served: str = ""
) -> tuple[str, ...]:
    """Return every line worth an operator's time; nothing for a healthy cluster.

    `served` is what the laptop remembers of a cluster of which no host knows.
    """
    return (
        *_lost(cluster, now, rows),
        *_quorum(cluster, now, served),
        *_denied(now),
        *_down(cluster, now, rows),
        *_alarms(rows),
        *_membership(cluster, now, rows),
        *_versions(now),
        *_room(cluster, now),
        *_lag(rows),
        *_certificates(rows),
    )


def _lost(cluster: ClusterSpec, now: ClusterState, rows: Sequence[StatusRow]) -> Iterator[str]:
    """Members whose data is gone; first those that run on and look well until they restart."""
    found = [(row, what) for row in rows if (what := lost(cluster, now, row))]
    for row, what in found:
        if now.hosts[row.node or ""].unit.running:
            yield f"{row.node} {doomed(what)}"
    for row, what in found:
        if not now.hosts[row.node or ""].unit.running:
            yield (
                f"{row.node} was a member, but {what}: its data is gone, so it must be replaced, never started: "
                f"{GUIDE}; if its disk is only not mounted, mount it, then `start`"
            )


def _quorum(cluster: ClusterSpec, now: ClusterState, served: str) -> Iterator[str]:
    if len(now.cluster_ids) > 1:
        found = ", ".join(f"{id:x} on {' '.join(nodes)}" for id, nodes in now.cluster_ids.items())
        yield f"more than one cluster answers: {found}; only one can be the inventory's"
    if now.has_quorum or now.denied:
        return
    if served:
        yield f"no host says that it was ever a member, though certs/{cluster.name} knows {served}: {BLANK}"
    elif now.hosts and len(bare(now)) == len(now.hosts):
        yield f"etcd is not installed on {' '.join(bare(now))}: `deploy`"
    elif not now.hosts:
        yield "no host can be looked at, so nothing is known of the cluster"
    elif not endpoints(now):
        yield f"no member answers: {way_back(cluster, now)}; `logs` shows what etcd said last"
    elif not any(endpoint.leader for endpoint in endpoints(now).values()):
        yield "there is no leader: a majority of the voters must run and reach each other on the peer port"
    else:
        yield "no member answers a linearizable read: writes have stopped until a majority is back"


def _denied(now: ClusterState) -> Iterator[str]:
    if now.denied:
        yield (
            f"etcd's auth denies us {', '.join(now.denied)}: versions, sizes and lag cannot be seen, and `deploy` "
            f"restarts nobody until it can; {auth.way_out(now.denied)}"
        )


def _down(cluster: ClusterSpec, now: ClusterState, rows: Sequence[StatusRow]) -> Iterator[str]:
    blank, way = bare(now), way_back(cluster, now)
    for row in rows:
        if row.role == "unreachable":
            yield f"nothing is known of {row.node}: {row.error}"
        elif not row.node or lost(cluster, now, row):
            continue
        elif row.node in silent(now) and (
            now.has_quorum or now.hosts[row.node].missing or (row.down and way == CHECK)
        ):
            yield f"{row.node} {silence(now, row.node)}"
        elif not row.down:
            continue
        elif now.hosts[row.node].missing:
            yield f"{row.node} is down, and would not start: {short(now.hosts[row.node])}; {PUT_BACK}"
        elif row.node not in blank:
            is_ = "runs and does not serve" if row.node in silent(now) else "is down"
            yield f"{row.node} {is_}: {row.error}; see `logs --node {row.node}`, then {way}"
        elif len(blank) < len(now.hosts):
            first = f"get the quorum back first: {way_back(cluster, now)}" if now.formed else "`deploy`"
            yield f"etcd is not installed on {row.node}: {first}"


def _alarms(rows: Sequence[StatusRow]) -> Iterator[str]:
    for row in rows:
        for alarm in row.alarms:
            yield f"{_name(row)} raised {alarm}: {_ALARMS.get(alarm, 'see `etcdctl -c alarm list`')}"


def _membership(cluster: ClusterSpec, now: ClusterState, rows: Sequence[StatusRow]) -> Iterator[str]:
    voters = len(now.voters)
    if voters and voters % 2 == 0:
        spare = voters - quorum(voters)
        yield f"{voters} voters bear the loss of {spare}, no more than {voters - 1} do: make it an odd number"
    for row in rows:
        if row.node is None:
            yield f"member {row.id or 0:x}: {row.error}; add it there, or remove the member"
        elif row.role == "unstarted" and not lost(cluster, now, row):
            yield f"{row.node} is in the member list but never started: {_first_start(cluster, now, row)}"
        elif row.role == "not a member":
            yield f"{row.node} is in the inventory but not in the member list: `add-node` (coming) adds it"


def _first_start(cluster: ClusterSpec, now: ClusterState, row: StatusRow) -> str:
    """`deploy` starts founding members, and goes on with who has begun; one added by hand it refuses."""
    first, host = founding(cluster, now, row), now.hosts.get(row.node or "")
    by_hand = f"start it by hand as {GUIDE}, says (add-node: coming)"
    if first or (host and host.data is Data.MEMBER):
        return "run `deploy`"
    if first is None:
        return f"run `deploy` if a deploy was cut off; if it was added by hand, {by_hand}"
    return f"it was added by hand: {by_hand}"


def _versions(now: ClusterState) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for node, endpoint in sorted(endpoints(now).items()):
        found.setdefault(endpoint.version, []).append(node)
    if len(found) > 1:
        seen = ", ".join(f"{version} on {' '.join(found[version])}" for version in sorted(found, key=order))
        yield f"mixed versions: {seen}; finish the upgrade: until then the cluster behaves as the lowest"


def _room(cluster: ClusterSpec, now: ClusterState) -> Iterator[str]:
    for node in cluster.nodes:
        host = now.hosts.get(node.name)
        limit = quota(node.settings.get("quota-backend-bytes", "0"))
        if host and host.endpoint and limit and host.endpoint.db_size >= NEARLY * limit:
            share = 100 * host.endpoint.db_size // limit
            inside = 100 * host.endpoint.db_in_use // limit
            cure = (
                "defragment"
                if host.endpoint.db_in_use < NEARLY * limit
                else "delete and compact, or raise the quota"
            )
            yield f"{node.name}: the database fills {share} % of its quota, {inside} % in use: {cure}"


def _lag(rows: Sequence[StatusRow]) -> Iterator[str]:
    for row in rows:
        if row.applied_lag is not None and row.applied_lag > LAG:
            yield f"{_name(row)} is {row.applied_lag} entries behind: a slow disk or link, or just started"


def _certificates(rows: Sequence[StatusRow]) -> Iterator[str]:
    for row in rows:
        if row.cert_days is None or row.cert_days >= CERT_DAYS:
            continue
        when = f"expires in {row.cert_days} days" if row.cert_days >= 0 else "has expired"
        yield f"{row.node}: a certificate {when}: `rotate-certs` renews it"


def quota(setting: str) -> int | None:
    """Return the quota in bytes that a setting means; None for no limit or no number."""
    try:
        wanted = int(setting)
    except ValueError:
        return None
    if wanted < 0:
        return None
    return wanted or DEFAULT_QUOTA


def _name(row: StatusRow) -> str:
    return row.node or f"member {row.id or 0:x}"


def order(version: str) -> tuple[int, ...]:
    """Return a key that orders versions as numbers; 3.7.0-rc.1 counts as 3.7.0."""
    try:
        parsed = Version.parse(version.partition("-")[0])
    except ValueError:
        return ()
    return parsed.major, parsed.minor, parsed.patch
