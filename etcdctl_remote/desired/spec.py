"""What one host should look like: directories, files, links, and the digest etcd runs with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ..secret import Secret


@dataclass(frozen=True)
class FileSpec:
    """A file with its whole content. `content` is a `Secret` for key material."""

    path: str
    content: bytes | Secret
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"

    @property
    def secret(self) -> bool:
        """Whether the content must never be shown in a diff, a log or an error."""
        return isinstance(self.content, Secret)

    @property
    def data(self) -> bytes:
        """The bytes that go on disk."""
        return self.content.reveal if isinstance(self.content, Secret) else self.content

    @property
    def sha256(self) -> str:
        """Hex digest of the content: what an observation compares."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class DirSpec:
    """A directory."""

    path: str
    mode: int
    owner: str = "root"
    group: str = "root"


@dataclass(frozen=True)
class LinkSpec:
    """A symbolic link, replaced atomically."""

    path: str
    target: str


@dataclass(frozen=True)
class HostSpec:
    """All that deploy puts on one host."""

    node: str
    dirs: tuple[DirSpec, ...]
    files: tuple[FileSpec, ...]
    links: tuple[LinkSpec, ...]
    digest: str
    """Hex digest of all that etcd reads only at start; the unit's Environment= carries it."""
    flags: frozenset[str] = frozenset()
    """etcd's command line, `--name=value` each, without what only a bootstrap reads."""
