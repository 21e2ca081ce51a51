"""What facts mean: each check lets a good host pass and names the value or the fix otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address

import pytest

from etcdctl_remote.desired.model import ClusterSpec, PathsSpec, PortsSpec
from etcdctl_remote.observed.findings import Finding, Result
from etcdctl_remote.observed.state import Data
from etcdctl_remote.preflight import judge
from etcdctl_remote.preflight.case import size
from etcdctl_remote.preflight.facts import Facts, Limits, Occupied, Place, Process
from etcdctl_remote.preflight.sockets import End, Socket

from .wish import NOW, certificates, cluster, deployed, fresh

MIB = 1 << 20


def findings(facts: Facts, wish: ClusterSpec | None = None) -> dict[str, list[Finding]]:
    """Judge one host beside two good ones; by check."""
    good = {name: fresh(name) for name in ("n1", "n2", "n3")}
    found: dict[str, list[Finding]] = {}
    for finding in judge.judge(wish or cluster(), certificates(), {**good, facts.node: facts}):
        if finding.node == facts.node:
            found.setdefault(finding.check, []).append(finding)
    return found


def only(facts: Facts, check: str, wish: ClusterSpec | None = None) -> Finding:
    """Give the one finding of a check."""
    (finding,) = findings(facts, wish)[check]
    return finding


def test_a_fresh_host_passes_everything() -> None:
    """Nothing warns on a node that is in order."""
    found = [finding for several in findings(fresh()).values() for finding in several]
    assert {finding.result for finding in found} == {Result.PASS}
    assert {"ssh", "sudo", "clock", "ports", "data", "disk", "memory", "address"} <= {f.check for f in found}


def test_a_deployed_host_passes_everything() -> None:
    """Our own etcd, its ports and its data are nothing to complain about."""
    facts = replace(deployed(), clock=NOW.timestamp(), asked_at=NOW.timestamp())
    found = [finding for several in findings(facts).values() for finding in several]
    assert [finding for finding in found if finding.result is not Result.PASS] == []
    assert only(facts, "ports").message == "2379, 2380 held by our etcd"


def test_a_port_that_our_etcd_does_not_hold_is_free() -> None:
    """The inventory gives a running member another port: it has not got it yet."""
    wish = replace(cluster(), ports=PortsSpec(peer=2390))
    assert only(deployed(), "ports", wish).message == "2379 held by our etcd; 2390 free"


def test_a_member_whose_certificates_are_not_here() -> None:
    """The folder is named, once a host; where nothing is a member yet it is just not made."""
    made = replace(certificates(), new_authorities=True)
    hosts = {"n1": deployed("n1"), "n2": fresh("n2")}
    found = judge.judge(cluster(), made, hosts)
    (lost,) = (finding for finding in found if finding.check == "certificates")
    assert (lost.node, lost.result) == ("n1", Result.FAIL)
    assert "no certs/pre beside the inventory" in lost.message


def place(path: str, **changes: object) -> Mapping[str, Place]:
    """Give the places of a host with one changed."""
    places = fresh().places
    return {**places, path: replace(places[path], **changes)}  # type: ignore[arg-type]


FOREIGN = Socket(End(ip_address("::"), 2379), End(ip_address("::"), 0), "0A", 7)
ON_ONE = replace(FOREIGN, local=End(ip_address("10.0.0.9"), 2379))

Change = Callable[[Facts], Facts]
CASES: list[tuple[str, Change, Result, str]] = [
    ("sudo", lambda f: replace(f, uid=1000), Result.FAIL, "uid 1000"),
    ("architecture", lambda f: replace(f, machine="armv7l"), Result.FAIL, "armv7l"),
    ("architecture", lambda f: replace(f, machine="aarch64"), Result.PASS, "arm64"),
    ("systemd", lambda f: replace(f, init="init"), Result.FAIL, "process 1 is init"),
    ("systemd", lambda f: replace(f, systemd=219), Result.FAIL, "too old"),
    ("systemd", lambda f: replace(f, systemd=239), Result.FAIL, "ProtectClock: null"),
    ("commands", lambda f: replace(f, missing=("gzip",)), Result.FAIL, "gzip"),
    ("clock", lambda f: replace(f, clock=f.clock + 3), Result.WARN, "3.0 s ahead"),
    ("clock", lambda f: replace(f, clock=f.clock - 61), Result.FAIL, "61.0 s behind"),
    ("clock", lambda f: replace(f, clock=f.clock - 3600), Result.FAIL, "valid from"),
    ("clock", lambda f: replace(f, clock=f.clock + 4e7), Result.FAIL, "valid from"),
    ("clock", lambda f: replace(f, clock=f.clock + 0.6, slack=0.2), Result.PASS, "0.6 s ahead"),
    ("address", lambda f: replace(f, addresses=(("eth0", "10.9.9.9/24"),)), Result.FAIL, "eth0 10.9.9.9/24"),
    (
        "ports",
        lambda f: replace(f, listening=(FOREIGN,), owners={7: Process(42, "nginx")}),
        Result.FAIL,
        "port 2379 (client) is taken by nginx (pid 42) on all addresses: stop it",
    ),
    (
        "ports",
        lambda f: replace(f, listening=(ON_ONE,), owners={7: Process(42, "nginx")}),
        Result.FAIL,
        "port 2379 (client) is taken by nginx (pid 42) on 10.0.0.9: stop it",
    ),
    (
        "ports",
        lambda f: replace(f, listening=(FOREIGN,), owners={7: Process(42, "systemd-socket-")}),
        Result.FAIL,
        "another check or deploy listens so for some seconds: try again",
    ),
    (
        "service",
        lambda f: replace(f, unit={"MainPID": "5", "FragmentPath": "/lib/etcd"}),
        Result.FAIL,
        "/lib/etcd",
    ),
    (
        "service",
        lambda f: replace(f, unit={"MainPID": "0", "FragmentPath": "/lib/etcd"}),
        Result.WARN,
        "/lib/etcd",
    ),
    (
        "service",
        lambda f: replace(f, foreign=("/etc/systemd/system/etcd.service",)),
        Result.FAIL,
        "would be overwritten",
    ),
    (
        "config",
        lambda f: replace(f, occupied=(Occupied("/etc/etcd", "0755 root:root", ("ssl",)),)),
        Result.FAIL,
        "/etc/etcd is somebody else's: it holds ssl, and deploy would turn 0755 root:root into 0750 root:etcd",
    ),
    (
        "config",
        lambda f: replace(f, occupied=(Occupied("/etc/etcd", "0755 root:root", tuple("abcd")),)),
        Result.FAIL,
        "it holds a, b, c and more",
    ),
    (
        "config",
        lambda f: replace(f, occupied=(Occupied("/etc/etcd", "0750 root:etcd", ("notes",)),)),
        Result.PASS,
        "nobody else's",
    ),
    (
        "programs",
        lambda f: replace(f, foreign=("/usr/local/bin/etcd", "/usr/local/bin/etcdctl")),
        Result.FAIL,
        "/usr/local/bin/etcd, /usr/local/bin/etcdctl would become",
    ),
    (
        "programs",
        lambda f: replace(f, foreign=("/usr/local/bin/etcd",), marker="pre"),
        Result.WARN,
        "deploy makes it one",
    ),
    ("data", lambda f: replace(f, data=Data.OTHER), Result.FAIL, "not etcd's"),
    ("data", lambda f: replace(f, data=Data.MEMBER), Result.FAIL, "not ours"),
    ("data", lambda f: replace(f, data=Data.MEMBER, marker="prod"), Result.FAIL, "of the cluster prod"),
    ("data", lambda f: replace(f, data=Data.MEMBER, token="0123456789abcdef" * 2), Result.PASS, "member’s"),
    ("data", lambda f: replace(f, data=Data.EMPTY, marker="pre"), Result.FAIL, "mount its disk"),
    ("data", lambda f: replace(f, data=Data.EMPTY), Result.PASS, "is empty"),
    (
        "data",
        lambda f: replace(
            f, data=Data.MEMBER, marker="pre", user_exists=True, strange=("/var/lib/etcd/member/wal",)
        ),
        Result.FAIL,
        "chown -R etcd: /var/lib/etcd",
    ),
    ("disk", lambda f: replace(f, places=place("/opt/etcd", free=100 * MIB)), Result.FAIL, "100 MiB free"),
    ("disk", lambda f: replace(f, places=place("/var/lib/etcd", free=64 * MIB)), Result.FAIL, "64 MiB free"),
    ("disk", lambda f: replace(f, places=place("/var/lib/etcd", inodes=3)), Result.FAIL, "3 inodes"),
    (
        "mounts",
        lambda f: replace(f, places=place("/opt/etcd", options=frozenset({"noexec"}))),
        Result.FAIL,
        "noexec",
    ),
    (
        "mounts",
        lambda f: replace(f, places=place("/usr/local/bin", options=frozenset({"noexec"}))),
        Result.WARN,
        "bin",
    ),
    ("mounts", lambda f: replace(f, places=place("/var/lib/etcd", type="tmpfs")), Result.WARN, "reboot"),
    ("mounts", lambda f: replace(f, places=place("/var/lib/etcd", type="nfs4")), Result.WARN, "nfs4"),
    (
        "mounts",
        lambda f: replace(f, places=place("/etc/etcd", options=frozenset({"ro"}))),
        Result.FAIL,
        "read-only",
    ),
    (
        "memory",
        lambda f: replace(f, memory={"MemTotal": 1 << 30, "MemAvailable": 1 << 29}),
        Result.WARN,
        "1 GiB",
    ),
    (
        "memory",
        lambda f: replace(f, memory={"MemTotal": 1 << 30, "MemAvailable": 1 << 26}),
        Result.FAIL,
        "64 MiB",
    ),
    ("memory", lambda f: replace(f, memory={}), Result.WARN, "cannot be told"),
    ("limits", lambda f: replace(f, limits=Limits(1024, False)), Result.WARN, "1024"),
    ("limits", lambda f: replace(f, limits=Limits(128, False)), Result.FAIL, "128"),
    ("limits", lambda f: replace(f, limits=Limits(1024, True)), Result.PASS, "65536"),
    ("proxy", lambda f: replace(f, proxies=("HTTPS_PROXY",)), Result.PASS, "HTTPS_PROXY"),
    ("selinux", lambda f: replace(f, enforcing=True), Result.PASS, "ausearch"),
    ("firewall", lambda f: replace(f, firewalls=frozenset({"ufw"})), Result.PASS, "ufw is active"),
]


RUNNING: list[tuple[str, Change]] = [
    ("disk", lambda f: replace(f, places=place("/var/lib/etcd", free=64 * MIB))),
    ("disk", lambda f: replace(f, installed=True, places=place("/opt/etcd", free=MIB))),
    ("data", lambda f: replace(f, strange=("/var/lib/etcd/member/x",))),
    ("memory", lambda f: replace(f, memory={"MemTotal": 1 << 30, "MemAvailable": 1 << 26})),
    ("ports", lambda f: replace(f, unit={k: v for k, v in f.unit.items() if k != "digest"})),
    ("programs", lambda f: replace(f, foreign=("/usr/local/bin/etcd",))),
]


@pytest.mark.parametrize(("check", "change"), RUNNING)
def test_what_a_running_member_lives_with_forbids_no_deploy(check: str, change: Change) -> None:
    """Each would fail a first deploy; here the deploy may be the very thing that mends it."""
    facts = change(replace(deployed(), clock=NOW.timestamp(), asked_at=NOW.timestamp()))
    found = findings(facts)
    assert found[check]
    assert [f for several in found.values() for f in several if f.result is Result.FAIL] == []


def test_a_full_disk_forbids_the_next_release_on_a_running_member() -> None:
    """It would end half-way through a rolling change."""
    facts = replace(deployed(), places=place("/opt/etcd", free=MIB))
    assert only(facts, "disk").result is Result.FAIL


@pytest.mark.parametrize(("check", "change", "result", "says"), CASES)
def test_each_check_tells_the_value_or_the_fix(check: str, change: Change, result: Result, says: str) -> None:
    """One thing wrong gives one finding of that check, in words that name it."""
    finding = only(change(fresh()), check)
    assert finding.result is result
    assert says in finding.message


def test_less_than_the_quota_is_a_warning() -> None:
    """There is room to start, but not for the database the settings allow."""
    finding = findings(replace(fresh(), places=place("/var/lib/etcd", free=1 << 30)))["disk"][0]
    assert finding.result is Result.WARN
    assert "2 GiB" in finding.message


def test_the_wal_directory_is_judged_like_the_data() -> None:
    """Foreign files in `paths.wal` are as bad as in `paths.data`."""
    wish = replace(cluster(), paths=PathsSpec(wal="/wal"))
    found = findings(replace(fresh(), wal=Data.OTHER), wish)["data"]
    assert [(f.result, f.message.split()[0]) for f in found] == [
        (Result.PASS, "/var/lib/etcd"),
        (Result.FAIL, "/wal"),
    ]


def test_a_host_name_that_is_advertised_must_resolve_everywhere() -> None:
    """Only then is name resolution needed at all."""
    one, two, three = cluster().nodes
    wish = replace(cluster(), nodes=(one, replace(two, advertise="etcd2.example"), three))
    assert only(replace(fresh(), names={}), "names", wish).result is Result.FAIL
    known = replace(fresh(), names={"etcd2.example": ("10.226.82.12",)})
    assert only(known, "names", wish).result is Result.PASS
    assert only(fresh(), "names").message == "not needed: all URLs are addresses"


def test_one_wrong_clock_does_not_spoil_the_others() -> None:
    """Offsets are against the median: of three clocks the odd one is named, not its fellows."""
    hosts = {name: fresh(name) for name in ("n1", "n2", "n3")}
    hosts["n2"] = replace(hosts["n2"], clock=hosts["n2"].clock + 10)
    clocks = {f.node: f.result for f in judge.judge(cluster(), certificates(), hosts) if f.check == "clock"}
    assert clocks == {"n1": Result.PASS, "n2": Result.WARN, "n3": Result.PASS}


def test_a_laptop_that_is_off_is_not_the_nodes_fault() -> None:
    """All nodes agree; the laptop being four minutes ahead of them is still within the certificates."""
    hosts = {
        name: replace(fresh(name), clock=(NOW - timedelta(minutes=4)).timestamp())
        for name in ("n1", "n2", "n3")
    }
    assert {f.result for f in judge.judge(cluster(), certificates(), hosts) if f.check == "clock"} == {
        Result.PASS
    }


def test_sizes_are_written_as_a_person_reads_them() -> None:
    """Three digits are enough."""
    assert [size(n) for n in (25276514304, 512 * MIB, 2048)] == ["23.5 GiB", "512 MiB", "2 KiB"]
