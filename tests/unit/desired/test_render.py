"""The rendered files: golden, escaped, and understood by the programs that read them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from etcdctl_remote.desired import render
from etcdctl_remote.desired.hostspec import Membership, client_addresses, environment, host_spec
from etcdctl_remote.desired.model import ClusterSpec, Version
from tests.unit.desired.wishes import pki, wish

CASES = {
    "plain": wish(),
    "ipv6": wish('cluster: six\nversion: "3.6.14"\nnodes: {n1: "fd00::1", n2: "fd00::2", n3: "fd00::3"}\n'),
    "nat": wish(
        'cluster: nat\nversion: "3.6.14"\nnodes:\n'
        "  n1: {address: 10.0.0.1, advertise: 203.0.113.1, host: h1}\n"
        "  n2: {address: 10.0.0.1, advertise: n2.example.org, host: h2}\n"
        "  n3: {address: 10.0.0.1, advertise: '2001:db8::3', host: h3}\n"
    ),
    "wal and metrics": wish(extra="paths: {wal: /var/lib/etcd-wal}\nports: {metrics: 2381}\n"),
    "overrides": wish(
        extra="settings: {pre-vote: null, log-rotation-config-json: '{\"maxsize\": 100}', auth-token: 'jwt,$k%d'}\n"
        "service: {Nice: null, LimitNOFILE: 1024, MemoryLow: 200M, Environment: [GOGC=50, A=b],"
        " ReadWritePaths: /var/log/etcd, UnsetEnvironment: LD_PRELOAD}\n"
        "paths: {bin: /opt/bin, config: /etc/kv, data: /data/kv}\nports: {client: 4001, peer: 7001}\nuser: kv\n"
    ),
    **{f"etcd {version}": wish(version=version) for version in ("3.4.45", "3.5.33", "3.7.1")},
}


def unit(cluster: ClusterSpec) -> str:
    spec = host_spec(cluster, cluster.nodes[0], Membership("token-1", "new"), pki())
    return {file.path: file.data.decode() for file in spec.files}["/etc/systemd/system/etcd.service"]


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, snapshot: SnapshotAssertion) -> None:
    """Unit, environment and wrapper of each kind of cluster, whole."""
    spec = host_spec(CASES[case], CASES[case].nodes[0], Membership("token-1", "new"), pki())
    for file in spec.files[:3]:
        assert file.data.decode() == snapshot(name=file.path.rpartition("/")[2])


@pytest.mark.parametrize("case", CASES)
def test_systemd_understands_the_unit(case: str, tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say against it."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed here; the lab's nodes verify every unit they get")
    text = unit(CASES[case]).replace(f"ExecStart={CASES[case].paths.bin}/etcd ", "ExecStart=/bin/true ")
    path = tmp_path / "etcd.service"
    path.write_text(text, "utf-8")
    done = subprocess.run([program, "verify", str(path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("case", CASES)
def test_one_flag_a_line_sorted(case: str) -> None:
    """A diff of two units shows one line for each changed setting."""
    lines = unit(CASES[case]).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("ExecStart="))
    flags = []
    for line in lines[start + 1 :]:
        flags.append(line.strip(' "\\').partition("=")[0])
        if not line.endswith("\\"):
            break
    assert flags == sorted(flags)
    assert len(flags) > 20
    assert all(flag.startswith("--") for flag in flags)


def test_no_variable_clashes_with_a_flag() -> None:
    """etcd refuses to start when a setting is given as flag and as ETCD_ variable."""
    for cluster in CASES.values():
        found = [line for line in unit(cluster).splitlines() if line.startswith("Environment=ETCD_")]
        assert found == []


def test_only_etcd_3_4_on_arm64_needs_a_variable() -> None:
    """It refuses that architecture without; elsewhere it would warn of a variable it does not know."""
    needed = ("ETCD_UNSUPPORTED_ARCH=arm64",)
    assert environment(Version(3, 4, 45), "arm64") == needed
    assert environment(Version(3, 4, 45), "amd64") == ()
    assert environment(Version(3, 5, 33), "arm64") == ()


def test_a_member_without_its_data_cannot_start() -> None:
    """With the marker there must be the log, wherever it is: it holds the votes."""
    lines = unit(CASES["wal and metrics"]).splitlines()
    assert "AssertPathIsSymbolicLink=|!/etc/etcd/member" in lines
    assert "AssertPathExistsGlob=|/var/lib/etcd-wal/wal/*.wal" in lines
    assert "AssertPathExistsGlob=|/var/lib/etcd/member/wal/*.wal" in unit(CASES["plain"]).splitlines()
    assert "RequiresMountsFor=/var/lib/etcd /var/lib/etcd-wal" in lines


@pytest.mark.parametrize("present", [(), ("marker",), ("marker", "data"), ("data",)])
def test_systemd_reads_the_guard_as_we_mean_it(present: tuple[str, ...], tmp_path: Path) -> None:
    """Of the two `|` lines one must hold: no marker yet, or the data is there."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed here; the lab wipes a member and starts it by hand")
    config, data = tmp_path / "config", tmp_path / "data"
    config.mkdir()
    data.mkdir()
    if "marker" in present:
        # Dangling on purpose: a lost identity file must not open the guard.
        (config / "member").symlink_to("identity")
    if "data" in present:
        (data / "member/wal").mkdir(parents=True)
        (data / "member/wal/0-0.wal").touch()
    lines = [
        line.replace("/etc/etcd", str(config)).replace("/var/lib/etcd", str(data))
        for line in unit(CASES["plain"]).splitlines()
        if line.startswith("AssertPath")
    ]
    done = subprocess.run([program, "condition", *lines], capture_output=True, text=True, timeout=60)
    assert done.returncode == (1 if present == ("marker",) else 0), done.stderr


def test_proxies_are_taken_out_in_both_spellings() -> None:
    """Peer traffic would go through them."""
    line = next(line for line in unit(CASES["plain"]).splitlines() if line.startswith("UnsetEnvironment="))
    assert {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "no_proxy", "ALL_PROXY"} <= set(line[17:].split())


@pytest.mark.parametrize(
    ("address", "bound"),
    [
        ("10.0.0.1", ("10.0.0.1", "127.0.0.1")),
        ("fd00::1", ("fd00::1", "::1")),
        ("127.0.0.1", ("127.0.0.1",)),
        ("::1", ("::1",)),
    ],
)
def test_the_client_port_binds_the_loopback_of_its_family(address: str, bound: tuple[str, ...]) -> None:
    """The other family may be switched off; no address twice."""
    cluster = wish(f'cluster: one\nversion: "3.6.14"\nnodes: {{n1: "{address}"}}\n')
    assert client_addresses(cluster.nodes[0]) == bound


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("--a=b", "--a=b"),
        ("--a=50%", "--a=50%%"),
        ("--a=$HOME", "--a=$$HOME"),
        ("--a=b c", '"--a=b c"'),
        ('--a={"b": 1}', '"--a={\\"b\\": 1}"'),
        ("--a=b\\c", '"--a=b\\\\c"'),
        ("--a='b'", "\"--a='b'\""),
        ("--a=;", '"--a=;"'),
        ("", '""'),
    ],
)
def test_one_argument_for_systemd(value: str, written: str) -> None:
    """Specifiers, variables, quotes and blanks arrive as they were typed."""
    assert render.systemd(value) == written


def _as_systemd_reads(text: str) -> str:
    """Undo the quoting as systemd.syntax(7) describes it, one word."""
    if text.startswith('"'):
        assert text.endswith('"')
        text = text[1:-1]
        out, rest = "", iter(text)
        for char in rest:
            assert char != '"'
            out += next(rest) if char == "\\" else char
        text = out
    return text.replace("%%", "%").replace("$$", "$")


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
def test_any_argument_comes_back(value: str) -> None:
    """Read by systemd's own rules, every printable argument is what it was."""
    assert _as_systemd_reads(render.systemd(value)) == value


@pytest.fixture
def wrapper(tmp_path: Path) -> Path:
    """The wrapper on this machine, around an etcdctl that prints its environment and arguments."""
    places = f"paths: {{bin: {tmp_path}/bin, config: {tmp_path}/conf}}\n"
    cluster = wish(extra=places + "service: {PrivateTmp: null}\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/etcdctl.env").write_text(render.etcdctl_env(cluster, cluster.nodes[0]), "utf-8")
    script = tmp_path / "bin/etcdctl.sh"
    script.write_text(render.etcdctl_sh(cluster), "utf-8")
    fake = tmp_path / "bin/etcdctl"
    fake.write_text('#!/bin/sh\nenv | grep ^ETCDCTL_ | sort\nprintf "<%s>\\n" "$@"\n', "utf-8")
    for path in (script, fake):
        path.chmod(0o755)
    return script


def call(script: Path, *args: str) -> list[str]:
    done = subprocess.run([script, *args], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.splitlines()


def test_the_wrapper_knows_the_way(wrapper: Path) -> None:
    """One just types: endpoint and certificates are there, arguments pass untouched."""
    found = call(wrapper, "put", "a key", "--", "--endpoints=x")
    assert "ETCDCTL_ENDPOINTS=https://10.0.0.11:2379" in found
    assert f"ETCDCTL_KEY={wrapper.parents[1]}/conf/pki/current/etcdctl.key" in found
    assert not any(line.startswith("ETCDCTL_API") for line in found)
    assert found[-4:] == ["<put>", "<a key>", "<-->", "<--endpoints=x>"]


@pytest.mark.parametrize("flag", ["cacert", "cert", "dial-timeout", "endpoints", "key"])
@pytest.mark.parametrize("spelled", ["--{}=x", "--{} x"])
def test_what_is_typed_wins(wrapper: Path, flag: str, spelled: str) -> None:
    """etcdctl dies of a setting given as flag and as variable, so the wrapper gives it once."""
    found = call(wrapper, *spelled.format(flag).split(), "get", "k")
    names = {line.partition("=")[0] for line in found if line.startswith("ETCDCTL_")}
    assert len(names) == 4
    assert f"ETCDCTL_{flag.upper().replace('-', '_')}" not in names


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root to become nobody")
def test_the_wrapper_says_who_may_use_it(wrapper: Path) -> None:
    """Whoever may not read the environment gets the way out, not a riddle."""
    for folder in wrapper.parents:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)
    (wrapper.parents[1] / "conf").chmod(0o700)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(wrapper), "get", "k"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "use sudo, or join the group etcd" in done.stderr
