"""A whole store as one file, and back: a tar, its one folder named as the cluster.

Never seen on a disk but encrypted. What is unpacked is taken only as a store writes it: folders,
files, and the one link.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import UsageError
from ..secret import Secret
from .disk import PARTIAL, Disk

_LINK = "current"
_SPARE = ".lock"

Tree = Mapping[str, bytes | str]
"""Content of files, and targets of links, by their paths in the store."""


@dataclass(frozen=True)
class Archive:
    """The name of a cluster, and all that its store holds."""

    cluster: str
    tree: Tree

    @property
    def bytes(self) -> int:
        """How much that is."""
        return sum(len(content) for content in self.tree.values())


def tree(root: Path) -> Tree:
    """Read all of a store but its lock and what interrupted runs left."""
    return dict(sorted(_walk(root, root)))


def _walk(root: Path, folder: Path) -> Iterator[tuple[str, bytes | str]]:
    for path in folder.iterdir():
        name = str(path.relative_to(root))
        if path.name.startswith(PARTIAL) or name == _SPARE:
            continue
        if path.is_symlink():
            yield name, str(path.readlink())
        elif path.is_dir():
            yield from _walk(root, path)
        else:
            yield name, path.read_bytes()


def pack(archive: Archive) -> Secret:
    """Write a tar, modes and owner as they should be wherever it is unpacked."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in archive.tree.items():
            entry = tarfile.TarInfo(f"{archive.cluster}/{name}")
            entry.mode = 0o600
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return Secret(stream.getvalue())


def unpack(content: Secret, place: str) -> Archive:
    """Read a tar; UsageError if it is none, or holds what no store does."""
    found: dict[str, bytes | str] = {}
    clusters: set[str] = set()
    try:
        with tarfile.open(fileobj=io.BytesIO(content.reveal), mode="r:") as tar:
            for entry in tar:
                if entry.isdir():
                    continue
                cluster, name = _parted(entry.name)
                clusters.add(cluster)
                found[name] = _content(tar, entry, name)
    except (tarfile.TarError, ValueError) as error:
        raise UsageError(f"{place} holds no backup of certificates: {error}; nothing was changed") from error
    if len(clusters) != 1:
        raise UsageError(f"{place} holds no backup of one cluster's certificates; nothing was changed")
    return Archive(clusters.pop(), found)


def _parted(text: str) -> tuple[str, str]:
    parts = PurePosixPath(text).parts
    if len(parts) < 2 or text.startswith("/") or ".." in parts:
        raise ValueError(f"{text!r} in it is no file of a store")
    return parts[0], "/".join(parts[1:])


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo, name: str) -> bytes | str:
    if entry.issym() and name == _LINK:
        return entry.linkname
    stream = tar.extractfile(entry) if entry.isreg() else None
    if stream is None:
        raise ValueError(f"{entry.name!r} in it is neither a file nor the link `{_LINK}`")
    return stream.read()


def write(archive: Archive, root: Path, disk: Disk) -> None:
    """Bring a store to the disk, durably, at a place where nothing is."""
    shutil.rmtree(root, ignore_errors=True)
    disk.directory(root)
    for name, content in archive.tree.items():
        path = root / name
        disk.directory(path.parent)
        if isinstance(content, str):
            path.symlink_to(content)
        else:
            disk.file(path, content)
    for folder in (*(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink()), root):
        disk.sync(folder)
