"""What stops a deploy before it begins, beyond what the world of test_deploy shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from etcdctl_remote.errors import Refused, Unreachable
from etcdctl_remote.observed.state import ClusterState, Data
from etcdctl_remote.operations.deploy import plan
from etcdctl_remote.operations.refusals import refuse_unsafe, refuse_unseen
from tests.unit.operations.test_deploy import bare, deployed, wish


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
    hosts["n3"] = replace(hosts["n3"], unit=replace(hosts["n3"].unit, program="/opt/etcd/v3.5.33/etcd"))
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
