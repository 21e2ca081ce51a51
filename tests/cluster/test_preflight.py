"""The preflight on real nodes: it finds what stands in the way, and leaves nothing behind."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from etcdctl_remote.desired import inventory
from etcdctl_remote.desired.model import ClusterSpec
from etcdctl_remote.errors import Refused
from etcdctl_remote.lab import faults
from etcdctl_remote.lab import nodes as labs
from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.observed.findings import Finding, Result
from etcdctl_remote.pki.generation import Generation
from etcdctl_remote.pki.store import Store
from etcdctl_remote.preflight import checks
from etcdctl_remote.remote.fleet import Fleet

from .drive import run

pytestmark = pytest.mark.cluster

NO_FORWARDING = "echo 'AllowTcpForwarding no' >/etc/ssh/sshd_config.d/zz.conf; systemctl restart ssh"
EVERYTHING = """find /etc /home /root /opt /usr/local /var/lib /var/tmp /tmp /srv /mnt -xdev ! -path '*systemd*' \
    ! -path '/home/ops/.cache*' -type f -printf '%p %s %T@\\n' | sort"""


@contextmanager
def connected(lab: labs.Lab, *, read_only: bool = False) -> Iterator[tuple[ClusterSpec, Generation, Fleet]]:
    """Connect to a lab, with certificates that are only in memory if they do not exist."""
    cluster = inventory.load(lab.inventory)
    fleet, _ = Fleet.connect(cluster, read_only=read_only)
    try:
        yield cluster, Store.beside(cluster).prepare(cluster, datetime.now(UTC)), fleet
    finally:
        fleet.close()


def check(lab: labs.Lab) -> tuple[Finding, ...]:
    """Run what can forbid a deploy."""
    with connected(lab) as (cluster, generation, fleet):
        return checks.run(cluster, generation, fleet)


def bad(lab: labs.Lab) -> list[Finding]:
    """Everything that is not in order."""
    return [finding for finding in check(lab) if finding.result is not Result.PASS]


def test_a_fresh_lab_passes_and_stays_as_it_was(lab3: labs.Lab) -> None:
    """Every node reaches every other over TLS under its own address; no file changes, no listener stays."""
    before = [execute(node, EVERYTHING) for node in lab3.nodes]
    found = check(lab3)
    assert [finding for finding in found if finding.result is not Result.PASS] == []
    reached = {finding.node: finding.message for finding in found if finding.check == "network"}
    for node in lab3.nodes:
        assert f"over TLS, seen as {node.address}" in reached[node.name]
    assert [execute(node, EVERYTHING) for node in lab3.nodes] == before
    for node in lab3.nodes:
        assert (
            execute(node, "ss -Hltn '( sport = :2379 or sport = :2380 )'; pgrep systemd-socket || true") == ""
        )


def test_the_disk_probe_leaves_nothing(lab3: labs.Lab) -> None:
    """fsync latency is measured by writing, the unit linted before its program is there: all is gone."""
    before = execute(lab3.nodes[0], EVERYTHING)
    with connected(lab3, read_only=False) as (cluster, generation, fleet):
        scope = checks.Scope(network=False, disk=True, units=tuple(fleet.hosts))
        found = checks.run(cluster, generation, fleet, scope)
    fsync = [finding for finding in found if finding.check == "fsync"]
    assert [finding.node for finding in fsync] == ["n1", "n2", "n3"]
    assert all("fdatasync writes at /var/lib/etcd took at most" in finding.message for finding in fsync)
    assert [finding.result for finding in found if finding.check == "unit"] == [Result.PASS] * 3
    assert execute(lab3.nodes[0], EVERYTHING) == before


@pytest.mark.parametrize(
    ("rule", "says"),
    [("DROP", "no answer in 2 s"), ("REJECT --reject-with icmp-host-prohibited", "no route to host")],
)
def test_a_firewall_is_found_and_the_port_named(lab3: labs.Lab, rule: str, says: str) -> None:
    """One rule on n2: one finding, on n2, with the sources it turns away and the way to let them in."""
    execute(lab3.nodes[1], f"iptables -I INPUT -p tcp --dport 2380 -j {rule}")
    (finding,) = bad(lab3)
    assert (finding.node, finding.check, finding.result) == ("n2", "network", Result.FAIL)
    assert f"port 2380 of n2 ({lab3.nodes[1].address})" in finding.message
    assert f"n1 ({lab3.nodes[0].address}), n3 ({lab3.nodes[2].address})" in finding.message
    assert says in finding.message


SOURCES = {
    "route": "ip addr add {new}/24 dev eth0; ip route add {n2}/32 dev eth0 src {new}",
    "nat": "ip addr add {new}/24 dev eth0; iptables -t nat -A POSTROUTING -p tcp -d {n2} -j SNAT --to-source {new}",
}
MEND = "iptables -t nat -F; ip route del {n2}/32 2>/dev/null; ip addr del {new}/24 dev eth0"


@pytest.fixture
def dialled_from(lab3: labs.Lab) -> Iterator[Callable[[str], str]]:
    """Have n1 dial n2 from another address; gives the address, and mends the routes afterwards."""
    new = lab3.nodes[0].address.rpartition(".")[0] + ".77"
    values = {"new": new, "n2": lab3.nodes[1].address}

    def change(how: str) -> str:
        execute(lab3.nodes[0], SOURCES[how].format(**values))
        return new

    yield change
    execute(lab3.nodes[0], MEND.format(**values))


@pytest.mark.parametrize("how", ["route", "nat"])
def test_a_source_address_no_certificate_names_is_found(
    lab3: labs.Lab, dialled_from: Callable[[str], str], how: str
) -> None:
    """n2 sees n1 under another address: etcd would turn it away, and `names` mends it."""
    new = dialled_from(how)
    (finding,) = bad(lab3)
    assert (finding.node, finding.result) == ("n1", Result.FAIL)
    assert f"n2 sees n1 as {new}" in finding.message
    with connected(lab3) as (cluster, _, fleet):
        one, *others = cluster.nodes
        mended = replace(cluster, nodes=(replace(one, names=(new,)), *others))
        generation = Store.beside(mended).prepare(mended, datetime.now(UTC))
        found = checks.run(mended, generation, fleet)
    assert {finding.result for finding in found} == {Result.PASS}


LISTENS = "until ss -Hltn 'sport = :2379' | grep -q .; do sleep 0.02; done"
WAITS = 'until [ "$(systemctl show -P SubState etcd)" = start ]; do sleep 0.1; done\n' + LISTENS


def test_a_foreign_listener_is_named(lab3: labs.Lab) -> None:
    """Port, process and pid; the network of that port is then not probed, which is said."""
    execute(
        lab3.nodes[1],
        "systemd-run -q --unit=squatter systemd-socket-activate -l 0.0.0.0:2379 sleep 600\n" + LISTENS,
    )
    try:
        found = {finding.check: finding for finding in bad(lab3)}
    finally:
        execute(lab3.nodes[1], "systemctl stop squatter")
    assert found["ports"].result is Result.FAIL
    assert "port 2379 (client) is taken by systemd-socket" in found["ports"].message
    assert found["network"].result is Result.WARN


@pytest.fixture
def no_forwarding(lab3: labs.Lab) -> labs.Lab:
    """A lab whose sshd forwards nothing, as hardening guides have it."""
    for node in lab3.nodes:
        execute(node, NO_FORWARDING)
    return lab3


def test_forbidden_forwarding_is_a_warning_and_tcp_is_still_tried(no_forwarding: labs.Lab) -> None:
    """TLS cannot be probed without it; reach and source address can, by the node's own bash."""
    found = bad(no_forwarding)
    assert {(finding.check, finding.result) for finding in found} == {("network", Result.WARN)}
    assert all("sshd forbids forwarding" in finding.message for finding in found)
    execute(no_forwarding.nodes[2], "iptables -I INPUT -p tcp --dport 2379 -j REJECT")
    fails = [finding for finding in bad(no_forwarding) if finding.result is Result.FAIL]
    assert [finding.node for finding in fails] == ["n3"]
    assert "connection refused" in fails[0].message


def test_every_failure_is_listed_at_once_and_nothing_is_changed(lab3: labs.Lab) -> None:
    """A deploy stops before its first change, with what is wrong on every node."""
    execute(lab3.nodes[0], "mkdir -p /var/lib/etcd; echo mine >/var/lib/etcd/file")
    execute(lab3.nodes[1], "iptables -I INPUT -p tcp --dport 2380 -j DROP")
    execute(lab3.nodes[2], "mkdir -p /etc/etcd; touch /etc/etcd/theirs.pem")
    with connected(lab3) as (cluster, generation, fleet), pytest.raises(Refused) as caught:
        checks.refuse_failing(cluster, generation, fleet)
    assert "/var/lib/etcd holds files that are not etcd's" in caught.value.hosts["n1"]
    assert "port 2380" in caught.value.hosts["n2"]
    assert "/etc/etcd is somebody else's: it holds theirs.pem" in caught.value.hosts["n3"]


def test_a_deploy_behind_a_firewall_is_refused_untouched(lab3: labs.Lab) -> None:
    """The program's own word: exit code 4, and not a file on any node."""
    before = [execute(node, EVERYTHING) for node in lab3.nodes]
    execute(lab3.nodes[1], "iptables -I INPUT -p tcp --dport 2380 -j DROP")
    done = run(lab3, "deploy", "--yes")
    assert done.code == 4
    assert "port 2380 of n2" in done.err
    assert [execute(node, EVERYTHING) for node in lab3.nodes] == before


def test_a_running_cluster_passes_its_own_check(lab3: labs.Lab) -> None:
    """Ports held by our etcd are probed as they are; one that waits for its quorum only warns."""
    assert run(lab3, "deploy", "--yes").code == 0
    done = run(lab3, "check", "--output", "json")
    assert done.code == 0
    rows = json.loads(done.out)["result"]
    assert [row for row in rows if row["result"] == "fail"] == []
    assert {row["message"] for row in rows if row["check"] == "ports"} == {"2379, 2380 held by our etcd"}
    assert {row["result"] for row in rows if row["check"] == "network"} == {"pass"}
    for node in lab3.nodes[:2]:
        execute(node, "systemctl stop etcd")
    execute(lab3.nodes[2], f"systemctl restart --no-block etcd\n{WAITS}")
    assert {finding.result for finding in bad(lab3)} == {Result.WARN}


BROKEN = {
    "flag": (
        "d=/etc/systemd/system/etcd.service.d; mkdir -p $d; "
        "printf '[Service]\\nExecStart=\\nExecStart=/usr/local/bin/etcd --no-such=1\\n' >$d/z.conf",
        "does not know the flag --no-such",
        "take `no-such` out of `settings`",
    ),
    "port": (
        "printf '[Socket]\\nListenStream=2380\\n[Install]\\n' >/etc/systemd/system/etcd-squat.socket; "
        "printf '[Service]\\nExecStart=/bin/sleep 100\\n' >/etc/systemd/system/etcd-squat.service; "
        "printf '[Path]\\nPathExists=/etc/etcd/pki/current\\nUnit=etcd-squat.socket\\n' "
        ">/etc/systemd/system/etcd-squat.path; systemctl daemon-reload; systemctl start etcd-squat.path",
        "another process listens on",
        "ss -ltnp",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_failed_start_is_explained(lab3: labs.Lab, what: str) -> None:
    """What no check could foresee: the error names the node, shows its journal and tells the fix."""
    breaks, means, fix = BROKEN[what]
    execute(lab3.nodes[1], breaks)
    try:
        done = run(lab3, "deploy", "--yes")
    finally:
        execute(lab3.nodes[1], "systemctl stop etcd-squat.path etcd-squat.socket etcd 2>/dev/null; true")
    assert done.code == 1, done.err
    assert "n2: " in done.err
    assert means in done.err
    assert fix in done.err


def test_members_cut_off_from_each_other_are_explained(lab3: labs.Lab) -> None:
    """A cluster that loses its network later: the dials that fail are named with their addresses."""
    from etcdctl_remote.plan.explain import explain_node, journal_command, journal_lines

    assert run(lab3, "deploy", "--yes").code == 0
    faults.isolate(lab3, lab3.nodes[0])
    faults.kill(lab3.nodes[0])
    deadline, why = time.monotonic() + 90, ""
    with connected(lab3) as (_, _, fleet):
        while (
            not all(f"{node.address}:2380" in why for node in lab3.nodes[1:]) and time.monotonic() < deadline
        ):
            time.sleep(1)
            why, fix = explain_node("n1", journal_lines(fleet.hosts["n1"].run(journal_command()).text))
    assert "are lost or rejected" in why
    assert all(f"{node.address}:2380" in why for node in lab3.nodes[1:])
    assert "`check`" in fix
