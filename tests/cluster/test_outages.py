"""A cluster that stands, and what befalls it: it is told as it is, made no worse, and comes back."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from etcdctl_remote.desired import inventory
from etcdctl_remote.lab import faults
from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, Node, Shape, each
from etcdctl_remote.pki.store import Store
from tests.conftest import NEWEST, Release

from . import drive
from .killing import last_plan, restarts_in

pytestmark = pytest.mark.cluster

DATA = "/var/lib/etcd/"


@pytest.fixture(scope="module")
def deployed(lab_for_module: Callable[[Shape, str], Lab]) -> Lab:
    """One cluster for all tests here: each leaves it healthy, or the next one fails at its start."""
    lab = lab_for_module(Shape(3), NEWEST)
    drive.impatient(lab)
    drive.deploy(lab)
    drive.put(lab.nodes[0], "precious", "kept")
    return lab


@pytest.fixture
def lab(deployed: Lab, release: Release) -> Iterator[Lab]:
    """The cluster; whatever a test does to it, it has to serve afterwards, with nothing lost."""
    release(NEWEST)
    yield deployed
    assert drive.document(deployed, "health")["healthy"] is True
    assert [drive.get(node, "precious") for node in deployed.nodes] == ["kept"] * 3


# -- certificates ----------------------------------------------------------------------------


def test_without_the_certificates_it_was_deployed_with(lab: Lab, tmp_path: Path) -> None:
    """A copied inventory, or one with another CA beside it, is refused: it would lock everybody out."""
    copy = tmp_path / "inventory.yaml"
    shutil.copy(lab.inventory, copy)
    with drive.untouched(lab, DATA):
        done = drive.fails(lab, 4, "nothing was changed", inventory=copy)
        for node in lab.nodes:
            drive.tells(done, f"{node.name}:", f"certs/{lab.name}", "beside the inventory")
        assert not (tmp_path / "certs").exists()
        cluster = inventory.load(copy)
        store = Store.beside(cluster)
        store.save(store.prepare(cluster, datetime.now(UTC)))
        done = drive.fails(lab, 4, "nothing was changed", inventory=copy)
        for node in lab.nodes:
            drive.tells(done, f"{node.name}:", "another cluster's", "or the certs folder is not the one")


def test_an_inventory_of_another_cluster(lab: Lab, tmp_path: Path) -> None:
    """The hosts' own marker says whose they are, whatever certificates lie beside the inventory."""
    other = tmp_path / "inventory.yaml"
    other.write_text(lab.inventory.read_text().replace(f"cluster: {lab.name}", "cluster: other"))
    shutil.copytree(lab.state / "certs" / lab.name, tmp_path / "certs" / "other")
    certs = drive.folder(tmp_path / "certs")
    with drive.untouched(lab, DATA):
        done = drive.fails(lab, 4, "nothing was changed", inventory=other)
    for node in lab.nodes:
        drive.tells(done, f"{node.name}:", f"member of the cluster {lab.name}", "not other")
    assert drive.folder(tmp_path / "certs") == certs


# -- host keys -------------------------------------------------------------------------------


def test_a_changed_host_key(lab: Lab) -> None:
    """Both fingerprints, where the old one stands, and the way out; nothing is sent there."""
    node = lab.node("n2")
    known = lab.known_hosts.read_text()
    before = _fingerprint(node, "ecdsa")
    execute(
        node, "mkdir /root/kept && cp -p /etc/ssh/ssh_host_*_key* /root/kept && rm /etc/ssh/ssh_host_*_key*"
    )
    execute(node, "ssh-keygen -q -A && systemctl restart ssh")
    try:
        done = drive.fails(lab, 3, "has changed", "ssh-keygen -R")
        drive.tells(done, "n2", before, _fingerprint(node, "ecdsa"), f"{lab.known_hosts}:")
        assert lab.known_hosts.read_text() == known
    finally:
        execute(node, "mv -f /root/kept/* /etc/ssh/ && rmdir /root/kept && systemctl restart ssh")


def test_an_unknown_host_key(lab: Lab, tmp_path: Path) -> None:
    """Refused with its fingerprint; with accept-new it is noted once, and held to from then on."""
    known = tmp_path / "known_hosts"
    other = lab.inventory.with_name("accept.yaml")
    text = lab.inventory.read_text()
    other.write_text(text.replace(f"known_hosts: {lab.known_hosts}", f"known_hosts: {known}"))
    done = drive.fails(lab, 3, "is unknown", "accept-new", inventory=other)
    for node in lab.nodes:
        drive.tells(done, f"{node.name}:", _fingerprint(node, "ed25519"))
    assert not known.exists()
    accepting = f"known_hosts: {known}, host_keys: accept-new"
    other.write_text(text.replace(f"known_hosts: {lab.known_hosts}", accepting))
    drive.must(lab, "plan", inventory=other)
    assert not known.exists(), "a plan changes nothing, here neither"
    drive.must(lab, "deploy", "-y", inventory=other)
    noted = known.read_text().splitlines()
    assert sorted(line.split()[0] for line in noted) == sorted(node.address for node in lab.nodes)
    known.write_text("\n".join([_swapped(noted[0], noted[1]), *noted[1:]]) + "\n")
    drive.fails(lab, 3, "has changed", inventory=other)
    other.unlink()


def _swapped(line: str, other: str) -> str:
    return " ".join([line.split()[0], *other.split()[1:]])


def _fingerprint(node: Node, kind: str) -> str:
    return execute(node, f"ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub").split()[1]


# -- hosts and members -----------------------------------------------------------------------


def test_a_lost_quorum(lab: Lab) -> None:
    """Deploy refuses and names `start`; status and health say what is; `start` mends it, past a sick host."""
    down = lab.nodes[1:]
    each(down, lambda node: execute(node, "systemctl stop etcd"))
    with drive.untouched(lab, DATA):
        done = drive.fails(lab, 4, "lost its quorum", "→ `start`")
        for node in down:
            drive.tells(done, f"{node.name}:", "inactive")
        assert "there is no quorum" in drive.must(lab, "status").out
    assert _healthy(lab) == {"n1": False, "n2": False, "n3": False}
    sick, sudo = lab.nodes[0], "/usr/local/sbin/sudo"
    execute(sick, f"printf '#!/bin/sh\\nexit 1\\n' >{sudo} && chmod 755 {sudo}")
    try:
        assert "nothing is known of n1: sudo does not let ops run commands" in drive.must(lab, "status").out
        drive.tells(drive.must(lab, "start", "-y"), "n1 is not started: sudo does not let ops run commands")
    finally:
        execute(sick, f"rm {sudo}")


def test_a_host_that_is_gone(lab: Lab) -> None:
    """Deploy changes nothing anywhere; health and status tell it from the others; it comes back by itself."""
    gone, rest = lab.nodes[2], lab.nodes[:2]
    faults.power_off(gone)
    try:
        drive.edit(lab, settings='{snapshot-count: "20000"}')
        with drive.untouched(replace(lab, nodes=rest), DATA):
            done = drive.fails(lab, 3, gone.address)
        assert "n3" in done.err
        health = drive.run(lab, "health")
        assert health.code == 1
        lines = [line.split()[:3] for line in health.out.splitlines()]
        assert lines[2] == [f"https://{gone.address}:2379", "is", "unhealthy:"], str(health)
        assert [line[2] for line in lines[:2]] == ["healthy:"] * 2, str(health)
        status = drive.document(lab, "status")
        assert status["tolerates"] == 0
        assert {row["node"]: row["role"] for row in status["members"]}["n3"] == "unreachable"
    finally:
        drive.edit(lab, settings="{}")
        faults.power_on(gone)
    _await_members(lab.nodes)


def test_a_reboot_of_all_hosts_at_once(lab: Lab) -> None:
    """Each comes back by itself, as the member it was: nothing is left to do."""
    before = {row["node"]: row["id"] for row in _members(lab)}
    each(lab.nodes, faults.reboot)
    _await_members(lab.nodes)
    assert {row["node"]: row["id"] for row in _members(lab)} == before
    drive.settle_nothing(lab)


def test_a_member_that_hangs(lab: Lab) -> None:
    """It runs as wanted and gives no answer: told, with what helps. A change restarts it before the others."""
    leader = drive.document(lab, "status")["leader"]
    hung = max((node for node in lab.nodes if node.name != leader), key=lambda node: node.name)
    pid = drive.pids(lab)[hung.name]
    execute(hung, f"kill -STOP {pid}")
    try:
        done = drive.fails(lab, 1)
        drive.tells(done, f"{hung.name} ", f"logs --node {hung.name}", "systemctl restart --no-block etcd")
        assert drive.pids(lab)[hung.name] == pid
        drive.edit(lab, settings='{snapshot-count: "40000"}')
        assert "every member serves" in drive.deploy(lab).out
        assert restarts_in(last_plan(lab))[0] == hung.name
    finally:
        execute(hung, f"kill -CONT {pid} 2>/dev/null || true")
    drive.settle_nothing(lab)


def test_a_member_cut_off_from_the_others(lab: Lab) -> None:
    """Health and status tell which one; a change is refused at once, though its own restart is safe."""
    leader = drive.document(lab, "status")["leader"]
    alone = next(node for node in lab.nodes if node.name != leader)
    rest = [node for node in lab.nodes if node != alone]
    peer = rest[0]
    faults.isolate(lab, alone)
    try:
        _await_members(rest)
        assert _healthy(lab) == {node.name: node != alone for node in lab.nodes}
        status = drive.document(lab, "status")
        assert status["tolerates"] == 0
        drive.edit(lab, settings='{snapshot-count: "20000"}')
        with drive.untouched(lab, DATA):
            done = drive.fails(lab, 4, f"{alone.name} runs and does not serve: cut off from its peers")
        drive.tells(
            done, f"{peer.name}:", f"port 2380 of {peer.name}", f"from {alone.name}", "a firewall drops"
        )
        assert done.seconds < 30, str(done)
    finally:
        faults.rejoin(lab)
    _await_members(lab.nodes)
    drive.deploy(lab)
    for node in lab.nodes:
        assert "--snapshot-count=20000" in execute(node, "cat /etc/systemd/system/etcd.service")
    drive.settle_nothing(lab)


# -- etcd's own auth -------------------------------------------------------------------------


def test_with_etcds_own_auth(lab: Lab) -> None:
    """Nobody's keys are readable to our certificates, and every task still tells and does what is right."""
    root = lab.nodes[0]
    for words in ("user add root --new-user-password=secret", "user grant-role root root", "auth enable"):
        execute(root, f"etcdctl.sh {words}")
    try:
        assert "permission denied" in execute(root, "etcdctl.sh get precious 2>&1 || true")
        assert _healthy(lab) == {"n1": True, "n2": True, "n3": True}
        status = drive.document(lab, "status")
        assert (status["tolerates"], status["advice"]) == (1, [])
        assert "nothing to do" in drive.deploy(lab).out
        drive.edit(lab, settings='{snapshot-count: "30000"}')
        assert "every member serves" in drive.deploy(lab).out
        drive.settle_nothing(lab)
        for words in ("user add etcdctl-n1 --no-password", "user grant-role etcdctl-n1 root"):
            execute(root, f"etcdctl.sh --user=root:secret {words}")
        assert drive.get(root, "precious") == "kept"
    finally:
        for words in ("auth disable", "user delete etcdctl-n1", "user delete root", "role delete root"):
            execute(root, f"etcdctl.sh --user=root:secret {words} || etcdctl.sh {words} || true")


# -- what tests share ------------------------------------------------------------------------


def _members(lab: Lab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = drive.document(lab, "status")["members"]
    return found


def _healthy(lab: Lab) -> dict[str, bool]:
    """Return what `health` says of each node; its exit code says the same of all."""
    done = drive.run(lab, "health", "-o", "json")
    found = {endpoint["node"]: endpoint["healthy"] for endpoint in done.json()["endpoints"]}
    assert done.code == (0 if all(found.values()) else 1), str(done)
    return found


def _await_members(members: Sequence[Node]) -> None:
    """Wait until each of them answers a linearizable read, with nobody's help."""
    ready = "until etcdctl.sh endpoint health >/dev/null 2>&1; do sleep 0.2; done"
    each(members, lambda node: execute(node, f'timeout 60 sh -c "{ready}"'))
