"""What stops a deploy before it begins."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from etcdctl_remote.errors import Refused, Unreachable
from etcdctl_remote.observed.lost import HOLDS
from etcdctl_remote.observed.report import status
from etcdctl_remote.observed.state import ClusterState, Data
from etcdctl_remote.operations.converge import plan
from etcdctl_remote.operations.refusals import refuse_unsafe, refuse_unseen
from etcdctl_remote.operations.wish import Wish
from etcdctl_remote.pki.generation import Formed
from etcdctl_remote.pki.store import Store
from tests.unit.operations.test_deploy import bare, deployed, wish
from tests.unit.operations.test_releases import with_release
from tests.unit.operations.world import IDENTITY, MARKER, Machine, World


@pytest.mark.parametrize("fresh", [True, False])
def test_a_host_lost_since_we_connected(tmp_path: Path, fresh: bool) -> None:
    """Exit 3 with its reason, once; nothing is planned around it."""
    want = wish(tmp_path)
    now = (bare(want) if fresh else deployed(want)).observe()
    left = {name: host for name, host in now.hosts.items() if name != "n2"}
    with pytest.raises(Unreachable) as caught:
        plan(want, replace(now, hosts=left, unreachable={"n2": "n2: the link broke"}))
    assert caught.value.hosts == {"n2": "the link broke"}


def test_only_who_is_missing_is_a_refusal() -> None:
    """With everybody seen there is nothing to say; one host less, and it is named."""
    refuse_unseen(ClusterState({}))
    with pytest.raises(Unreachable) as caught:
        refuse_unseen(ClusterState({}, unreachable={"n2": "n2: no route to host"}))
    assert caught.value.hosts == {"n2": "no route to host"}
    barred = {"n1": "sudo asks", "n2": "sudo asks"}
    with pytest.raises(Unreachable) as caught:
        refuse_unseen(ClusterState({}, barred, ways_out=dict.fromkeys(barred, "allow NOPASSWD")))
    assert caught.value.hint == "allow NOPASSWD"


@pytest.mark.parametrize("fresh", [True, False])
def test_a_directory_nobody_looked_into_is_not_empty(tmp_path: Path, fresh: bool) -> None:
    """A host that did not tell what it holds bootstraps nothing."""
    want = wish(tmp_path)
    now = (bare(want) if fresh else deployed(want)).observe()
    unknown = replace(now.hosts["n2"], data=Data.UNKNOWN)
    with pytest.raises(Refused) as caught:
        refuse_unsafe(want, replace(now, hosts={**now.hosts, "n2": unknown}))
    assert set(caught.value.hosts) == {"n2"}
    assert "/var/lib/etcd" in caught.value.hosts["n2"]


def test_every_reason_of_every_host_at_once(tmp_path: Path) -> None:
    """One run shows all there is to mend."""
    want = wish(tmp_path)
    now = deployed(want).observe()
    hosts = dict(now.hosts)
    hosts["n1"] = replace(hosts["n1"], data=Data.OTHER)
    marker = hosts["n2"].marker
    assert marker
    hosts["n2"] = replace(hosts["n2"], marker=replace(marker, cluster="theirs"))
    hosts["n3"] = with_release(hosts["n3"], "3.5.33")
    with pytest.raises(Refused) as caught:
        refuse_unsafe(want, replace(now, hosts=hosts))
    assert set(caught.value.hosts) == {"n1", "n2", "n3"}
    assert "no log of etcd's" in caught.value.hosts["n1"]
    assert "empty it" not in caught.value.hosts["n1"]
    assert "theirs" in caught.value.hosts["n2"]
    assert "3.5.33" in caught.value.hosts["n3"]


def test_two_clusters_are_refused(tmp_path: Path) -> None:
    """Both ids, and who answers with which."""
    want = wish(tmp_path)
    now = deployed(want).observe()
    other = now.hosts["n3"]
    assert other.endpoint
    hosts = {**now.hosts, "n3": replace(other, endpoint=replace(other.endpoint, cluster_id=0xBAD))}
    with pytest.raises(Refused) as caught:
        refuse_unsafe(want, replace(now, hosts=hosts))
    assert "answers as a member of cluster bad" in caught.value.hosts["n3"]
    assert {"n1", "n2"} <= set(caught.value.hosts)
    assert all("move their data aside" in seen for seen in caught.value.hosts.values())
    assert not any("sed" in seen for seen in caught.value.hosts.values()), "none of them is known to be right"


def test_a_restored_cluster_has_a_way_back(tmp_path: Path) -> None:
    """A restore gives new ids: refused, with the one command that says they are wanted; then its ids are recorded."""
    want = wish(tmp_path)
    now = deployed(want).observe()
    hosts = {
        name: replace(host, endpoint=replace(host.endpoint, cluster_id=0xDEAD))
        for name, host in now.hosts.items()
        if host.endpoint
    }
    with pytest.raises(Refused) as caught:
        plan(want, replace(now, hosts=hosts))
    marker = now.hosts["n1"].marker
    assert marker
    command = f"`sudo sed -i s/{marker.cluster_id:x}/dead/ {IDENTITY}`"
    assert set(caught.value.hosts) == {"n1", "n2", "n3"}
    assert all(command in seen for seen in caught.value.hosts.values())

    for name, host in hosts.items():
        if host.marker:
            hosts[name] = replace(host, marker=replace(host.marker, cluster_id=0xDEAD))
    refuse_unsafe(want, replace(now, hosts=hosts))


# -- a cluster that has served -----------------------------------------------------------------

SERVED = Formed(0xABC123, datetime(2026, 11, 21, tzinfo=UTC))


def served(want: Wish) -> Wish:
    """The same, with certificates that remember the cluster."""
    return replace(want, generation=replace(want.generation, formed=SERVED))


def test_a_cluster_that_served_never_begins_anew(tmp_path: Path) -> None:
    """All hosts blank: reinstalled, or not mounted. The ways out are named; before it ever served, nothing is."""
    want = wish(tmp_path)
    world = bare(want)
    assert plan(want, world.observe())
    with pytest.raises(Refused) as caught:
        plan(served(want), world.observe())
    assert "cluster abc123, seen serving on 2026-11-21" in caught.value.message
    assert "nothing was changed" in caught.value.message
    assert caught.value.hosts == dict.fromkeys(("n1", "n2", "n3"), "/var/lib/etcd is absent")
    for way in ("mount", "restore", "`destroy --confirm demo`", "move certs/demo aside"):
        assert way in caught.value.hint


def test_nor_beside_data_that_nobody_vouches_for(tmp_path: Path) -> None:
    """One disk is left, its host's marker is gone: the two blank ones would outvote it with an empty log."""
    want = wish(tmp_path)
    world = deployed(want)
    for name in ("n1", "n2", "n3"):
        world.stop(name)
    del world.machines["n1"].paths[MARKER]
    for name in ("n2", "n3"):
        world.machines[name] = Machine(name, world.machines[name].peer)
    with pytest.raises(Refused) as caught:
        plan(served(want), world.observe())
    assert set(caught.value.hosts) == {"n1", "n2", "n3"}
    assert caught.value.hosts["n1"] == "/var/lib/etcd holds a member of nobody knows which cluster"


def test_what_is_remembered_hinders_nothing_else(tmp_path: Path) -> None:
    """A standing cluster, a stopped one, and one without a quorum are planned for as ever."""
    want = wish(tmp_path)
    world = deployed(want)
    assert not plan(served(want), world.observe())
    world.stop("n2")
    assert plan(served(want), world.observe()).changes == 1
    changed = served(wish(tmp_path, settings="heartbeat-interval: 150"))
    assert plan(changed, world.observe())


# -- in the world: what would happen otherwise --------------------------------------------------


def refused(want: Wish, world: World) -> Refused:
    """The refusal; nothing may have been done."""
    before = list(world.done)
    with pytest.raises(Refused) as caught:
        plan(want, world.observe())
    assert world.done == before
    return caught.value


def test_refuses_a_wiped_member(tmp_path: Path) -> None:
    """A member whose data is gone is never started again."""
    want = wish(tmp_path)
    world = deployed(want)
    world.machines["n2"].log = None
    world.stop("n2")
    assert "must be replaced" in refused(want, world).hosts["n2"]


@pytest.mark.parametrize("answers", [True, False])
def test_a_wiped_member_that_runs_must_not_be_restarted(tmp_path: Path, answers: bool) -> None:
    """It serves what it holds open: the refusal says what `status` does."""
    want = wish(tmp_path)
    now = deployed(want).observe()
    host = replace(now.hosts["n2"], data=Data.EMPTY)
    now = replace(
        now, hosts={**now.hosts, "n2": host if answers else replace(host, endpoint=None, members=None)}
    )
    with pytest.raises(Refused) as caught:
        plan(want, now)
    assert caught.value.hosts["n2"].startswith("runs, but /var/lib/etcd is empty: it will not come back")
    assert f"n2 {caught.value.hosts['n2']}" == status(want.cluster, now, {}).advice[0]


def test_refuses_hosts_that_lost_everything(tmp_path: Path) -> None:
    """Two of three hosts reinstalled from scratch must not bootstrap beside the third."""
    want = wish(tmp_path)
    world = deployed(want)
    for name in ("n2", "n3"):
        world.machines[name] = Machine(name, world.machines[name].peer)
    world.settle()
    problem = refused(want, world)
    assert {"n2", "n3"} <= set(problem.hosts)


def test_refuses_a_host_that_was_reinstalled(tmp_path: Path) -> None:
    """Nothing on it says so, but the others list it as a member that was ready once."""
    want = wish(tmp_path)
    world = deployed(want)
    world.machines["n2"] = Machine("n2", world.machines["n2"].peer)
    world.settle()
    assert "must be replaced" in refused(want, world).hosts["n2"]


@pytest.mark.parametrize("fresh", [True, False])
def test_refuses_a_drop_in_that_clears_the_guards(tmp_path: Path, fresh: bool) -> None:
    """Nothing would mark the member, or look at its marker: it could start without its data."""
    want = wish(tmp_path)
    now = (bare(want) if fresh else deployed(want)).observe()
    file = "/etc/systemd/system/etcd.service.d/mine.conf"
    hosts = {**now.hosts, "n2": replace(now.hosts["n2"], emptied=(f"{file}:ExecStartPost=",))}
    with pytest.raises(Refused) as caught:
        plan(want, replace(now, hosts=hosts))
    assert list(caught.value.hosts) == ["n2"]
    assert f"take {file}:ExecStartPost= out of it" in caught.value.hosts["n2"]


@pytest.mark.parametrize("fresh", [True, False])
def test_refuses_a_masked_unit(tmp_path: Path, fresh: bool) -> None:
    """Somebody's deliberate act: it is named, not undone."""
    want = wish(tmp_path)
    now = (bare(want) if fresh else deployed(want)).observe()
    unit = replace(now.hosts["n2"].unit, enabled="masked")
    masked = replace(now, hosts={**now.hosts, "n2": replace(now.hosts["n2"], unit=unit)})
    with pytest.raises(Refused) as caught:
        plan(want, masked)
    assert caught.value.hosts.keys() == {"n2"}
    assert "systemctl unmask etcd" in caught.value.hosts["n2"]


def test_refuses_foreign_data(tmp_path: Path) -> None:
    """A data directory with other files is never touched, and every host is named at once."""
    want = wish(tmp_path)
    world = bare(want)
    world.machines["n1"].foreign = world.machines["n3"].foreign = True
    assert set(refused(want, world).hosts) == {"n1", "n3"}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (Data.TORN, "/var/lib/etcd/member/snap/db has data in it, and its log is gone"),
        (Data.BEGUN, "cut off, and no log, by an etcd that is not ours"),
        (Data.STUCK, "cut off, and nothing in its log, by an etcd that is not ours"),
    ],
)
def test_refuses_what_is_left_of_another_etcd(tmp_path: Path, data: Data, told: str) -> None:
    """A member's database without its log always; a first start that was cut off if its unit is not ours."""
    want = wish(tmp_path)
    now = bare(want).observe()
    left = {**now.hosts, "n2": replace(now.hosts["n2"], data=data)}
    with pytest.raises(Refused) as caught:
        plan(want, replace(now, hosts=left))
    assert told in caught.value.hosts["n2"]
    assert caught.value.hosts.keys() == {"n2"}


@pytest.mark.parametrize("data", [Data.TORN, Data.BEGUN, Data.STUCK])
def test_who_was_a_member_never_begins_anew(tmp_path: Path, data: Data) -> None:
    """Its marker says so, whatever its directory looks like."""
    want = wish(tmp_path)
    now = deployed(want).observe()
    left = {**now.hosts, "n2": replace(now.hosts["n2"], data=data)}
    with pytest.raises(Refused) as caught:
        plan(want, replace(now, hosts=left))
    assert caught.value.hosts.keys() == {"n2"}
    assert HOLDS[data] in caught.value.hosts["n2"]


def test_refuses_data_of_another_etcd(tmp_path: Path) -> None:
    """etcd data without our marker or our unit is not ours."""
    want = wish(tmp_path)
    world = bare(want)
    world.machines["n2"].log = ["somebody's"]
    assert "not ours" in refused(want, world).hosts["n2"]


def test_refuses_another_version(tmp_path: Path) -> None:
    """A version difference is upgrade's task."""
    want = wish(tmp_path)
    world = deployed(want)
    newer = replace(want.cluster, version=replace(want.cluster.version, patch=15))
    assert "upgrade" in refused(replace(want, cluster=newer), world).hosts["n1"]


@pytest.mark.parametrize("change", ["data", "wal", "config", "user"])
def test_refuses_to_move_what_a_member_keeps(tmp_path: Path, change: str) -> None:
    """At a new place a member would be one without its data, and never start again."""
    want = wish(tmp_path)
    world = deployed(want)
    if change == "user":
        moved = replace(want.cluster, user="other")
    else:
        moved = replace(want.cluster, paths=replace(want.cluster.paths, **{change: "/elsewhere"}))
    problem = refused(replace(want, cluster=moved), world)
    assert all(f"{change} is" in seen for seen in problem.hosts.values())


def test_refuses_a_lost_quorum(tmp_path: Path) -> None:
    """Two of three stopped: deploy says what it saw and whose task that is."""
    want = wish(tmp_path)
    world = deployed(want)
    world.stop("n2")
    world.stop("n3")
    problem = refused(want, world)
    assert "lost its quorum" in problem.message
    assert "`start`" in problem.hint
    assert {"n2", "n3"} <= set(problem.hosts)


def test_refuses_when_the_certificates_are_gone_from_the_laptop(tmp_path: Path) -> None:
    """A new CA for a cluster that exists would lock everybody out."""
    want = wish(tmp_path)
    world = deployed(want)
    fresh = Store(tmp_path / "other").prepare(want.cluster, datetime(2026, 11, 21, tzinfo=UTC))
    problem = refused(replace(want, generation=fresh), world)
    assert all("no CA on this laptop" in seen for seen in problem.hosts.values())
    assert all("`certs.restore --from FILE`" in seen for seen in problem.hosts.values())
    assert not any("cluster token" in seen for seen in problem.hosts.values())


def test_a_renamed_cluster_is_told_by_its_old_name_alone(tmp_path: Path) -> None:
    """No folder of the new name was ever there: nobody is sent to look for it."""
    want = wish(tmp_path)
    world = deployed(want)
    fresh = Store(tmp_path / "other").prepare(want.cluster, datetime(2026, 11, 21, tzinfo=UTC))
    renamed = replace(want, cluster=replace(want.cluster, name="renamed"), generation=fresh)
    problem = refused(renamed, world)
    assert all(f"member of the cluster {want.cluster.name}" in seen for seen in problem.hosts.values())
    assert not any("no CA on this laptop" in seen for seen in problem.hosts.values())
