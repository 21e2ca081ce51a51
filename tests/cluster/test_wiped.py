"""Members whose data is gone: nobody ever makes an empty history out of them, or one that forgot its votes."""

from __future__ import annotations

import shutil

import pytest

from etcdctl_remote.errors import Failed
from etcdctl_remote.lab import faults
from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, Node, each

from . import drive
from .killing import killed_once_all_did, last_run

pytestmark = pytest.mark.cluster

DATA = "/var/lib/etcd"
REINSTALL = """systemctl stop etcd; systemctl disable -q etcd
rm -rf /etc/etcd /opt/etcd /var/lib/etcd /etc/systemd/system/etcd.service /usr/local/bin/etcd*
systemctl daemon-reload; userdel etcd"""


def test_members_that_lost_their_data_are_never_started(lab3: Lab) -> None:
    """Not by hand, at boot, by `start` or by `deploy`, nor stopped while one serves on without; no key is lost."""
    first, second, third = lab3.nodes
    drive.deploy(lab3)
    drive.put(first, "precious", "kept")
    execute(second, f"rm {DATA}/member/wal/*.wal")
    with drive.untouched(lab3, f"n[123]:{DATA}/"):
        done = drive.fails(lab3, 4, "stopped, n2 would not start again; nothing was changed", task="stop")
        drive.tells(done, "n2: runs, but", DATA)
        drive.tells(drive.fails(lab3, 4), "n2: runs, but", "do not restart it", "replace it now")
    _wipe(second)
    _refused_by_hand(second)
    execute(second, "rm /etc/etcd/identity")
    _refused_by_hand(second)
    faults.reboot(second)
    assert _state(second) in ("inactive", "failed")
    with drive.untouched(lab3, f"n[13]:{DATA}/"):
        done = drive.fails(lab3, 4, "nothing was changed")
        drive.tells(done, "n2:", DATA, "empty", "replace-node")
        done = drive.fails(lab3, 1, task="start")
        assert "nothing was started; left out: n2" in done.out
        drive.tells(done, "n2 is not started:", f"{DATA} is empty", "replaced, never started")
    assert [drive.get(node, "precious") for node in (first, third)] == ["kept", "kept"]
    drive.put(third, "precious", "written without n2")

    _wipe(third)
    with drive.untouched(lab3, f"n1:{DATA}/"):
        done = drive.fails(lab3, 4, "nothing was changed")
        drive.tells(done, "n3:", "was member", DATA, "replace-node")
        done = drive.fails(lab3, 4, "only 1 of 3 members", "that is no quorum", task="start")
        for name in ("n2", "n3"):
            drive.tells(done, f"{name}:", f"{DATA} is empty", "replaced, never started")
    for node in (second, third):
        _refused_by_hand(node)

    each([second, third], lambda node: execute(node, REINSTALL))
    with drive.untouched(lab3, f"n1:{DATA}/"):
        drive.fails(lab3, 4, "lost its quorum", "nothing was changed")
    assert drive.document(lab3, "status")["tolerates"] == -1
    assert "member" in execute(first, 'ls "$1"', DATA)


def test_a_reinstalled_host_does_not_come_back_as_the_member_it_was(lab3: Lab) -> None:
    """Nothing on it tells that it ever was one; the others do. It has forgotten its votes."""
    first, second, third = lab3.nodes
    drive.deploy(lab3)
    drive.put(first, "precious", "kept")
    execute(second, REINSTALL)
    with drive.untouched(lab3, f"n[13]:{DATA}/"):
        done = drive.fails(lab3, 4, "nothing was changed")
        drive.tells(done, "n2:", "replace-node")
    assert drive.get(third, "precious") == "kept"


def test_killed_right_after_the_first_start_a_member_is_guarded_too(lab3: Lab) -> None:
    """The tool recorded nothing yet: systemd did, the moment etcd was ready."""
    second = lab3.node("n2")
    _deploy_killed_after_start(lab3)
    for node in lab3.nodes:
        assert "--initial-cluster-state=new" in execute(node, "cat /etc/systemd/system/etcd.service")
    _wipe(second)
    _refused_by_hand(second)
    with drive.untouched(lab3, f"n[13]:{DATA}/"):
        done = drive.fails(lab3, 4, "nothing was changed")
        drive.tells(done, "n2:", "was member", "replace-node")
    drive.put(lab3.node("n1"), "still", "served")


def test_a_cluster_that_served_is_never_begun_anew_unasked(lab3: Lab) -> None:
    """All hosts reinstalled: what never served may begin; what did is refused, until it is destroyed."""
    process = drive.start(lab3, "deploy", "-y")
    drive.await_event(lab3, process, "step", "install etcd")
    process.kill()
    assert drive.finish(process).code == -9
    faults.reset(lab3)
    drive.deploy(lab3)
    memory = lab3.state / "certs" / lab3.name / "formed"
    shutil.rmtree(memory)  # as if killed when the cluster served and nothing was noted yet
    drive.settle_nothing(lab3)
    assert not memory.exists(), "a plan changes nothing, on the laptop neither"
    assert "nothing to do" in drive.deploy(lab3).out
    first = drive.document(lab3, "status")["cluster_id"]

    faults.reset(lab3)
    advice = drive.document(lab3, "status")["advice"]
    assert len(advice) == 1, advice
    assert f"cluster {first}, seen serving on" in advice[0]
    assert "All hosts are blank" in advice[0]
    for task in ("deploy", "plan"):
        laptop = drive.folder(lab3.state / "certs")
        with drive.untouched(lab3):
            done = drive.fails(lab3, 4, f"cluster {first}, seen serving on", "nothing was changed", task=task)
        for word in ("n1:", "n2:", "n3:"):
            drive.tells(done, word, f"{DATA} is absent")
        drive.tells(done, "mount", "restore", f"destroy --confirm {lab3.name}")
        assert drive.folder(lab3.state / "certs") == laptop
    assert f"forgets it (cluster {first}" in drive.must(lab3, "destroy", "--confirm", lab3.name).err
    drive.deploy(lab3)
    assert drive.document(lab3, "status")["cluster_id"] != first


def test_a_second_inventory_with_the_same_cluster_name(lab3: Lab) -> None:
    """In one folder they would share CAs and token: its hosts get nothing, and are not taken for ours."""
    first, second, third = lab3.nodes
    text, other = lab3.inventory.read_text(), lab3.inventory.with_name("other.yaml")
    one, *two = (f"  {node.name}: {node.address}\n" for node in lab3.nodes)
    other.write_text(text.replace(one, ""))
    lab3.inventory.write_text(text.replace("".join(two), ""))
    drive.deploy(lab3)
    laptop = drive.folder(lab3.state / "certs")
    with drive.untouched(lab3, f"n1:{DATA}/"):
        for words in (
            ["deploy", "-y"],
            ["plan"],
            ["start", "-y"],
            ["stop", "-y"],
            ["destroy", "--confirm", lab3.name],
        ):
            done = drive.run(lab3, *words, inventory=other)
            assert done.code == 4, done
            drive.tells(done, f"certs/{lab3.name}", first.address, str(other), second.address, third.address)
            drive.tells(done, "another `cluster:` name")
    assert not drive.changed(laptop, drive.folder(lab3.state / "certs"))
    drive.settle_nothing(lab3)


def _deploy_killed_after_start(lab: Lab) -> None:
    """Kill the tool once all are asked to start; they become ready without it."""
    killed_once_all_did(lab, "start etcd")
    events = [entry["event"] for entry in last_run(lab)]
    assert events.count("stage") == 2, "killed too late to prove anything"
    assert not (lab.state / "certs" / lab.name / "formed").exists(), "the tool has seen it serve"
    ready = "until [ -L /etc/etcd/member ] && systemctl is-active -q etcd; do sleep 0.1; done"
    each(lab.nodes, lambda node: execute(node, f'timeout 60 sh -c "{ready}"'))


def _wipe(node: Node) -> None:
    execute(node, 'systemctl stop etcd && find "$1" -mindepth 1 -delete', DATA)


def _refused_by_hand(node: Node) -> None:
    with pytest.raises(Failed, match="Assertion failed"):
        execute(node, "systemctl start etcd")
    assert _state(node) in ("inactive", "failed")
    assert execute(node, 'find "$1" -mindepth 1', DATA) == ""


def _state(node: Node) -> str:
    return execute(node, "systemctl show -P ActiveState etcd").strip()
