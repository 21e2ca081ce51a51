"""All members start, stop and go, and their data stays."""

from __future__ import annotations

import re

import pytest

from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, each

from . import drive

pytestmark = pytest.mark.cluster


def active(lab: Lab) -> list[str]:
    """Return what systemd says of etcd on each node."""
    return each(lab.nodes, lambda node: execute(node, "systemctl is-active etcd || true").strip())


def test_stop_and_start(lab3: Lab) -> None:
    """Stop says what stops working and insists on a yes; nothing is lost, and start brings it back."""
    drive.deploy(lab3)
    drive.put(lab3.nodes[0], "kept", "yes")
    refused = drive.run(lab3, "stop")
    assert refused.code == 2
    assert "every client" in refused.err
    assert "--yes" in refused.err
    assert active(lab3) == ["active"] * 3

    assert drive.must(lab3, "stop", "--yes", "-o", "json").json()["changes"] == 3
    assert active(lab3) == ["inactive"] * 3
    assert "nothing to do" in drive.must(lab3, "stop", "-y").out
    sick = drive.run(lab3, "health", "-o", "json")
    assert sick.code == 1
    assert sick.json()["healthy"] is False
    assert [e["healthy"] for e in sick.json()["endpoints"]] == [False] * 3
    assert all(e["error"] for e in sick.json()["endpoints"])
    down = drive.document(lab3, "status")
    assert (down["tolerates"], down["leader"]) == (-1, None)
    done = drive.fails(lab3, 4, "has lost its quorum; nothing was changed", "→ `start`")
    for node in lab3.nodes:
        drive.tells(done, f"{node.name}:", "inactive")
    assert active(lab3) == ["inactive"] * 3

    drive.must(lab3, "start", "-y")
    assert active(lab3) == ["active"] * 3
    assert drive.get(lab3.nodes[2], "kept") == "yes"
    assert "nothing to do" in drive.must(lab3, "start", "-y").out
    drive.settle_nothing(lab3)


def test_one_member_down_is_told_and_started_again(lab3: Lab) -> None:
    """Health ends with 1 and names it, status counts what may still be lost, deploy starts it."""
    drive.deploy(lab3)
    execute(lab3.nodes[1], "systemctl stop etcd")
    sick = drive.run(lab3, "health")
    assert sick.code == 1
    lines = sick.out.splitlines()
    assert [" is healthy: " in line for line in lines] == [True, False, True]
    assert lines[1].startswith(
        f"https://{lab3.nodes[1].address}:2379 is unhealthy: failed to commit proposal: "
    )
    assert drive.document(lab3, "status")["tolerates"] == 0
    plan = drive.run(lab3, "plan", "-o", "json")
    assert plan.code == 5
    steps = [(step["host"], step["step"]) for stage in plan.json()["stages"] for step in stage["steps"]]
    assert steps == [("n2", "start etcd")]
    drive.deploy(lab3)
    assert drive.document(lab3, "status")["tolerates"] == 1


def test_destroy_needs_the_clusters_name(lab3: Lab) -> None:
    """--yes is not enough, another name is not, no terminal is not: nothing is touched."""
    drive.deploy(lab3)
    with drive.untouched(lab3, "/var/lib/etcd/"):
        for words in (["destroy"], ["destroy", "-y"], ["destroy", "-y", "--confirm", "other"]):
            done = drive.run(lab3, *words)
            assert done.code == 2, done
            assert f"--confirm {lab3.name}" in done.err


def test_destroy_takes_away_what_deploy_brought_and_keeps_the_data(lab3: Lab) -> None:
    """What is left is the data under a dated name; a new cluster can be deployed in its place."""
    fresh = drive.all_files(lab3)
    drive.deploy(lab3)
    drop_in = "/etc/systemd/system/etcd.service.d/10-op.conf"
    execute(lab3.nodes[0], 'mkdir -p "${1%/*}"; echo "[Service]" >"$1"', drop_in)
    first = drive.document(lab3, "status")["cluster_id"]
    drive.put(lab3.nodes[0], "treasure", "buried-in-the-old-cluster")

    drive.must(lab3, "destroy", "--confirm", lab3.name)
    after = drive.all_files(lab3)
    came = {path.partition(":")[2] for path in drive.changed(fresh, after) if path in after}
    aside = {path for path in came if re.match(r"/var/lib/etcd\.\d{8}T\d{6}(/|$)", path)}
    assert len({path.split("/")[3] for path in aside}) == 1
    accounts = {f"/etc/{name}{end}" for name in ("passwd", "group", "shadow", "gshadow") for end in ("", "-")}
    folders = {"/etc", "/opt", "/opt/etcd", "/etc/etcd", "/usr/local/bin", "/etc/systemd/system", "/var/lib"}
    folders |= {"/etc/systemd/system/multi-user.target.wants", "/etc/.pwd.lock"}
    folders |= {"/etc/subuid", "/etc/subgid", "/etc/subuid-", "/etc/subgid-"}
    assert came - aside - accounts - folders == {drop_in, drop_in.rpartition("/")[0]}
    assert not {path for path in after if "/opt/etcd/" in path or "/etc/etcd/" in path}
    assert not drive.changed(fresh, after) - after.keys(), "something was removed that deploy did not bring"
    for node in lab3.nodes:
        assert execute(node, "systemctl show -P LoadState etcd.service").strip() == "not-found"
        assert execute(node, "pgrep -x etcd || true") == ""
        found = execute(node, "grep -l buried-in-the-old-cluster -r /var/lib/etcd.*/member")
        assert found, f"{node.name}: the key is not in the data that was kept"
    assert "nothing to do" in drive.must(lab3, "destroy", "--confirm", lab3.name).out

    drive.deploy(lab3)
    second = drive.document(lab3, "status")["cluster_id"]
    assert second != first
    assert drive.get(lab3.nodes[1], "treasure") == ""
    drive.put(lab3.nodes[1], "a", "b")
    kept = each(lab3.nodes, lambda node: execute(node, "ls -d /var/lib/etcd.*"))
    assert all(len(folders.split()) == 1 for folders in kept)

    drive.must(lab3, "destroy", "-y", "--confirm", lab3.name, "--delete-data", "-o", "json")
    assert each(lab3.nodes, lambda node: execute(node, "ls -d /var/lib/etcd*")) == kept
