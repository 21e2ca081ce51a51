"""Certificates that have expired or were destroyed: `rotate-certs` still works over SSH, and brings the cluster back."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from etcdctl_remote.desired import inventory
from etcdctl_remote.desired.model import ClusterSpec
from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab
from etcdctl_remote.pki.generation import Due, renewed
from etcdctl_remote.pki.store import Store

from . import drive

pytestmark = pytest.mark.cluster

LIFE = timedelta(seconds=30)
"""How long a CA lives on that is to expire under the test: a deploy takes some 8 s."""


def store_made(
    lab: Lab, ago: timedelta, ca_days: int = 3650, leaf_days: int = 365
) -> tuple[ClusterSpec, Store]:
    """Make the store as it would have been made some time ago."""
    found = inventory.load(lab.inventory)
    cluster = replace(found, pki=replace(found.pki, ca_days=ca_days, leaf_days=leaf_days))
    store = Store.beside(cluster)
    store.save(store.prepare(cluster, datetime.now(UTC) - ago))
    return cluster, store


def install_by_hand(lab: Lab, store: Store) -> None:
    """Put the store's leaves where etcd reads them, past the product."""
    held = store.load()
    assert held is not None
    for node in lab.nodes:
        for name, content in held.node_files(node.name).items():
            text = content if isinstance(content, bytes) else content.reveal
            execute(node, f'printf %s "$1" >{drive.PKI}/{name}', text.decode())


def verdicts(lab: Lab) -> set[str]:
    """Return what `certs` finds wrong, as a monitoring script asks it."""
    found = drive.run(lab, "certs", "--fail-within", "1d", "-o", "json")
    assert found.code == 1, found
    return {fault["verdict"] for one in found.json()["certificates"] for fault in one["faults"]}


def test_leaves_that_have_expired(lab3: Lab) -> None:
    """Nobody can make a new connection; new leaves mend that, and the members go on under the same PIDs."""
    cluster, store = store_made(lab3, timedelta(days=10))
    drive.deploy(lab3)
    drive.put(lab3.nodes[0], "before", "1")
    held = store.load()
    assert held is not None
    short = replace(cluster, pki=replace(cluster.pki, leaf_days=1))
    store.save(renewed(held, short, datetime.now(UTC) - timedelta(days=5), Due(force=True)))
    install_by_hand(lab3, store)
    fallen = lab3.nodes[1]
    execute(fallen, "systemctl stop etcd.service")
    pids = drive.pids(lab3)
    assert drive.run(lab3, "health").code == 1
    assert verdicts(lab3) >= {"expired"}
    done = drive.must(lab3, "rotate-certs", "-y")
    drive.tells(done, "server certificate for n1", "expired on")
    drive.tells(done, "n1, n2, n3", "do not serve")
    drive.tells(done, "n2 was stopped", "not started")
    drive.must(lab3, "start", "-y")
    drive.must(lab3, "health")
    after = drive.pids(lab3)
    assert {name: pid for name, pid in after.items() if name != fallen.name} == {
        name: pid for name, pid in pids.items() if name != fallen.name
    }
    assert drive.get(lab3.nodes[2], "before") == "1"
    drive.settle_nothing(lab3)


def test_a_ca_that_has_expired(lab3: Lab) -> None:
    """The new one comes at once, all restart together, and only after the cluster's name was typed."""
    store_made(lab3, timedelta(days=1) - LIFE, ca_days=1, leaf_days=1)
    end = time.time() + LIFE.total_seconds()
    drive.edit(lab3, pki="{leaf_days: 300}")
    drive.deploy(lab3)
    drive.put(lab3.nodes[0], "before", "1")
    pids = drive.pids(lab3)
    while time.time() < end:
        time.sleep(0.5)
    assert verdicts(lab3) >= {"expired"}
    done = drive.run(lab3, "rotate-certs", "-y")
    assert done.code == 2, done
    assert drive.pids(lab3) == pids
    done = drive.must(lab3, "rotate-certs", "--confirm", lab3.name)
    drive.tells(done, "all members restart together")
    drive.must(lab3, "health")
    assert drive.get(lab3.nodes[2], "before") == "1"
    drive.settle_nothing(lab3)


def test_files_that_were_spoilt(lab3: Lab) -> None:
    """A key that is gone, a swapped one, a certificate of another node: put right, and only there."""
    drive.deploy(lab3)
    one, two, three = lab3.nodes
    execute(one, f"rm {drive.PKI}/server.key")
    execute(two, f"cp {drive.PKI}/server.key {drive.PKI}/peer.key; systemctl kill -s KILL etcd.service")
    execute(
        three,
        'cat >"$1" <<"END"\n' + execute(one, f"cat {drive.PKI}/server.crt") + "END\n",
        f"{drive.PKI}/server.crt",
    )
    before = drive.certificates(lab3)
    pids = drive.pids(lab3)
    assert verdicts(lab3) >= {"missing", "wrong key", "wrong names"}
    done = drive.must(lab3, "rotate-certs", "-y")
    drive.tells(done, "n1", "server.key is missing")
    drive.tells(done, "n2", "peer.key is not the one that was issued")
    drive.tells(done, "n3", "server.crt is not the one that was issued")
    drive.must(lab3, "health")
    after = drive.certificates(lab3)
    assert drive.changed(
        {name: str(serial) for name, serial in before.items()},
        {name: str(serial) for name, serial in after.items()},
    ) == {"n3/server"}
    assert [drive.pids(lab3)[name] == pids[name] for name in ("n1", "n3")] == [True, True]
    drive.settle_nothing(lab3)
