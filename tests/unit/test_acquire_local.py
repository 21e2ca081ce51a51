"""An archive that lies on the laptop already: used where it is, and never unverified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from etcdctl_remote.acquire import Archive, acquire
from etcdctl_remote.desired.model import ReleaseSpec
from etcdctl_remote.errors import Failed, Problem, UsageError
from tests.unit.test_acquire import CONTENT, NAME, SUM, VERSION


def get(release: ReleaseSpec, folder: Path) -> Archive:
    """Acquire into an empty cache."""
    return acquire(release, VERSION, "amd64", folder / "cache", lambda line: None)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A local archive."""
    path = tmp_path / NAME
    path.write_bytes(CONTENT)
    return path


def here(path: Path, **sums: str) -> ReleaseSpec:
    return ReleaseSpec(archive=f"{path.parent}/etcd-v{{version}}-linux-{{arch}}.tar.gz", sha256=sums)


def test_a_local_archive_with_sums_beside_it(local: Path) -> None:
    """Version and architecture are filled in; the file is used where it lies."""
    local.with_name("SHA256SUMS").write_text(f"{SUM}  {NAME}\n", "utf-8")
    assert get(here(local), local.parent) == Archive(local, SUM, len(CONTENT))


def test_a_local_archive_with_a_pinned_sum(local: Path) -> None:
    """The inventory's sum goes before the one that lies beside."""
    local.with_name("SHA256SUMS").write_text(f"{'0' * 64}  {NAME}\n", "utf-8")
    assert get(here(local, **{NAME: SUM}), local.parent).sha256 == SUM


@pytest.mark.parametrize(
    ("damage", "kind", "said"),
    [
        (lambda path: path.unlink(), UsageError, "there is no such archive (etcd 3.6.14, amd64)"),
        (lambda path: path.with_name("SHA256SUMS").unlink(), UsageError, "no checksum to verify it with"),
        (lambda path: path.write_bytes(CONTENT[:9999]), Failed, "(9999 bytes)"),
    ],
)
def test_a_local_archive_that_cannot_be_used(
    local: Path, damage: Callable[[Path], None], kind: type[Problem], said: str
) -> None:
    """Missing, unverifiable, cut short: what was expected, what was seen, the fix."""
    local.with_name("SHA256SUMS").write_text(f"{SUM}  {NAME}\n", "utf-8")
    damage(local)
    with pytest.raises(kind) as caught:
        get(here(local), local.parent)
    assert said in caught.value.message
    assert caught.value.hint
