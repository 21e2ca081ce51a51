"""How a release is named: archives, addresses and checksums in the official layout.

`v3.6.14/etcd-v3.6.14-linux-amd64.tar.gz` beside `v3.6.14/SHA256SUMS`, which covers every
archive of that release (scripts/release.sh; since 3.4). etcd signs its git tags, but no
archive: the sum is all there is to check.
"""

from __future__ import annotations

import re

from .model import ReleaseSpec, Version

SUMS = "SHA256SUMS"
ARCHES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}
"""What `uname -m` says → what etcd's archives are called."""
LINE = re.compile(r"([0-9a-fA-F]{64})[ \t]+\*?(\S.*)")


def arch_of(machine: str) -> str | None:
    """Translate `uname -m` into the archive's word; None where no release exists."""
    return ARCHES.get(machine)


def archive_name(version: Version, arch: str) -> str:
    """Name the archive of one release and architecture."""
    return f"{top_directory(version, arch)}.tar.gz"


def top_directory(version: Version, arch: str) -> str:
    """Name the directory that holds everything inside the archive."""
    return f"etcd-v{version}-linux-{arch}"


def archive_url(release: ReleaseSpec, version: Version, arch: str) -> str:
    """Say where the archive is downloaded."""
    return f"{release.url.rstrip('/')}/v{version}/{archive_name(version, arch)}"


def sums_url(release: ReleaseSpec, version: Version) -> str:
    """Say where the checksums are downloaded."""
    return f"{release.url.rstrip('/')}/v{version}/{SUMS}"


def local_archive(pattern: str, version: Version, arch: str) -> str:
    """Fill in the pattern of a local archive."""
    return pattern.replace("{version}", str(version)).replace("{arch}", arch)


def parse_sums(text: str) -> dict[str, str]:
    """Read a SHA256SUMS file: archive file name → sum. Lines that are something else are skipped."""
    found = (LINE.fullmatch(line.strip()) for line in text.splitlines())
    return {match[2].rpartition("/")[2]: match[1].lower() for match in found if match}


def pinned(release: ReleaseSpec, version: Version, arch: str) -> str | None:
    """Return the sum the inventory pins for this archive, if it does."""
    names = [archive_name(version, arch)]
    if release.archive:
        names.insert(0, local_archive(release.archive, version, arch).rpartition("/")[2])
    return next((release.sha256[name] for name in names if name in release.sha256), None)
