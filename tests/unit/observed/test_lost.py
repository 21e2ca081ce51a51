"""Members that run and give no answer: who must be restarted by hand, and who must not."""

from __future__ import annotations

from dataclasses import replace

from etcdctl_remote.observed.lost import silence
from etcdctl_remote.observed.report import status
from etcdctl_remote.observed.state import ClusterState, UnitState
from tests.unit.observed.test_report import HANGS, cluster, healthy, installed

GONE = ("/usr/local/bin/etcd", "/usr/local/bin/etcdctl", "/etc/etcd/pki/current/ca.crt")
PUT_BACK = "/usr/local/bin/etcd, /usr/local/bin/etcdctl and 1 more are gone"


def test_without_its_programs_a_member_must_not_be_restarted() -> None:
    """It serves on, only we cannot ask it; `deploy` puts them back."""
    now = ClusterState({**healthy(), "n3": replace(HANGS, missing=GONE)})
    told = silence(now, "n3")
    assert told == (
        f"runs and cannot be asked: {PUT_BACK}; do not restart it, it would not come back: `deploy` puts back "
        "what is missing"
    )
    assert f"n3 {told}" in status(cluster(), now, {}).advice
    alone = ClusterState(
        {**{name: installed(name) for name in ("n1", "n2")}, "n3": replace(HANGS, missing=GONE)}
    )
    assert f"n3 {silence(alone, 'n3')}" in status(cluster(), alone, {}).advice


def test_a_member_that_is_down_without_its_programs_is_deploys() -> None:
    """`start` could not start it."""
    now = ClusterState({**healthy(), "n3": installed("n3", missing=GONE[:1])})
    assert status(cluster(), now, {}).advice == (
        "n3 is down, and would not start: /usr/local/bin/etcd is gone; `deploy` puts back what is missing",
    )


def test_a_member_that_still_starts_is_not_begun_anew() -> None:
    """Loading a large database takes minutes; a restart would begin again."""
    loading = replace(HANGS, unit=UnitState("activating", "start", pid=7), endpoint_error="")
    told = silence(ClusterState({**healthy(), "n3": loading}), "n3")
    assert "has been started and is not ready" in told
    assert "do not restart it" in told
    assert "systemctl restart" not in told
