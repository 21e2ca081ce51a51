"""An archive of any size: the release with a file in it that does not compress."""

from __future__ import annotations

import hashlib
import random
import tarfile
from pathlib import Path
from typing import IO

PIECE = 1 << 20


class Noise:
    """A file of `size` random bytes, made as it is read."""

    def __init__(self, size: int) -> None:
        self._left, self._random = size, random.Random(1)  # noqa: S311 (ballast)

    def read(self, size: int = PIECE) -> bytes:
        piece = self._random.randbytes(min(size, self._left))
        self._left -= len(piece)
        return piece


def padded(archive: Path, folder: Path, size: int) -> Path:
    """Copy a release archive, made to about `size` bytes, with SHA256SUMS beside it."""
    path = folder / archive.name
    ballast = max(0, size - archive.stat().st_size)
    with tarfile.open(archive) as old, tarfile.open(path, "w:gz", compresslevel=1) as new:
        for entry in old:
            new.addfile(entry, old.extractfile(entry) if entry.isreg() else None)
        top = entry.name.partition("/")[0]
        extra = tarfile.TarInfo(f"{top}/ballast")
        extra.size = ballast
        new.addfile(extra, _as_file(Noise(ballast)))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  {path.name}\n", "ascii")
    return path


def _as_file(noise: Noise) -> IO[bytes]:
    return noise  # type: ignore[return-value] # addfile only reads
