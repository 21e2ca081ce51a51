"""Get the etcd archive onto this computer, its checksum verified every time.

The sum is the inventory's own, or `SHA256SUMS` beside the archive: over https, or lying beside
a local file. A download can be cut off anywhere and goes on where it stopped; what lies in the
cache is hashed again before each use, because a cache is only a place where bytes may rot.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .desired import release as names
from .desired.model import ReleaseSpec, Version
from .errors import Failed, UsageError

CHUNK = 1 << 20
TIMEOUT = 30.0
"""Seconds without a single byte before a download is given up (and resumed)."""
NEWS = 2.0
"""Seconds between two lines that say how far a download is."""
QUICK = 5.0
"""Seconds to wait for the sums of an archive that we have."""
STALLED = 180.0
"""Seconds that another run's download may stand still before we wait no longer: it tries for 120."""
ATTEMPTS = 4
BY_HAND = (
    "or fetch the archive and SHA256SUMS by hand into one folder, and name it in the inventory: "
    "`release: {archive: FOLDER/etcd-v{version}-linux-{arch}.tar.gz}`"
)
WRONG_SUM = f"the mirror is damaged or the sum is another file's; check both, {BY_HAND}"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Archive:
    """A verified archive on this computer."""

    path: Path
    sha256: str
    size: int


@dataclass(frozen=True)
class _Source:
    """One archive to download: from where, to where, with which sum."""

    url: str
    path: Path
    sha256: str

    @property
    def part(self) -> Path:
        return self.path.with_name(self.path.name + ".part")


def acquire(release: ReleaseSpec, version: Version, arch: str, cache: Path, say: Say) -> Archive:
    """Return the verified archive of one release and architecture: local, cached or downloaded.

    `say` is told what goes on, and every few seconds how far a download is.
    """
    if release.archive:
        return _local(release, version, arch)
    url = names.archive_url(release, version, arch)
    path = _place(release, version, arch, cache)
    expected = names.pinned(release, version, arch) or _told_sum(release, version, path, say)
    if path.exists():
        found = _hashed(path)
        if found.sha256 == expected:
            return found
        say(f"{path} is not what it should be any more; fetching it again")
    return _download(_Source(url, path, expected), say)


def look(release: ReleaseSpec, version: Version, arch: str, cache: Path, say: Say) -> str:
    """Say where `acquire` would get the archive, or raise what it would; nothing big is fetched.

    Of a mirror only the sums are read, and the archive's answer is closed at its first byte.
    """
    if release.archive:
        return f"{_local(release, version, arch).path} is there, with the right sum"
    path = _place(release, version, arch, cache)
    pin = names.pinned(release, version, arch)
    expected = pin or _told_sum(release, version, path, say)
    if path.exists() and _hashed(path).sha256 == expected:
        return f"{path} is there, with the right sum"
    url = names.archive_url(release, version, arch)
    try:
        _open(url, 0).close()
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error
    if pin:
        _hold_against_sums(release, version, _Source(url, path, pin))
    return f"{url} can be fetched"


def _hold_against_sums(release: ReleaseSpec, version: Version, source: _Source) -> None:
    """Refuse a pinned sum other than the mirror's own, if that can be read."""
    try:
        told = _fetched_sum(release, version, source.path, QUICK)
    except (Failed, UsageError):
        return
    if told != source.sha256:
        sums = names.sums_url(release, version)
        seen = f"  expected {source.sha256} (release.sha256)\n  seen     {told} ({sums})"
        raise Failed(f"{source.url}: wrong checksum\n{seen}", WRONG_SUM)


def _place(release: ReleaseSpec, version: Version, arch: str, cache: Path) -> Path:
    """Say where an archive is kept, and make the folder: each mirror has one of its own."""
    origin = hashlib.sha256(release.url.encode()).hexdigest()[:8]
    path = cache / origin / f"v{version}" / names.archive_name(version, arch)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failed(
            f"{path.parent}: the folder for releases cannot be made: {error.strerror}",
            "make it yours, or name another by XDG_CACHE_HOME",
        ) from error
    return path


def _local(release: ReleaseSpec, version: Version, arch: str) -> Archive:
    path = Path(names.local_archive(release.archive or "", version, arch))
    if not path.is_file():
        hint = "put the archive there, or mend `release.archive` ({version} and {arch} are filled in)"
        raise UsageError(f"{path}: there is no such archive (etcd {version}, {arch})", hint)
    expected, told = names.pinned(release, version, arch), "release.sha256"
    if expected is None:
        expected, told = _cached_sum(path), str(path.with_name(names.SUMS))
    if expected is None:
        hint = (
            f"put the release's {names.SUMS} beside it, or its sum under `release.sha256: {{{path.name}: …}}`"
        )
        raise UsageError(f"{path}: no checksum to verify it with", hint)
    found = _hashed(path)
    if found.sha256 != expected:
        hint = "the file is damaged or cut short, or the sum belongs to another one: fetch it again"
        raise Failed(f"{path}: wrong checksum\n{_compare(expected, told, found)}", hint)
    return found


def _compare(expected: str, told: str, found: Archive) -> str:
    return f"  expected {expected} ({told})\n  seen     {found.sha256} ({found.size} bytes)"


def _cached_sum(path: Path) -> str | None:
    """Look the archive up in the SHA256SUMS beside it."""
    try:
        text = path.with_name(names.SUMS).read_text("utf-8", "replace")
    except FileNotFoundError:
        return None
    return names.parse_sums(text).get(path.name)


def _told_sum(release: ReleaseSpec, version: Version, path: Path, say: Say) -> str:
    """Ask the mirror each time: who changes an archive here can change the sums beside it.

    Without a network an archive that was fetched before is good enough, and that is said.
    """
    kept = _cached_sum(path) if path.exists() else None
    try:
        return _fetched_sum(release, version, path, QUICK if kept else TIMEOUT)
    except Failed as problem:
        if kept is None or not isinstance(problem.__cause__, OSError):
            raise
        say(f"{problem.message}; the sums kept from the last time decide")
        return kept


def _fetched_sum(release: ReleaseSpec, version: Version, path: Path, timeout: float) -> str:
    """Fetch SHA256SUMS over https and keep it beside the archive."""
    url = names.sums_url(release, version)
    if not url.startswith("https://"):
        hint = f"use https, or pin the sum: `release.sha256: {{{path.name}: …}}`"
        raise UsageError(f"{url}: a checksum over plain http can be forged", hint)
    try:
        with _open(url, 0, timeout) as answer:
            text, last = answer.read(CHUNK).decode("utf-8", "replace"), answer.geturl()
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error
    if not last.startswith("https://"):
        raise Failed(f"{url}: sent us on to {last}, which can be forged", "use a mirror that stays on https")
    found = names.parse_sums(text).get(path.name)
    if found is None:
        raise Failed(
            f"{url}: has no sum for {path.name}", f"is this release made for that machine? {BY_HAND}"
        )
    _replace(path.with_name(names.SUMS), text.encode())
    return found


def _download(source: _Source, say: Say) -> Archive:
    """Fetch into a `.part` file, one process at a time, and rename it once the sum is right."""
    with source.part.open("ab+") as part:
        _lock(source, part, say)
        if source.path.exists():  # somebody else was faster while we waited
            found = _hashed(source.path)
            if found.sha256 == source.sha256:
                source.part.unlink(missing_ok=True)
                return found
        say(f"fetching {source.url}")
        resumed = part.seek(0, os.SEEK_END) > 0
        found = _filled(source, part, say)
        if found.sha256 != source.sha256 and resumed:
            say("the piece from an earlier download does not fit; starting over")
            part.truncate(0)
            found = _filled(source, part, say)
        if found.sha256 != source.sha256:
            part.truncate(0)
            told = "the inventory's or SHA256SUMS'"
            raise Failed(f"{source.url}: wrong checksum\n{_compare(source.sha256, told, found)}", WRONG_SUM)
        os.fsync(part.fileno())
        source.part.replace(source.path)
    return found


def _lock(source: _Source, part: BinaryIO, say: Say) -> None:
    """Wait while another run fetches the same archive, as long as it gets on."""
    size, moved, told = -1, time.monotonic(), False
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if not told:
            say(f"{source.path.name} is being fetched by another run; waiting for it")
            told = True
        now = os.fstat(part.fileno()).st_size
        size, moved = (size, moved) if now == size else (now, time.monotonic())
        if time.monotonic() - moved > STALLED:
            hint = f"end the other run (`fuser {source.part}` names it), then run again; {BY_HAND}"
            raise Failed(f"{source.part}: another run has fetched nothing for {STALLED:g} s", hint)
        time.sleep(0.1)


def _filled(source: _Source, part: BinaryIO, say: Say) -> Archive:
    """Read to the end, going on where the link broke; hash what comes as it comes."""
    total = hashlib.sha256()
    part.seek(0)
    while piece := part.read(CHUNK):
        total.update(piece)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            total = _read(source, part, total, say)
            return Archive(source.path, total.hexdigest(), part.tell())
        except (OSError, http.client.HTTPException) as error:
            final = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if final or attempt == ATTEMPTS:
                raise _unreachable(source.url, error, part.tell()) from error
            say(f"the download broke at {part.tell()} bytes ({error}); going on from there")
    raise AssertionError("unreachable")


def _read(source: _Source, part: BinaryIO, total: hashlib._Hash, say: Say) -> hashlib._Hash:
    have = part.seek(0, os.SEEK_END)
    try:
        answer = _open(source.url, have)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        # Nothing lies beyond what we have: it was complete, or is another file's.
        return total
    with answer:
        if have and answer.status != 206:
            part.truncate(0)
            have, total = 0, hashlib.sha256()
        length = answer.headers.get("Content-Length")
        size = have + int(length) if length else None
        told = time.monotonic()
        while piece := answer.read1(CHUNK):
            part.write(piece)
            total.update(piece)
            if time.monotonic() - told > NEWS:
                told = time.monotonic()
                say(f"{source.path.name}: {_mib(part.tell())}{f' of {_mib(size)}' if size else ''}")
        if size is not None and part.tell() < size:
            raise http.client.IncompleteRead(b"", size - part.tell())
    return total


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def _open(url: str, start: int, timeout: float = TIMEOUT) -> http.client.HTTPResponse:
    """Ask for a file from byte `start` on; only http and https ever get here."""
    request = urllib.request.Request(url, headers={"User-Agent": "etcdctl-remote"})  # noqa: S310
    if start:
        request.add_header("Range", f"bytes={start}-")
    answer: http.client.HTTPResponse = urllib.request.build_opener().open(request, timeout=timeout)
    return answer


def _unreachable(url: str, error: Exception, have: int = 0) -> Failed:
    kept = f"; {have} bytes are kept" if have else ""
    if isinstance(error, urllib.error.HTTPError):
        seen = f"the server answered {error.code} {error.reason}"
        return Failed(
            f"{url}: {seen}{kept}", f"is that release published there? Check `release.url`, {BY_HAND}"
        )
    if isinstance(error, http.client.IncompleteRead):
        seen = f"the archive ended {error.expected} bytes early"
    else:
        reason = getattr(error, "reason", None) or error
        seen = str(reason) or type(error).__name__
    return Failed(f"{url}: {seen}{kept}", f"run again{', it goes on from there' if have else ''}, {BY_HAND}")


def _hashed(path: Path) -> Archive:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        return Archive(path, found, file.tell())


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
