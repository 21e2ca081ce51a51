"""The status of a cluster, from one observation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from etcdctl_remote.desired.identity import member_id
from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, Version
from etcdctl_remote.observed.advice import quota
from etcdctl_remote.observed.report import EndpointHealth, Health, Status, StatusRow, status
from etcdctl_remote.observed.state import (
    ClusterState,
    Data,
    Endpoint,
    HostState,
    Marker,
    Member,
    Told,
    UnitState,
)

NAMES = ("n1", "n2", "n3")
IDS = {"n1": 0xA1, "n2": 0xA2, "n3": 0xA3, "n4": 0xA4}
RUNNING = UnitState("active", "running", pid=7)
TOLD = Told("/data", "", "/etc/etcd", "/usr/local/bin/etcdctl", "https://127.0.0.1:2379", "t0")


def cluster(*names: str) -> ClusterSpec:
    """Return an inventory of these nodes."""
    nodes = tuple(NodeSpec(name, f"h{name}", address=f"10.0.0.1{name[1:]}") for name in names or NAMES)
    return ClusterSpec("demo", Version(3, 6, 14), nodes, Path("inventory.yaml"))


def member(name: str, *, started: bool = True, learner: bool = False) -> Member:
    """Return a node's entry in the member list."""
    client = (f"https://10.0.0.1{name[1:]}:2379",) if started else ()
    return Member(IDS[name], name if started else "", (f"https://10.0.0.1{name[1:]}:2380",), client, learner)


LIST = tuple(member(name) for name in NAMES)


def host(name: str, members: tuple[Member, ...] | None = LIST, **changes: object) -> HostState:
    """Return a host whose member serves; `changes` go to its endpoint."""
    endpoint = Endpoint(0xC1, IDS[name], "3.6.14", IDS["n1"], 3, 100, 100, 20480, 16384, False, 5)
    return HostState(
        name,
        unit=RUNNING,
        data=Data.MEMBER,
        endpoint=replace(endpoint, **changes),  # type: ignore[arg-type]
        members=members,
    )


def healthy() -> dict[str, HostState]:
    """Return three serving hosts."""
    return {name: host(name) for name in NAMES}


def seen(hosts: dict[str, HostState], *, want: ClusterSpec | None = None, **lost: str) -> Status:
    """Report on these hosts; `lost` are the unreachable ones and why."""
    return status(want or cluster(), ClusterState(hosts, lost), {"n1": 300})


def test_a_healthy_cluster_needs_no_advice() -> None:
    """One leader, voters, what may be lost, and not a word more."""
    report = seen(healthy())
    assert report == Status(
        "demo",
        0xC1,
        "3.6.14",
        "n1",
        1,
        (
            StatusRow("n1", 0xA1, "leader", "3.6.14", 20480, 16384, 3, 100, 0, cert_days=300),
            StatusRow("n2", 0xA2, "voter", "3.6.14", 20480, 16384, 3, 100, 0),
            StatusRow("n3", 0xA3, "voter", "3.6.14", 20480, 16384, 3, 100, 0),
        ),
    )


def test_an_unreachable_host_is_not_called_down() -> None:
    """We know nothing of its member, which may well serve: the role says so, the id is the list's."""
    hosts = healthy()
    del hosts["n3"]
    report = seen(hosts, n3="10.0.0.13:22: timed out")
    assert report.members[2] == StatusRow("n3", 0xA3, "unreachable", error="10.0.0.13:22: timed out")
    assert report.tolerates == 0
    assert report.advice == ("nothing is known of n3: 10.0.0.13:22: timed out",)


def test_a_stopped_member_is_down() -> None:
    """The host answers and etcd does not: what systemd says, and where to look."""
    unit = UnitState("failed", "failed", result="exit-code")
    hosts = {**healthy(), "n2": HostState("n2", unit=unit, data=Data.MEMBER)}
    report = seen(hosts)
    assert report.members[1] == StatusRow("n2", 0xA2, "voter", error="etcd is failed (exit-code)")
    assert report.advice == (
        "n2 is down: etcd is failed (exit-code); see `logs --node n2`, then `deploy` or `start`",
    )


def installed(name: str, **changes: object) -> HostState:
    """Return a stopped member of ours with its data; `changes` go to the host."""
    marker = Marker("demo", 0xC1, IDS[name], name)
    stopped = HostState(name, told=TOLD, marker=marker, data=Data.MEMBER)
    return replace(stopped, **changes)  # type: ignore[arg-type]


HANGS = replace(installed("n3"), unit=RUNNING, endpoint_error="context deadline exceeded")


def test_a_member_that_hangs_is_no_tasks_business() -> None:
    """`deploy` and `start` leave alone what runs: it is restarted by hand, where that costs no quorum."""
    report = seen({**healthy(), "n3": HANGS})
    assert (report.tolerates, report.members[2].error) == (0, "context deadline exceeded")
    assert report.advice == (
        "n3 runs and does not serve: context deadline exceeded; see `logs --node n3` and `check`, then "
        "`sudo systemctl restart --no-block etcd` there (the others keep the quorum): no task restarts what runs as wanted",
    )
    alone = replace(host("n3", None, leader=0), members_error="no leader")
    assert seen({**healthy(), "n3": alone}).advice[0].startswith("n3 runs and does not serve: no leader; see")


def test_who_hangs_without_a_quorum_may_be_needed_for_one() -> None:
    """One at a time, then; and where others are down, `start` comes first."""
    report = seen({name: replace(HANGS, node=name) for name in NAMES})
    assert report.advice[0] == "no member answers: `check`; `logs` shows what etcd said last"
    assert all("(one node at a time, as it may be needed" in line for line in report.advice[1:])
    waiting = seen({"n1": installed("n1"), "n2": installed("n2"), "n3": HANGS}).advice
    assert waiting[-1] == (
        "n3 runs and does not serve: context deadline exceeded; see `logs --node n3`, then `start`"
    )


def test_a_lost_quorum_is_minus_one() -> None:
    """Members answer for themselves, but nobody leads and no list can be read."""
    silent = host("n1", None, leader=0, errors=("etcdserver: no leader",))
    stopped = HostState("n2", data=Data.MEMBER, marker=Marker("demo", 0xC1, 0xA2, "n2"))
    report = seen({"n1": silent, "n2": stopped}, n3="timed out")
    assert report.tolerates == -1
    assert report.leader is None
    assert [row.role for row in report.members] == ["voter", "unknown", "unreachable"]
    assert [row.id for row in report.members] == [0xA1, 0xA2, None]
    assert report.members[0].error == "etcdserver: no leader"
    assert report.advice[0].startswith("there is no leader: a majority of the voters must run")


def test_nothing_deployed_yet() -> None:
    """Fresh hosts: no id, no version, nothing invented."""
    report = seen({name: HostState(name) for name in NAMES})
    assert (report.cluster_id, report.version, report.leader, report.tolerates) == (None, None, None, -1)
    assert {row.role for row in report.members} == {"unknown"}
    assert report.advice == ("etcd is not installed on n1 n2 n3: `deploy`",)


def test_nothing_left_of_a_cluster_that_served() -> None:
    """`deploy` would refuse; it is not advised."""
    now = ClusterState({name: HostState(name) for name in NAMES})
    (advice,) = status(cluster(), now, {}, "cluster abc, seen serving on 2026-11-21").advice
    assert "cluster abc, seen serving on 2026-11-21" in advice
    assert "All hosts are blank" in advice
    assert "deploy" not in advice


def test_without_a_quorum_start_is_the_way() -> None:
    """Deploy would refuse; before the first quorum ever, deploy it is; a lost majority of data is restored."""
    down = "is down: etcd is inactive (dead); see `logs --node"
    report = seen({name: installed(name) for name in NAMES})
    assert report.advice == (
        "no member answers: `start`; `logs` shows what etcd said last",
        *(f"{name} {down} {name}`, then `start`" for name in NAMES),
    )
    one = seen({"n1": host("n1", None, leader=0), "n2": installed("n2"), "n3": installed("n3")})
    assert one.advice[1:] == tuple(f"{name} {down} {name}`, then `start`" for name in ("n2", "n3"))
    never = seen({name: installed(name, marker=None) for name in NAMES})
    assert never.advice[0].startswith("no member answers: `deploy`;")
    two = seen({"n1": installed("n1")}, n2="timed out", n3="timed out")
    assert two.advice[0].startswith("no member answers: make n2 n3 reachable, then `start`;")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"data": Data.ABSENT}, "/data is absent"),
        ({"data": Data.OTHER}, "/data holds files, but no log of etcd's"),
        ({"told": replace(TOLD, wal="/wal"), "wal": Data.EMPTY}, "/wal is empty"),
        ({"told": None, "marker": None, "data": Data.EMPTY}, "/var/lib/etcd is empty"),
    ],
)
def test_a_member_without_its_data_is_replaced(changes: dict[str, object], what: str) -> None:
    """By its marker, or, reinstalled, by the list: neither `deploy` nor `start` would help."""
    report = seen({**healthy(), "n2": installed("n2", **changes)})
    assert report.advice == (
        f"n2 was a member, but {what}: its data is gone, so it must be replaced, never started: "
        'docs/operations.md, "A member whose data is gone"; if its disk is only not mounted, mount it, then `start`',
    )


def test_lost_data_without_a_quorum() -> None:
    """Nobody is told to start what must not start; a majority that is lost is restored."""
    report = seen({"n1": installed("n1"), **{n: installed(n, data=Data.EMPTY) for n in ("n2", "n3")}})
    assert [line.split()[0] for line in report.advice] == ["n2", "n3", "no", "n1"]
    assert all("restore from a backup" in line for line in report.advice[2:])


@pytest.mark.parametrize("data", [Data.ABSENT, Data.EMPTY, Data.OTHER])
def test_a_running_member_whose_data_was_removed(data: Data) -> None:
    """It serves from what it holds open, until it restarts: the gravest line, before all others."""
    hosts = {**healthy(), "n1": replace(host("n1"), told=TOLD, data=data), "n2": installed("n2", data=data)}
    report = seen(hosts)
    assert report.advice[0].startswith("n1 runs, but /data ")
    assert "it will not come back after a restart" in report.advice[0]
    assert "replace it now" in report.advice[0]
    assert report.advice[1].startswith("n2 was a member")


def test_a_host_that_does_not_tell_has_not_lost_its_data() -> None:
    """Unknown is no proof, running or not."""
    hosts = {**healthy(), "n1": replace(host("n1"), told=TOLD, data=Data.UNKNOWN)}
    assert seen(hosts).advice == ()
    hosts["n2"] = installed("n2", data=Data.UNKNOWN)
    assert seen(hosts).advice[0].startswith("n2 is down")


def test_a_host_without_etcd_beside_members() -> None:
    """Before the first quorum deploy installs it; later the quorum comes first."""
    first = seen({"n1": installed("n1", marker=None), "n2": HostState("n2"), "n3": HostState("n3")})
    assert first.advice[-1] == "etcd is not installed on n3: `deploy`"
    later = seen({"n1": installed("n1"), "n2": installed("n2"), "n3": HostState("n3")})
    assert later.advice[-1] == "etcd is not installed on n3: get the quorum back first: `start`"


def test_a_listed_member_that_never_started() -> None:
    """A founding one is deploy's; one added by hand is not; where no token tells, both are said."""
    url, guide = "https://10.0.0.13:2380", 'docs/operations.md, "A member whose data is gone"'
    for id, told, way in (
        (member_id([url], "t0"), TOLD, "run `deploy`"),
        (0xA3, TOLD, f"it was added by hand: start it by hand as {guide}, says (add-node: coming)"),
        (0xA3, None, "run `deploy` if a deploy was cut off; if it was added by hand, start it by hand as"),
    ):
        found = (*LIST[:2], Member(id, "", (url,), ()))
        hosts = {name: replace(host(name, found), told=told) for name in ("n1", "n2")}
        (line,) = seen({**hosts, "n3": HostState("n3")}).advice
        assert line.startswith(f"n3 is in the member list but never started: {way}")
        begun = seen({**hosts, "n3": HostState("n3", told=told, data=Data.MEMBER)}).advice
        assert begun == ("n3 is in the member list but never started: run `deploy`",)


@pytest.mark.parametrize("space", [" ", "  "])
def test_alarms_are_their_members_own(space: str) -> None:
    """Every answer lists every member's alarms; 3.7 puts one or two spaces between, at random."""
    said = (f"memberID:{0xA2}{space}alarm:NOSPACE ",)
    report = seen({name: host(name, errors=said) for name in NAMES})
    assert [row.alarms for row in report.members] == [(), ("NOSPACE",), ()]
    assert {row.error for row in report.members} == {""}
    (advice,) = report.advice
    assert advice.startswith("n2 raised NOSPACE: the cluster takes no more writes: compact")
    assert "alarm disarm" in advice


def test_a_corrupt_member_must_not_be_disarmed() -> None:
    """Disarming would hide lost data; the fix is another one."""
    report = seen({name: host(name, errors=(f"memberID:{0xA3} alarm:CORRUPT ",)) for name in NAMES})
    assert "n3 raised CORRUPT" in report.advice[0]
    assert "do not disarm" in report.advice[0]


def test_a_down_member_keeps_its_alarm() -> None:
    """The others tell of it."""
    hosts = {name: host(name, errors=(f"memberID:{0xA2} alarm:NOSPACE ",)) for name in NAMES}
    hosts["n2"] = HostState("n2")
    assert seen(hosts).members[1].alarms == ("NOSPACE",)


def test_members_without_a_node_are_shown() -> None:
    """A stranger has a row of its own, after the nodes."""
    found = (*LIST, member("n4"))
    report = seen({name: host(name, found) for name in NAMES})
    assert report.members[3] == StatusRow(
        None, 0xA4, "voter", error="n4 at https://10.0.0.14:2380 is not in the inventory"
    )
    assert report.tolerates == 0
    assert report.advice == (
        "4 voters bear the loss of 1, no more than 3 do: make it an odd number",
        "member a4: n4 at https://10.0.0.14:2380 is not in the inventory; add it there, or remove the member",
    )


def test_a_leader_outside_the_inventory_is_named() -> None:
    """By its member name."""
    found = (*LIST, member("n4"))
    assert seen({name: host(name, found, leader=0xA4) for name in NAMES}).leader == "n4"


def test_a_node_outside_the_member_list() -> None:
    """It answers SSH, but the cluster does not know it."""
    report = seen({**healthy(), "n4": HostState("n4")}, want=cluster(*NAMES, "n4"))
    assert report.members[3].role == "not a member"
    assert "n4 is in the inventory but not in the member list: `add-node` (coming) adds it" in report.advice


def test_unstarted_and_learning_members() -> None:
    """A member without a name is found by its peer URL."""
    found = (member("n1"), member("n2", learner=True), member("n3", started=False))
    hosts = {"n1": host("n1", found), "n2": host("n2", None, learner=True), "n3": HostState("n3")}
    report = seen(hosts)
    assert [(row.id, row.role) for row in report.members] == [
        (0xA1, "leader"),
        (0xA2, "learner"),
        (0xA3, "unstarted"),
    ]
    assert "n3 is in the member list but never started: run `deploy`" in report.advice[1]


def test_mixed_versions_count_as_the_lowest() -> None:
    """As numbers: 3.10 is newer than 3.6."""
    hosts = {**healthy(), "n2": host("n2", version="3.10.0")}
    report = seen(hosts)
    assert report.version == "3.6.14"
    assert report.advice == (
        "mixed versions: 3.6.14 on n1 n3, 3.10.0 on n2; finish the upgrade: until then the cluster "
        "behaves as the lowest",
    )


def test_two_clusters_are_the_first_thing_said() -> None:
    """Both ids, and who has which."""
    report = seen({**healthy(), "n3": host("n3", cluster_id=0xC2)})
    assert report.advice[0].startswith("more than one cluster answers: c1 on n1 n2, c2 on n3")


def test_a_laggard_is_measured_against_the_furthest() -> None:
    """Applied index against the highest raft index anybody reports."""
    hosts = {**healthy(), "n1": host("n1", raft_index=9000, raft_applied=9000)}
    report = seen(hosts)
    assert [row.applied_lag for row in report.members] == [0, 8900, 8900]
    assert report.advice[0] == "n2 is 8900 entries behind: a slow disk or link, or just started"


@pytest.mark.parametrize(
    ("in_use", "cure"), [(10 * 1024**2, "defragment"), (1900 * 1024**2, "delete and compact")]
)
def test_a_nearly_full_database(in_use: int, cure: str) -> None:
    """The quota is compared with the file: free pages inside it come back by defragmenting."""
    hosts = {**healthy(), "n1": host("n1", db_size=1900 * 1024**2, db_in_use=in_use)}
    (advice,) = seen(hosts).advice
    assert advice.startswith("n1: the database fills 92 % of its quota")
    assert cure in advice


def test_the_quota_that_a_setting_means() -> None:
    """0 and none are etcd's default, a negative one is no limit."""
    assert [quota("0"), quota("8589934592"), quota("-1"), quota("?")] == [
        2 * 1024**3,
        8 * 1024**3,
        None,
        None,
    ]


def test_certificates_near_their_end() -> None:
    """From 30 days before; an expired one is said to be."""
    now = ClusterState(healthy())
    report = status(cluster(), now, {"n1": 30, "n2": 12, "n3": -1})
    assert report.advice == (
        "n2: a certificate expires in 12 days: `rotate-certs` renews it",
        "n3: a certificate has expired: `rotate-certs` renews it",
    )


def test_an_address_from_an_interface_is_no_obstacle() -> None:
    """Status does not need the address: the member is found by its id or name."""
    want = cluster()
    nodes = tuple(replace(node, address=None, interface="wg0") for node in want.nodes)
    assert seen({**healthy(), "n2": HostState("n2")}, want=replace(want, nodes=nodes)).members[1].id == 0xA2


def test_health_needs_every_endpoint() -> None:
    """One sick endpoint makes the cluster unhealthy, and so does having none."""
    well, sick = (
        EndpointHealth("n1", "https://a:2379", True, 1.0),
        EndpointHealth("n2", "https://b:2379", False),
    )
    assert Health("demo", (well, well)).healthy
    assert not Health("demo", (well, sick)).healthy
    assert not Health("demo", ()).healthy
