"""`certs` on real nodes: what lies and what is served is told; whatever is wrong with one is diagnosed."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from etcdctl_remote.desired import inventory
from etcdctl_remote.lab.hosts import execute, write
from etcdctl_remote.lab.model import Lab, Node, each
from etcdctl_remote.pki.authority import Credential
from etcdctl_remote.pki.generation import Generation
from etcdctl_remote.pki.profiles import Kind, node_profiles
from etcdctl_remote.pki.store import Store

from . import drive

pytestmark = pytest.mark.cluster

PORTS = {"server": 2379, "peer": 2380}


def test_every_certificate_is_accounted_for(lab3: Lab) -> None:
    """Before a deploy, after it, and with a wrong key, wrong names, an expired one, a lost one, a lost host."""
    done = drive.must(lab3, "certs")
    assert "is not deployed yet" in done.out
    drive.deploy(lab3)
    with drive.untouched(lab3, "/var/lib/etcd"):
        fine(lab3)
        monitored(lab3)
    spoil(lab3)
    done = drive.run(lab3, "certs", "-o", "json", "--fail-within", "30d")
    assert done.code == 1, done
    diagnosed(done.json())
    without_store(lab3)
    execute(lab3.node("n3"), "systemctl stop ssh")
    done = drive.run(lab3, "certs", "-o", "json", "--metrics", str(lab3.state / "certs.prom"))
    assert done.code == 3, done
    diagnosed(done.json())
    gone = [row for row in done.json()["certificates"] if row["node"] == "n3" and row["place"] != "laptop"]
    assert {row["verdict"] for row in gone} == {"not seen"}
    assert "etcdctl_remote_certs_unreachable_hosts" in (lab3.state / "certs.prom").read_text("utf-8")


def fine(lab: Lab) -> None:
    """All places agree, and what is said of the wire is what openssl sees there."""
    found = drive.document(lab, "certs")
    assert found["verdict"] == "ok"
    assert found["unreachable"] == {}
    assert len(found["certificates"]) == 3 * (3 + 3 + 2)
    assert {row["mode"] for row in found["certificates"] if row["place"] == "disk"} == {"0640"}
    by_place = {(row["node"], row["role"], row["place"]): row for row in found["certificates"]}
    served = each(lab.nodes, lambda node: {role: seen_by_openssl(node, port) for role, port in PORTS.items()})
    for node, shown in zip(lab.nodes, served, strict=True):
        for role, fingerprint in shown.items():
            for place in ("laptop", "disk", f"wire:{PORTS[role]}"):
                assert by_place[node.name, role, place]["fingerprint"] == fingerprint
    assert {row["role"] for row in found["authorities"] if row["signs"]} == {"client CA", "peer CA"}


def seen_by_openssl(node: Node, port: int) -> str:
    """Return the fingerprint of what a port shows, as the openssl program sees it."""
    dial = ["openssl", "s_client", "-connect", f"{node.address}:{port}"]
    shown = subprocess.run(dial, input=b"", capture_output=True, check=False).stdout
    digest = ["openssl", "x509", "-noout", "-fingerprint", "-sha256"]
    told = subprocess.run(digest, input=shown, capture_output=True, check=True).stdout.decode()
    return told.strip().partition("=")[2].replace(":", "").lower()


def monitored(lab: Lab) -> None:
    """Exit codes for cron, and a textfile for Prometheus that anybody may read."""
    file = lab.state / "certs.prom"
    told = drive.must(lab, "certs", "--fail-within", "30d", "--metrics", str(file), program=drive.INVOKE).out
    for node in lab.nodes:
        assert re.search(rf"^{node.name} +server +laptop disk wire +\d{{4}}-.* ok$", told, re.MULTILINE), told
    assert file.stat().st_mode & 0o777 == 0o644
    text = file.read_text("utf-8")
    ends = re.findall(r"^etcdctl_remote_certificate_not_after_timestamp_seconds\{.*\} (\d+)$", text, re.M)
    assert len(ends) == 24
    assert set(re.findall(r"^etcdctl_remote_certificate_ok\{.*\} (\d)$", text, re.M)) == {"1"}
    soon = drive.run(lab, "certs", "--fail-within", "400d")
    assert (soon.code, "fails: n1 (server" in soon.out) == (1, True), soon
    bad = drive.run(lab, "certs", "--fail-within", "soon", "--metrics", str(lab.state / "none" / "x.prom"))
    assert bad.code == 2, bad
    assert "'soon' is no span of time" in bad.err
    assert "there is no directory" in bad.err


def spoil(lab: Lab) -> None:
    """n1: another key, a file gone. n2: a peer certificate with other names, an expired client certificate."""
    one, two = lab.node("n1"), lab.node("n2")
    execute(one, 'cd "$1" && cat peer.key >server.key && rm etcdctl.crt', drive.PKI)
    cluster, held = inventory.load(lab.inventory), store(lab)
    profiles = node_profiles(cluster, cluster.node("n2"))
    begun = held.authorities.client.parsed.not_valid_before_utc + timedelta(seconds=1)
    strange = replace(profiles[Kind.PEER], addresses=(), dns=("elsewhere",))
    ended = replace(profiles[Kind.CLIENT], days=0)
    put(two, "peer", held.authorities.peer.issue(strange, begun))
    put(two, "etcdctl", held.authorities.client.issue(ended, begun))


def store(lab: Lab) -> Generation:
    held = Store.beside(inventory.load(lab.inventory)).load()
    assert held is not None
    return held


def put(node: Node, stem: str, issued: Credential) -> None:
    """Write over the file, so that owner and mode stay."""
    for suffix, content in (("crt", issued.certificate_pem), ("key", issued.key_pem.reveal)):
        write(node, "/root/new", content)
        execute(node, 'cat /root/new >"$1" && rm /root/new', f"{drive.PKI}/{stem}.{suffix}")


def diagnosed(found: Any) -> None:
    """Each by its place, with what was seen and what to do; of the others nothing is said."""
    bad = {
        f"{row['node']} {row['role']} {row['place']}": row
        for row in found["certificates"]
        if row["verdict"] != "ok" and row["node"] != "n3"
    }
    assert {name: row["verdict"] for name, row in bad.items()} == {
        "n1 server disk": "wrong key",
        "n1 server wire:2379": "not seen",
        "n1 client disk": "missing",
        "n2 peer disk": "wrong names",
        "n2 peer wire:2380": "wrong names",
        "n2 client disk": "expired",
    }, json.dumps(bad, indent=1)
    assert all(fault["do"] and fault["seen"] for row in bad.values() for fault in row["faults"])
    assert "differs from laptop" in {fault["verdict"] for fault in bad["n2 peer wire:2380"]["faults"]}


def without_store(lab: Lab) -> None:
    """A machine that only monitors has no certificates: disk and wire are judged all the same."""
    certs, aside = lab.state / "certs", lab.state / "aside"
    certs.rename(aside)
    try:
        found = drive.document(lab, "certs")
    finally:
        aside.rename(certs)
    assert {row["place"] for row in found["certificates"]} == {"disk", "wire:2379", "wire:2380"}
    seen = {(r["node"], r["role"], r["place"]): r["verdict"] for r in found["certificates"]}
    assert seen["n3", "peer", "wire:2380"] == seen["n1", "peer", "disk"] == "ok"
    assert seen["n2", "peer", "wire:2380"] == "wrong names"
    assert "nothing is compared" in found["notes"][0]
