"""Releases are laid out as the official site does, and never trusted without their sum."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from etcdctl_remote.errors import Failed
from etcdctl_remote.lab import releases


@pytest.mark.cluster
@pytest.mark.parametrize("version", releases.FOR_TESTS)
def test_a_release_has_the_official_layout(version: str, release: Callable[[str], Path]) -> None:
    """One top folder named as the archive, with the programs of that minor, and SHA256SUMS beside it."""
    archive = release(version)
    assert archive.parent.name == f"v{version}"
    top = archive.name.removesuffix(".tar.gz")
    programs = {"etcd", "etcdctl"} if version.startswith("3.4.") else {"etcd", "etcdctl", "etcdutl"}
    with tarfile.open(archive) as tar:
        members = {member.name: member for member in tar}
    assert members.keys() >= {top, *(f"{top}/{program}" for program in programs)}
    assert all(members[f"{top}/{program}"].mode == 0o755 for program in programs)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert f"{digest}  {archive.name}" in (archive.parent / "SHA256SUMS").read_text(encoding="ascii")


def test_the_same_programs_make_the_same_bytes(tmp_path: Path) -> None:
    """A release packed twice has one sum, whatever the hour and the file times."""
    sums = []
    for number in ("1", "2"):
        tree = tmp_path / number / "tree"
        tree.mkdir(parents=True)
        (tree / "etcd").write_bytes(b"program")
        releases._pack(releases.archive_name("3.6.14"), tree, tmp_path / number, "Made up.")
        sums.append(releases._sha256(tmp_path / number / releases.archive_name("3.6.14")))
    assert sums[0] == sums[1]


def test_a_tampered_archive_is_not_taken(tmp_path: Path) -> None:
    """An archive in the cache that is not what SHA256SUMS says counts as absent; so all sources are asked."""
    folder = tmp_path / "v3.4.99"
    folder.mkdir()
    archive = folder / releases.archive_name("3.4.99")
    archive.write_bytes(b"honest")
    digest = hashlib.sha256(b"honest").hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  {archive.name}\n", encoding="ascii")
    assert releases.ensure("3.4.99", tmp_path) == archive
    archive.write_bytes(b"tampered")
    with pytest.raises(Failed, match=r"no source gives etcd 3\.4\.99") as caught:
        releases.ensure("3.4.99", tmp_path)
    assert caught.value.hosts.keys() == {"official", "go modules", "debian"}
