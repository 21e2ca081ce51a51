"""Later changes: one member at a time, the leader last, and nobody loses a write."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from itertools import pairwise

import pytest

from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab

from . import drive
from .killing import last_plan, restarts_in
from .traffic import traffic

pytestmark = pytest.mark.cluster

DROPIN = "/etc/systemd/system/etcd.service.d/10-op.conf"


@dataclass(frozen=True, order=True)
class Outage:
    """When a member was not there, in microseconds of the one clock all nodes share."""

    gone: int
    back: int
    node: str


def outages(lab: Lab, since: float) -> list[Outage]:
    """Read from each node's journal when systemd stopped etcd and when it was ready again."""
    found = []
    for node in lab.nodes:
        text = execute(node, "journalctl --sync; journalctl -q -u etcd.service _PID=1 -o json --no-pager")
        entries = [json.loads(line) for line in text.splitlines()]
        told = [(int(entry["__REALTIME_TIMESTAMP"]), entry["MESSAGE"].split()[0]) for entry in entries]
        gone = [at for at, word in told if word == "Stopping" and at > since * 1e6]
        back = [at for at, word in told if word == "Started" and at > since * 1e6]
        assert len(gone) == len(back) == 1, told
        found.append(Outage(gone[0], back[0], node.name))
    return sorted(found)


def planned_restarts(lab: Lab, diff: str) -> list[str]:
    """Return in which order a plan restarts members, each with that line in its diff."""
    plan = drive.run(lab, "plan", "-o", "json")
    assert plan.code == 5
    stages = [stage["steps"] for stage in plan.json()["stages"]]
    restarts = restarts_in(plan.json()["stages"])
    for host in restarts:
        lines = [
            line
            for steps in stages
            for step in steps
            if step["host"] == host
            for line in step["diff"].splitlines()
        ]
        assert diff in lines
    return restarts


def went_one_by_one(lab: Lab, since: float) -> None:
    """Assert that the last plan's restarts happened in its order, no two members down at once."""
    gone = outages(lab, since)
    assert [outage.node for outage in gone] == restarts_in(last_plan(lab))
    for one, other in pairwise(gone):
        assert one.back <= other.gone, "two members were down at once"


def test_a_setting_is_changed_one_member_at_a_time(lab3: Lab) -> None:
    """The plan tells who restarts and in which order; the deploy does just that, under load.

    The cluster's settings, those of one node over them, and an option of the unit.
    """
    drive.deploy(lab3)
    two = lab3.nodes[1]
    drive.edit(lab3, settings="{heartbeat-interval: 150}", service="{LimitCORE: 4096}")
    drive.edit_node(lab3, "n2", f"{{address: {two.address}, settings: {{snapshot-count: 7777}}}}")

    def plans() -> tuple[list[str], str]:
        return planned_restarts(lab3, "+  --heartbeat-interval=150 \\"), drive.run(lab3, "plan").out

    leader, (restarts, text) = drive.in_one_term(lab3, plans)
    assert sorted(restarts) == ["n1", "n2", "n3"]
    assert restarts[-1] == leader
    assert [text.index(f"Restart {host}") for host in restarts] == sorted(
        text.index(f"Restart {host}") for host in restarts
    )

    before, starts, since = drive.pids(lab3), drive.started(lab3), time.time()
    with traffic(lab3, lab3.nodes[0]) as seen:
        drive.deploy(lab3)
    after = drive.pids(lab3)
    assert all(after[name] not in (0, before[name]) for name in before)
    assert drive.started(lab3) == {name: count + 1 for name, count in starts.items()}
    went_one_by_one(lab3, since)
    assert seen.acknowledged > 10
    assert seen.longest_gap < 10
    for node in lab3.nodes:
        line = execute(node, 'tr "\\0" "\\n" </proc/$(systemctl show -P MainPID etcd)/cmdline')
        assert "--heartbeat-interval=150" in line.splitlines()
        assert ("--snapshot-count=7777" in line.splitlines()) == (node == two)
        limits = execute(node, 'grep "core file" "/proc/$(systemctl show -P MainPID etcd)/limits"')
        assert limits.split()[4] == "4096"

    assert "nothing to do" in drive.deploy(lab3).out
    drive.edit(lab3, service="{MemoryMax: lots, Foo: 1}")
    with drive.untouched(lab3, "/var/lib/etcd"):
        done = drive.fails(lab3, 4, "mend it under `service`", "nothing was changed")
    for node in lab3.nodes:
        drive.tells(
            done,
            f"{node.name}: unit: systemd would ignore",
            "Invalid memory limit 'lots'",
            "Unknown key 'Foo'",
        )
    assert drive.pids(lab3) == after


def test_flags_that_were_edited_by_hand_are_undone_one_member_at_a_time(lab3: Lab) -> None:
    """The old process has our digest too, and must not pass for the restarted one."""
    drive.deploy(lab3)
    for node in lab3.nodes:
        execute(node, "sed -i s/--pre-vote=true/--pre-vote=false/ /etc/systemd/system/etcd.service")
        execute(node, "systemctl daemon-reload; systemctl restart etcd")
    drive.must(lab3, "health")
    since = time.time()
    with traffic(lab3, lab3.nodes[0]) as seen:
        drive.deploy(lab3)
    went_one_by_one(lab3, since)
    assert seen.acknowledged > 10
    assert "nothing to do" in drive.deploy(lab3).out


def test_an_operators_drop_in_is_left_alone_and_takes_effect(lab3: Lab) -> None:
    """Byte for byte; it leads to one restart of the member it is for, and to no further change."""
    drive.deploy(lab3)
    content = "# mine, with  odd\tblanks\n[Service]\nEnvironment=FOO=1\nLimitCORE=4096\n\n"
    script = 'mkdir -p "${1%/*}" && printf %s "$2" >"$1" && chmod 0604 "$1" && systemctl daemon-reload'
    for node in lab3.nodes[:2]:
        execute(node, script, DROPIN, content)
    drop_ins = {p: line for p, line in drive.all_files(lab3).items() if p.endswith(DROPIN)}
    assert len(drop_ins) == 2

    before = drive.pids(lab3)
    with traffic(lab3, lab3.nodes[2]):
        done = drive.deploy(lab3)
    for name in ("n1", "n2"):
        drive.tells(done, f"{name} restarts because its drop-ins changed", DROPIN)
    after = drive.pids(lab3)
    assert (after["n1"] != before["n1"], after["n2"] != before["n2"]) == (True, True)
    assert after["n3"] == before["n3"], "a member without the drop-in was restarted"
    assert {p: line for p, line in drive.all_files(lab3).items() if p.endswith(DROPIN)} == drop_ins
    limits = execute(lab3.nodes[0], 'grep "core file" "/proc/$(systemctl show -P MainPID etcd)/limits"')
    assert limits.split()[4] == "4096"
    assert "nothing to do" in drive.deploy(lab3).out
    assert drive.pids(lab3) == after

    execute(lab3.nodes[0], 'rm -r "${1%/*}"; systemctl daemon-reload', DROPIN)
    drive.deploy(lab3)
    assert drive.pids(lab3)["n1"] != after["n1"], "a drop-in that was taken away still works"
    assert drive.pids(lab3)["n2"] == after["n2"]
    drive.settle_nothing(lab3)

    execute(lab3.nodes[0], script, DROPIN, "[Service]\nExecStartPost=\n")
    assert execute(lab3.nodes[0], "systemctl show -P ExecStartPost etcd").strip() == ""
    drive.fails(lab3, 4, "n1: ", f"{DROPIN}:ExecStartPost=")


def test_the_first_member_alone_warns_before_it_restarts(lab_factory: drive.Factory) -> None:
    """A cluster of one has nobody to take over: the plan says that it stops answering meanwhile."""
    lab = lab_factory(1)
    drive.deploy(lab)
    drive.put(lab.nodes[0], "a", "b")
    drive.edit(lab, settings="{heartbeat-interval: 150}")
    assert "stops answering" in drive.run(lab, "plan").out
    before = drive.pids(lab)
    drive.deploy(lab)
    assert drive.pids(lab) != before
    assert drive.get(lab.nodes[0], "a") == "b"
    drive.settle_nothing(lab)
