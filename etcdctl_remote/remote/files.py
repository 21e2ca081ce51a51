"""The one way bytes get onto a host: beside their place, verified, then renamed.

Nothing is ever half written: a reader sees the old file or the new one, with its final
owner and mode. Contents travel on standard input only.
"""

from __future__ import annotations

import hashlib
import io
import posixpath
import secrets
import shlex
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..desired.spec import DirSpec, FileSpec, LinkSpec
from ..errors import CommandFailed, UsageError
from .host import Command, Host

NO_SPACE, BAD_SUM = 28, 65
"""Exit codes of the scripts below: ENOSPC's number, and EX_DATAERR."""
UPLOAD_TIMEOUT = 3600.0
"""Seconds for a release over a slow line; a link that is dead is noticed long before."""

# What a power cut leaves behind may hold keys, so each write sweeps its own directories. An hour is
# far longer than any write: nobody else's work is taken away.
_SWEEP = r"""
sweep() {
  find "$1/" -maxdepth 1 -mmin +60 \( -type d -name '.etcdctl-remote.????????????' \
    -o -type f -name '*.part-????????????' \) -exec rm -rf -- {} + 2>/dev/null || :
}
# $1 directory of generations, with the link `current` to one of them; $2 the one it named before:
# both stay. Nothing else is looked at but names of 16 hexadecimal digits.
retire() {
  now=$(readlink -- "$1/current") || return 0
  [ -n "$2" ] && [ "$2" != "$now" ] || return 0
  for old in "$1"/????????????????; do
    case ${old##*/} in *[!0-9a-f]* | "$now" | "$2") continue ;; esac
    [ ! -d "$old" ] || [ -L "$old" ] || rm -rf -- "$old"
  done
}
"""

# SIGPIPE is ignored, so that a broken link cannot end a script before it has cleaned up.
# $1 temporary directories, quoted for eval; $2 sum of all contents; $3 the temporary files
# in that order, $4 kilobytes to come; then per directory to make: "dir" path mode owner;
# per owner: "own" owner files; then shell commands to evaluate.
_WRITE = (
    _SWEEP
    + r"""
set -eu
umask 077
temporary=$1 sum=$2 files=$3 need=$4
shift 4
trap 'eval "rm -rf -- $temporary"' EXIT
trap 'exit 143' HUP INT TERM
trap '' PIPE
while [ "${1-}" = dir ]; do
  if [ ! -d "$2" ]; then
    (umask 022; mkdir -p -- "${2%/*}/")
    mkdir -- "$2"
  fi
  chown -- "$4" "$2"
  chmod -- "$3" "$2"
  shift 4
done
if [ -n "$temporary" ]; then
  eval "for one in $temporary; do "'[ -d "${one%/*}/" ] || (umask 022; mkdir -p -- "${one%/*}/"); done'
  eval "mkdir -- $temporary"
  tar -xmpf - -C / --no-same-owner || {
    eval "df -Pk -- $temporary" | while read -r _ _ _ free _ mount; do
      case $free in *[!0-9]*) continue ;; esac
      [ "$free" -ge "$need" ] || { echo "$mount has $free KiB free, $need KiB are needed" >&2; exit 28; }
    done || exit 28
    exit 65
  }
  if [ -n "$files" ]; then
    got=$(eval "cat -- $files" | sha256sum)
    [ "${got%% *}" = "$sum" ] || { echo "what arrived is not what was sent" >&2; exit 65; }
  fi
  while [ "${1-}" = own ]; do
    eval "chown -h -- \"\$2\" $3"
    shift 3
  done
  [ -z "$files" ] || eval "sync -- $files"
  for step in "$@"; do eval "$step"; done
fi
"""
)

# $1 destination, $2 temporary name beside it, $3 sum, $4 KiB to come, $5 "durable" or nothing
_UPLOAD = (
    _SWEEP
    + r"""
set -eu
umask 077
trap 'rm -f -- "$2"' EXIT
trap 'exit 143' HUP INT TERM
trap '' PIPE
[ -d "${1%/*}/" ] || (umask 022; mkdir -p -- "${1%/*}/")
full() {
  df -Pk -- "${1%/*}/" | while read -r _ _ _ free _ mount; do
    case $free in *[!0-9]*) continue ;; esac
    [ "$free" -ge "$2" ] || { echo "$mount has $free KiB free, $2 KiB are needed" >&2; exit 28; }
  done
}
sweep "${1%/*}"
cat >"$2" || { rm -f -- "$2"; full "$1" "$4" || exit 28; exit 1; }
got=$(sha256sum <"$2")
[ "${got%% *}" = "$3" ] || { echo "what arrived is not what was sent: sha256 ${got%% *}" >&2; exit 65; }
chmod -- 0644 "$2"
[ -z "$5" ] || sync -- "$2"
mv -fT -- "$2" "$1"
[ -z "$5" ] || sync -- "${1%/*}/"
! command -v restorecon >/dev/null || restorecon -- "$1"
"""
)


@dataclass(frozen=True)
class Around:
    """Shell commands that belong to a write, for the price of no further round trip."""

    accept: str = ""
    """Gets each new file as its last argument; where it fails, nothing takes its place."""
    then: str = ""
    """Run once everything is in its place."""


NOTHING = Around()


def write(
    host: Host,
    files: Sequence[FileSpec] = (),
    dirs: Sequence[DirSpec] = (),
    links: Sequence[LinkSpec] = (),
    around: Around = NOTHING,
) -> None:
    """Make directories, write files, then switch links: each atomically, all in one round trip.

    Directories come first and existing ones get owner and mode; a missing parent, of a file or
    a link too, is made with 0755. All files are verified before the first one takes its place.
    """
    command, payload = written(files, dirs, links, secrets.token_hex(6), around)
    try:
        host.run(command, payload)
    except CommandFailed as error:
        raise explained(error) from error


def written(
    files: Sequence[FileSpec],
    dirs: Sequence[DirSpec],
    links: Sequence[LinkSpec],
    nonce: str,
    around: Around = NOTHING,
) -> tuple[Command, bytes]:
    """Build the command and its input; pure but for the nonce it is given."""
    placed = [file.path for file in files] + [link.path for link in links]
    for path in placed + [entry.path for entry in dirs]:
        refuse_odd(path)
    places = dict.fromkeys(posixpath.dirname(path) for path in placed)
    aside = {place: posixpath.join(place, f".etcdctl-remote.{nonce}") for place in places}
    payload = archive(files, links, aside)
    names = [temporary(file.path, aside) for file in files]
    args = [shlex.join(aside.values()), content_sum(files), shlex.join(names), kib(len(payload))]
    for entry in dirs:
        args += ["dir", entry.path, f"{entry.mode:o}", f"{entry.owner}:{entry.group}"]
    for owner in dict.fromkeys(owner_of(file) for file in files):
        if owner != "root:root":
            args += [
                "own",
                owner,
                shlex.join(temporary(f.path, aside) for f in files if owner_of(f) == owner),
            ]
    args += [f"sweep {shlex.quote(place)}" for place in places]
    args += [f"{around.accept} {shlex.quote(name)}" for name in names if around.accept]
    generations = [
        shlex.quote(posixpath.dirname(link.path)) for link in links if link.path.endswith("/current")
    ]
    args += [f"former=$(readlink -- {place}/current || :)" for place in generations]
    args += [*moves(files, aside), *moves(links, aside)]
    args += [
        f"! command -v restorecon >/dev/null || restorecon -- {shlex.join(file.path for file in files)}"
    ] * bool(files)
    args += [f"sync -- {shlex.join(places)}"] * bool(places)
    args += [f'retire {place} "$former"' for place in generations]
    args += [around.then] * bool(around.then)
    return Command(_WRITE, tuple(args), about=about(files, dirs, links)), payload


def refuse_odd(path: str) -> None:
    """Paths are absolute and hold no NUL; everything else is quoted."""
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise UsageError(f"not an absolute path of a file: {path!r}")


def temporary(path: str, aside: dict[str, str]) -> str:
    """Where a file waits: the same name in a directory only root can enter, on the same file system."""
    place, name = posixpath.split(path)
    return posixpath.join(aside[place], name)


def archive(files: Sequence[FileSpec], links: Sequence[LinkSpec], aside: dict[str, str]) -> bytes:
    """A tar of everything under its temporary name, with its final mode and root as its owner."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for file in files:
            member = tarfile.TarInfo(temporary(file.path, aside).lstrip("/"))
            member.size, member.mode = len(file.data), file.mode
            tar.addfile(member, io.BytesIO(file.data))
        for link in links:
            member = tarfile.TarInfo(temporary(link.path, aside).lstrip("/"))
            member.type, member.linkname, member.mode = tarfile.SYMTYPE, link.target, 0o777
            tar.addfile(member)
    return buffer.getvalue()


def moves(entries: Iterable[FileSpec | LinkSpec], aside: dict[str, str]) -> list[str]:
    """One `mv` per directory: a rename of each entry over the old one, never into a directory."""
    by_place: dict[str, list[str]] = {}
    for entry in entries:
        by_place.setdefault(posixpath.dirname(entry.path), []).append(temporary(entry.path, aside))
    return [
        f"mv -f -t {shlex.quote(place or '/')} -- {shlex.join(names)}" for place, names in by_place.items()
    ]


def owner_of(file: FileSpec) -> str:
    return f"{file.owner}:{file.group}"


def content_sum(files: Sequence[FileSpec]) -> str:
    """One digest over all contents in order: sizes are fixed by tar, so it fixes each file."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.data)
    return digest.hexdigest()


def kib(size: int) -> str:
    """Kibibytes, rounded up with some room for the file system's own."""
    return str(size // 1024 + 64)


def about(files: Sequence[FileSpec], dirs: Sequence[DirSpec], links: Sequence[LinkSpec]) -> str:
    """Name what is written: the paths, or how many."""
    entries: tuple[FileSpec | LinkSpec | DirSpec, ...] = (*files, *links, *dirs)
    paths = [entry.path for entry in entries]
    shown = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
    return f"write {shown or 'nothing'}"


def upload(
    host: Host,
    local: Path,
    remote: str,
    sha256: str,
    *,
    sent: Callable[[int], None] | None = None,
    durable: bool = True,
) -> None:
    """Stream a big file to `remote`, owned by root, 0644; the old one stays until the sum was verified.

    Memory stays flat whatever the size. `sent` gets the number of bytes after each piece. A file
    that need not outlive a power cut is spared the wait for the disk: `durable=False`.
    """
    refuse_odd(remote)
    part = f"{remote}.part-{secrets.token_hex(6)}"
    args = (remote, part, sha256, kib(local.stat().st_size), "durable" * durable)
    command = Command(_UPLOAD, args, about=f"send {local.name} to {remote}", timeout=UPLOAD_TIMEOUT)
    try:
        with local.open("rb") as stream:
            host.run(command, stream, sent=sent)
    except CommandFailed as error:
        raise explained(error) from error


def explained(error: CommandFailed) -> CommandFailed:
    """Add what to do about the failures that have a code of their own."""
    hints = {
        NO_SPACE: "free some space on that file system, then run the task again",
        BAD_SUM: "run the task again; if it happens twice, look for a fault in the network or the disk",
    }
    hint = hints.get(error.exit_status, error.hint)
    return CommandFailed(error.host, error.about, error.exit_status, error.stderr, hint)
