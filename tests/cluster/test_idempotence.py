"""Looking changes nothing, and deploying what is there already changes nothing either."""

from __future__ import annotations

import time

import pytest

from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, each

from . import drive

pytestmark = pytest.mark.cluster


def test_planning_a_first_deploy_touches_nothing(lab3: Lab) -> None:
    """No file comes, goes or changes, on the nodes or beside the inventory: no certificate is made."""
    nodes, here = drive.all_files(lab3), drive.folder(lab3.state)
    text = drive.run(lab3, "plan")
    found = drive.run(lab3, "plan", "-o", "json")
    dry = drive.run(lab3, "deploy", "--dry-run", "-o", "json")
    in_checkout = drive.run(lab3, "deploy", "-n", program=drive.INVOKE)
    assert (text.code, found.code, dry.code, in_checkout.code) == (5, 5, 0, 0), text
    assert not drive.differences(nodes, drive.all_files(lab3))
    assert not drive.differences(here, drive.folder(lab3.state))

    plan = found.json()
    steps = [step for stage in plan["stages"] for step in stage["steps"]]
    assert plan["changes"] == len(steps) == dry.json()["changes"] > 0
    assert {step["host"] for step in steps} == {"n1", "n2", "n3"}
    assert all(step.keys() == {"host", "step", "diff"} for step in steps)
    unit = next(step["diff"] for step in steps if "etcd.service" in step["step"])
    assert "+Type=notify" in unit
    assert "--initial-cluster-state=new" in unit
    assert "PRIVATE KEY" not in found.out + text.out
    for word in ("install etcd 3.6.14", "start etcd", "+Type=notify"):
        assert word in text.out
        assert word in in_checkout.out


def test_looking_at_a_running_cluster_touches_nothing(lab3: Lab) -> None:
    """Every task that only looks leaves the nodes as they are, to the time of change of each file."""
    drive.deploy(lab3)
    drive.put(lab3.nodes[0], "a", "b")
    term = drive.document(lab3, "status")["members"][0]["raft_term"]
    nodes, here, running = at_rest(lab3), drive.folder(lab3.state), drive.pids(lab3)
    for words in (
        ["plan"],
        ["plan", "-o", "json"],
        ["deploy", "-n"],
        ["status"],
        ["logs"],
        ["audit"],
        ["stop", "-n"],
        ["start", "-n"],
        ["destroy", "-n"],
    ):
        drive.must(lab3, *words)
    after = drive.all_files(lab3)
    if drive.document(lab3, "status")["members"][0]["raft_term"] != term:
        # A machine that is very busy has made them elect anew: that is in their logs.
        nodes, after = without_data(nodes), without_data(after)
    assert not drive.differences(nodes, after)

    # `etcdctl endpoint health` lists the alarms, and that goes through the log of raft.
    drive.must(lab3, "health")
    assert not drive.differences(without_data(nodes), without_data(drive.all_files(lab3)))
    assert not drive.differences(here, drive.folder(lab3.state))
    assert drive.pids(lab3) == running


def at_rest(lab: Lab) -> dict[str, str]:
    """Take down all files once etcd has nothing left to write of what it was told.

    Seconds after the first start each member still notes its storage's version.
    """
    noted = 'until etcdctl.sh endpoint status -w json | grep -q \'"storageVersion":"3\'; do sleep 0.2; done'
    each(lab.nodes, lambda node: execute(node, noted))
    deadline = time.monotonic() + 60
    before, now = {"": ""}, drive.all_files(lab)
    while drive.changed(before, now):
        assert time.monotonic() < deadline, drive.differences(before, now)
        time.sleep(0.5)
        before, now = now, drive.all_files(lab)
    return now


def without_data(listing: dict[str, str]) -> dict[str, str]:
    """Leave out what etcd itself writes."""
    return {path: line for path, line in listing.items() if "/var/lib/etcd/" not in path}


def test_deploying_twice_is_deploying_once(lab3: Lab) -> None:
    """Same files, same processes, same certificates; only the journal knows of the second run."""
    first = drive.deploy(lab3)
    assert "every member serves" in first.out
    nodes, here = without_data(drive.all_files(lab3)), drive.folder(lab3.state)
    running, serials = drive.pids(lab3), drive.certificates(lab3)
    again = drive.must(lab3, "deploy", "-y", "-o", "json")
    assert again.json()["changes"] == 0
    assert "nothing to do" in drive.must(lab3, "deploy", "-y", program=drive.INVOKE).out
    assert not drive.differences(nodes, without_data(drive.all_files(lab3)))
    assert drive.changed(here, drive.folder(lab3.state)) == {str(lab3.state / "inventory.journal.jsonl")}
    assert drive.pids(lab3) == running
    assert drive.certificates(lab3) == serials
    assert drive.document(lab3, "plan")["changes"] == 0


def test_what_was_spoiled_is_mended_without_a_restart(lab3: Lab) -> None:
    """A wrong mode, a missing file, a changed script, a disabled unit: planned, mended, nothing else."""
    drive.deploy(lab3)
    before, running = drive.all_files(lab3), drive.pids(lab3)
    one, two, three = lab3.nodes
    # Not the owner of the data directory: etcd, which lists its log every 30 s, would end by itself.
    execute(one, "chmod 0644 /etc/etcd/pki/current/server.key; chown ops /etc/etcd/pki/current/server.crt")
    execute(one, "chgrp ops /var/lib/etcd")
    execute(two, "rm /etc/etcd/etcdctl.env; echo broken >/usr/local/bin/etcdctl.sh")
    execute(three, "systemctl disable --quiet etcd; rm /usr/local/bin/etcdctl")
    done = drive.run(lab3, "plan", "-o", "json")
    assert done.code == 5
    steps = [(step["host"], step["step"]) for stage in done.json()["stages"] for step in stage["steps"]]
    assert {host for host, _ in steps} == {"n1", "n2", "n3"}
    assert not [step for _, step in steps if "start" in step]
    drive.deploy(lab3)
    assert _without_times(drive.all_files(lab3)) == _without_times(before)
    assert drive.pids(lab3) == running
    drive.settle_nothing(lab3)


def _without_times(listing: dict[str, str]) -> dict[str, str]:
    """Leave out when a path was written: mending writes it anew."""
    return {
        path: " ".join(word for number, word in enumerate(line.split(" ")) if number != 3)
        for path, line in without_data(listing).items()
    }
