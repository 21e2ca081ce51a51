"""The table of flags against the programs themselves, for each release that can be had here."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from etcdctl_remote.desired import settings, versions
from etcdctl_remote.desired.hostspec import Membership, flags
from etcdctl_remote.desired.owned import OWNED
from etcdctl_remote.lab.releases import FOR_TESTS
from tests.conftest import Release
from tests.unit.desired.wishes import wish

URL = "http://127.0.0.1:1"
SAMPLES = {
    "initial-cluster-state": "existing",
    "discovery-fallback": "exit",
    "proxy": "off",
    "v2-deprecation": "write-only",
    "feature-gates": "CompactHashCheck=true",
    "log-output": "default",
}
LISTED = {"ca.crl": b"", "peer-ca.crl": b""}
UNDOCUMENTED = {"config-file", "version"}
"""Shown in the head of the help text, not in its list."""
FORGOTTEN_BY_HELP = {
    "3.4": {
        "enable-grpc-gateway",
        "experimental-enable-lease-checkpoint-persist",
        "log-output",
        "unsafe-no-fsync",
    },
    "3.5": {"experimental-snapshot-catchup-entries"},
}
HELP_IS_STALE = {"3.7": {"discovery", "discovery-proxy"}}
"""Still in the help text of 3.7, and refused by its program (the next test proves it)."""

Etcd = Callable[..., str]


@pytest.fixture(params=FOR_TESTS)
def version(request: pytest.FixtureRequest) -> str:
    """Each release of the tests."""
    return str(request.param)


@pytest.fixture
def etcd(version: str, release: Release, programs: Release, tmp_path: Path) -> Etcd:
    """Run etcd of that release; what it says comes back. It never gets as far as serving."""
    release(version)
    program = programs(version) / "etcd"

    def run(*args: str) -> str:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("ETCD_")}
        done = subprocess.run(
            [program, *args], cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=60
        )
        return done.stdout + done.stderr

    return run


def sample(name: str) -> str:
    """Give a value that this flag accepts."""
    flag = settings.flags()[name]
    if name in SAMPLES or flag.choices:
        return SAMPLES.get(name) or flag.choices[0]
    kinds = {"bool": "true", "uint": "1", "int": "1", "duration": "1s", "retention": "1h"}
    return kinds.get(flag.kind, URL if name.endswith("urls") or name == "cors" else "x")


def test_the_help_lists_what_the_table_knows(version: str, etcd: Etcd) -> None:
    """Both ways: no flag is missing in the table, none was made up."""
    release = versions.wanted(version)
    listed = set(re.findall(r"(?m)^\s+--([a-z0-9.-]+)", etcd("--help")))
    listed -= HELP_IS_STALE.get(release.line, set())
    unlisted = UNDOCUMENTED | FORGOTTEN_BY_HELP.get(release.line, set())
    assert listed == set(settings.known(release)) - unlisted


def test_the_program_takes_every_flag_of_the_table(version: str, etcd: Etcd) -> None:
    """All flags at once with a value each; the program stumbles only over the last, which no etcd has."""
    known = [name for name in settings.known(versions.wanted(version)) if name not in UNDOCUMENTED]
    said = etcd(*(f"--{name}={sample(name)}" for name in known), "--no-etcd-has-this")
    assert "flag provided but not defined: -no-etcd-has-this" in said


def test_the_program_refuses_what_the_table_does_not_know(version: str, etcd: Etcd) -> None:
    """Flags of other releases: removed before, or not yet there."""
    absent = set(settings.flags()) - set(settings.known(versions.wanted(version)))
    taken = {
        name for name in absent if "flag provided but not defined" not in etcd(f"--{name}={sample(name)}")
    }
    assert absent
    assert taken == set()


def test_the_program_takes_our_whole_command_line(version: str, etcd: Etcd) -> None:
    """A node's flags get as far as reading the certificates, which are not there."""
    cluster = wish(version=version, extra="ports: {metrics: 2381}\n")
    node = cluster.nodes[0]
    line = flags(cluster, node, Membership("token", "new"), LISTED) | {
        "listen-client-urls": "https://127.0.0.1:0",
        "listen-peer-urls": "https://127.0.0.1:0",
        "data-dir": "data",
        "cert-file": "missing.crt",
        "peer-cert-file": "missing.crt",
    }
    said = etcd(*(f"--{name}={value}" for name, value in sorted(line.items())))
    assert "not defined" not in said
    assert "missing.crt: no such file" in said, said


def test_the_owned_flags_are_really_owned(version: str) -> None:
    """Everything we set on the command line is either a setting of the operator's or refused as ours."""
    cluster = wish(version=version, extra="ports: {metrics: 2381}\npaths: {wal: /wal}\n")
    line = flags(cluster, cluster.nodes[0], Membership("token", "new"), LISTED)
    ours = set(line) - set(cluster.nodes[0].settings)
    assert ours <= set(OWNED)
    assert set(line) <= set(settings.known(cluster.version))
