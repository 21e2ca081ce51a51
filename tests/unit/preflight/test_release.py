"""Whether the wanted release can be had: one finding, of the laptop."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from etcdctl_remote.desired.model import ReleaseSpec
from etcdctl_remote.observed.findings import Finding, Result
from etcdctl_remote.preflight.facts import Facts
from etcdctl_remote.preflight.release import obtainable

from .wish import cluster, fresh


def found(tmp_path: Path, *facts: Facts) -> list[Finding]:
    """Look for an archive of the inventory's in a folder."""
    wish = replace(cluster(), release=ReleaseSpec(archive=f"{tmp_path}/etcd-{{arch}}.tar.gz"))
    return obtainable(wish, facts, tmp_path / "cache")


def lacking(machine: str = "x86_64") -> Facts:
    return replace(fresh(), installed=False, machine=machine)


def test_nothing_is_looked_for_where_every_host_has_it(tmp_path: Path) -> None:
    """A missing archive is no failure then."""
    (one,) = found(tmp_path, replace(fresh(), installed=True))
    assert (one.node, one.check, one.result) == ("laptop", "release", Result.PASS)
    assert one.message == "every host has etcd 3.6.14"


def test_every_architecture_that_lacks_it_is_looked_for(tmp_path: Path) -> None:
    """The second fails in the words of a deploy, with the way out; what is there is said as well."""
    here = tmp_path / "etcd-amd64.tar.gz"
    here.write_bytes(b"archive")
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(b'archive').hexdigest()}  {here.name}\n")
    (one,) = found(tmp_path, lacking())
    assert (one.result, one.message) == (Result.PASS, f"{here} is there, with the right sum")
    (one,) = found(tmp_path, lacking(), lacking("aarch64"))
    assert one.result is Result.FAIL
    assert f"{here} is there" in one.message
    assert f"{tmp_path}/etcd-arm64.tar.gz: there is no such archive (etcd 3.6.14, arm64) → put" in one.message


def test_without_an_architecture_there_is_no_finding(tmp_path: Path) -> None:
    """No host answers, or there is no release for it, which its own row says."""
    assert found(tmp_path) == []
    assert found(tmp_path, lacking("riscv64")) == []
