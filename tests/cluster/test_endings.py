"""How tasks end: with which code, what is said, and what is left as it was."""

from __future__ import annotations

import json
import re
import time

import pytest

from etcdctl_remote.lab import faults
from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, each

from . import drive, terminal

pytestmark = pytest.mark.cluster


def test_every_failure_with_json_is_one_document(lab3: Lab) -> None:
    """What was seen, the way out, the hosts; nothing else on standard output."""
    bad = lab3.state / "bad.yaml"
    bad.write_text("cluster: x\nversion: 3.10\nnodes: {}\nsetings: {}\n", encoding="utf-8")
    absent = lab3.state / "absent.yaml"
    tasks = ("plan", "deploy", "health", "status", "check", "start", "stop", "destroy")
    for task, path in [*((task, bad) for task in tasks), ("deploy", absent), ("audit", absent)]:
        done = drive.run(lab3, task, "-o", "json", inventory=path)
        assert done.code == 2, done
        assert done.json().keys() == drive.ERROR
        assert str(path) in json.dumps(done.json())
        assert done.err.strip(), "a person reads standard error"
    every = drive.run(lab3, "plan", inventory=bad)
    assert every.out == ""
    assert len(re.findall(rf"{re.escape(str(bad))}:\d+:\d+", every.err)) >= 3, "all mistakes at once"
    drive.deploy(lab3)
    for words in (["stop"], ["destroy"], ["destroy", "--confirm", "other"]):
        done = drive.run(lab3, *words, "-o", "json")
        assert done.code == 2, done
        assert done.json().keys() == drive.ERROR


def test_wrong_usage_ends_with_two(lab3: Lab) -> None:
    """Unknown flags, unknown tasks, values that are flags, formats nobody knows."""
    for words in (
        ["deploy", "--no-such-flag"],
        ["no-such-task"],
        ["status", "--output", "yaml"],
        ["etcdctl", "--node", "--yes", "-c", "version"],
        ["status", "extra"],
    ):
        done = drive.run(lab3, *words)
        assert (done.code, done.out) == (2, ""), done
        assert done.err.strip()
        assert "Traceback" not in done.err
    before = drive.all_files(lab3)
    helped = drive.run(lab3, "deploy", "--help")
    assert helped.code == 0
    assert "--dry-run" in helped.out
    assert not drive.differences(before, drive.all_files(lab3))


def test_without_a_yes_and_without_a_terminal_nothing_is_deployed(lab3: Lab) -> None:
    """The plan is shown, the way to agree is named, and no certificate is made."""
    before, here = drive.all_files(lab3), set(drive.folder(lab3.state))
    done = drive.run(lab3, "deploy")
    assert done.code == 2
    assert "start etcd" in done.err
    assert "--yes" in done.err
    assert not drive.differences(before, drive.all_files(lab3))
    assert set(drive.folder(lab3.state)) - here == {str(lab3.state / "inventory.journal.jsonl")}


def test_one_host_of_three_down_starts_nothing_anywhere(lab3: Lab) -> None:
    """Exit 3 names it; those that answer are as they were, and the next run deploys all three."""
    before = drive.all_files(lab3)
    drive.impatient(lab3)
    faults.power_off(lab3.nodes[2])
    here = set(drive.folder(lab3.state))
    for words in (["deploy", "-y", "-o", "json"], ["plan", "-o", "json"]):
        done = drive.run(lab3, *words)
        assert done.code == 3, done
        assert done.json().keys() == drive.ERROR
        assert done.json()["hosts"].keys() == {"n3"}
        assert len(re.findall("^error: n3: cannot connect|^  n3: ", done.err, re.M)) == 1, done
    faults.power_on(lab3.nodes[2])
    after = drive.all_files(lab3)
    assert not {path for path in drive.changed(before, after) if not path.startswith("n3:")}
    assert not [path for path in after if "etcd.service" in path or "/opt/etcd" in path]
    assert set(drive.folder(lab3.state)) - here == {str(lab3.state / "inventory.journal.jsonl")}
    drive.deploy(lab3)
    drive.must(lab3, "health")


def test_looking_goes_on_without_a_host(lab3: Lab) -> None:
    """Health and status show what can be seen, and count the lost host as lost."""
    drive.deploy(lab3)
    drive.impatient(lab3)
    faults.power_off(lab3.nodes[2])
    sick = drive.run(lab3, "health", "-o", "json")
    assert sick.code == 1
    assert [e["healthy"] for e in sick.json()["endpoints"]] == [True, True, False]
    found = drive.document(lab3, "status")
    assert found["tolerates"] == 0
    assert [m["node"] for m in found["members"]] == ["n1", "n2", "n3"]
    assert found["members"][2]["role"] == "unreachable"
    assert drive.must(lab3, "etcdctl", "-c", "put a b").out == "OK\n"
    assert drive.run(lab3, "etcdctl", "-c", "get a", "--node", "n3").code == 3
    done = drive.run(lab3, "deploy", "-y", "-o", "json")
    assert done.code == 3, done
    assert done.json().keys() == drive.ERROR
    faults.power_on(lab3.nodes[2])
    drive.settle_nothing(lab3)


def test_no_host_at_all(lab3: Lab) -> None:
    """Exit 3 for every task that needs one."""
    drive.impatient(lab3)
    each(lab3.nodes, faults.power_off)
    for task in ("health", "status", "plan"):
        done = drive.run(lab3, task, "-o", "json")
        assert done.code == 3, done
        assert done.json().keys() == drive.ERROR
        assert done.json()["hosts"].keys() == {"n1", "n2", "n3"}


def interrupted_at_the_question(lab: Lab) -> None:
    """Press Ctrl-C where a person is asked, and one of the hosts that are locked has frozen."""
    pressed = 0.0

    def ctrl_c() -> str:
        nonlocal pressed
        execute(lab.nodes[1], "pkill -STOP sshd")
        pressed = time.monotonic()
        return "\x03"

    done = terminal.run(lab, "deploy", answers=[(r"\[y/N\]", ctrl_c)], program=drive.FIRST)
    took = time.monotonic() - pressed
    execute(lab.nodes[1], "pkill -CONT sshd")
    assert (done.code, took < 1) == (130, True), (took, done)
    assert "Traceback" not in done.out


def test_ctrl_c_ends_a_deploy_at_once_and_the_next_run_goes_on(lab3: Lab) -> None:
    """While it asks, connects, sends, starts: within a second, with 130, in the journal as interrupted."""
    moments = (
        ("start", ""),
        ("step", "create"),
        ("step", "install"),
        ("done", "install"),
        ("step", "start etcd"),
    )
    interrupted_at_the_question(lab3)
    for number, (event, text) in enumerate(moments, 1):
        process = drive.start(lab3, "deploy", "-y", program=drive.FIRST)
        drive.await_event(lab3, process, event, text, runs=number)
        done = drive.interrupt(process)
        assert done.code == 130, (event, text, done)
        assert done.seconds < 1, (event, text, done)
        assert "Traceback" not in done.err
        assert drive.document(lab3, "audit")["runs"][-1]["outcome"] == "interrupted"
    drive.deploy(lab3)
    drive.settle_nothing(lab3)
    assert drive.leftovers(lab3) == []
    drive.must(lab3, "health")
