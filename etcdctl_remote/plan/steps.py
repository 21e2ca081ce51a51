"""Every kind of step the product takes. Each is idempotent and takes one or two round trips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..desired import service
from ..desired.hostspec import UNIT_PATH
from ..desired.spec import DirSpec, FileSpec, LinkSpec
from ..errors import CommandFailed, Refused
from ..observed.holding import HOLDS, holding
from ..observed.state import Data
from ..remote import files, units
from ..remote.host import Command, Host
from .step import Progress

_CREATE_USER = r"""
getent group "$1" >/dev/null || groupadd --system -- "$1"
id -u "$1" >/dev/null 2>&1 || useradd --system --no-create-home --home-dir "$2" \
  --gid "$1" --shell "$(command -v nologin || echo /bin/false)" --comment "etcd" -- "$1"
"""

# A mount point cannot be renamed: what is in it moves into a directory of its own there.
_MOVE_ASIDE = r"""
[ -e "$1" ] || exit 0
[ ! -s "$4" ] || cat -- "$4" >"$1/etcdctl-remote.identity" || exit 1
mountpoint -q -- "$1" || exec mv -T -- "$1" "$2"
mkdir -p -- "$3"
for entry in "$1"/* "$1"/.[!.]*; do
  case $entry in */lost+found | */moved-aside.*) continue ;; esac
  [ ! -e "$entry" ] || mv -- "$entry" "$3/" || exit 1
done
"""

_HOLDING = HOLDS + "data=$1 wal=$2\ndata_holds\n"

# etcd keeps a lock on its database, whoever started it; what decides is looked at in the instant before the move.
_SET_ASIDE = r"""
active=$(systemctl show -p ActiveState --value etcd.service)
case $active in
  inactive | failed) ;;
  *) echo "systemd says that etcd.service is ${active:-in no state}: it runs, or is about to" >&2; exit 75 ;;
esac
db=$1/member/snap/db
if [ -e "$db" ]; then
  flock -n "$db" true || { echo "$db is locked (flock: exit $?): by an etcd that systemd did not start" >&2; exit 75; }
fi
aside=moved-aside.$(date -u +%Y%m%dT%H%M%S)
for place do
  for entry in member wal wal.tmp; do
    [ -e "$place/$entry" ] || continue
    mkdir -p -- "$place/$aside" && mv -T -- "$place/$entry" "$place/$aside/$entry" || exit 1
  done
done
"""

# Paths up to `--` go; directories behind it go too if that left them empty.
_REMOVE = r"""
while [ "$1" != -- ]; do
  if mountpoint -q -- "$1"; then find "$1" -mindepth 1 -delete; else rm -rf -- "$1"; fi || exit 1
  shift
done
shift
for parent do rmdir -- "$parent" 2>/dev/null; done
exit 0
"""

# Unpacked beside its final place and moved there whole: a directory that exists is complete.
# The old and the new name never exist half-done, whenever the power goes. The archive goes
# before the wait for the disk, which then need not take it. Exit 65: it holds no etcd, or none for this host.
_UNPACK = r"""
set -eu
archive=$1 release=$2
new="$release.new.$$"
trap 'rm -rf "$new" "$archive"' EXIT
full() {
  rm -rf "$new"
  need=$(($(gzip -dc "$archive" | wc -c) / 1024 + 64))
  df -Pk -- "${release%/*}/" | while read -r _ _ _ free _ mount; do
    case $free in *[!0-9]*) continue ;; esac
    [ "$free" -ge "$need" ] || { echo "$mount has $free KiB free, $need KiB are needed" >&2; exit 28; }
  done
}
rm -rf "$release".new.*
mkdir -p "$new"
tar -xzf "$archive" -C "$new" --strip-components=1 --no-same-owner --no-same-permissions || { full || exit 28; exit 1; }
chmod -R u=rwX,go=rX "$new"
for program in etcd etcdctl; do
  [ -f "$new/$program" ] || { echo "it holds no $program one folder down" >&2; exit 65; }
done
ETCD_UNSUPPORTED_ARCH=arm64 "$new/etcd" --version >/dev/null || { echo "$new/etcd does not run on this host" >&2; exit 65; }
rm -f "$archive"
: >"$new/.complete"
sync -f "$new"
if [ -e "$release" ]; then mv -T "$release" "$release.broken.$(date +%Y%m%dT%H%M%S)"; fi
mv -T "$new" "$release"
"""


# Whoever led when the plan was made may not lead any more: only the member itself knows. A move
# that fails is no error: etcd hands leadership over by itself when it is told to stop.
_MOVE_LEADER = r"""
to=$1; shift
status=$("$@" endpoint status -w json) || exit 1
leader=$(printf '%s' "$status" | sed -n 's/.*"leader":\([0-9]*\).*/\1/p')
member=$(printf '%s' "$status" | sed -n 's/.*"member_id":\([0-9]*\).*/\1/p')
[ "$leader" != "$member" ] || "$@" move-leader "$to" >/dev/null || true
"""


BAD_ARCHIVE = 65
"""Exit code of the far script for an archive that is not what we need (EX_DATAERR)."""

IN_USE = 75
"""Exit code of the far script for data that an etcd has, or may have in a moment (EX_TEMPFAIL)."""

ASIDE = "moved-aside"
"""Beginning of the directory that holds moved data inside a mount point; no data of a member."""


@dataclass(frozen=True)
class CreateUser:
    """Create the system user and group etcd runs as; it cannot log in and owns no home."""

    host: str
    user: str
    home: str
    diff: str = ""

    def __str__(self) -> str:
        return f"create system user {self.user}"

    def run(self, host: Host, progress: Progress) -> None:
        host.run(Command(_CREATE_USER, (self.user, self.home), about=str(self)))


@dataclass(frozen=True)
class InstallRelease:
    """Send the release archive, verify it on the host, unpack it to /opt/etcd/vX.Y.Z."""

    host: str
    version: str
    archive: Path
    sha256: str
    size: int
    diff: str = ""

    def __str__(self) -> str:
        return f"install etcd {self.version} into /opt/etcd/v{self.version}"

    def run(self, host: Host, progress: Progress) -> None:
        release = f"/opt/etcd/v{self.version}"
        archive = f"/opt/etcd/{self.archive.name}"
        done = 0

        def sent(size: int) -> None:
            nonlocal done
            done += size
            progress(done, self.size)

        files.upload(host, self.archive, archive, self.sha256, sent=sent, durable=False)
        try:
            host.run(Command(_UNPACK, (archive, release), about=f"unpack {archive}", timeout=300))
        except CommandFailed as error:
            raise self._explained(error) from error

    def _explained(self, error: CommandFailed) -> CommandFailed:
        """Say whose the archive is that we sent, and what to do about a full disk."""
        hint = (
            f"{self.archive} is no release archive of etcd {self.version} for this host: see `release` in the "
            "inventory, and whether `release.sha256` pins the sum of the right one"
            if error.exit_status == BAD_ARCHIVE
            else files.explained(error).hint
        )
        return CommandFailed(error.host, error.about, error.exit_status, error.stderr, hint)


@dataclass(frozen=True)
class WriteFiles:
    """Create directories, write files and switch links, each atomically, in one round trip."""

    host: str
    title: str
    files: tuple[FileSpec, ...] = ()
    dirs: tuple[DirSpec, ...] = ()
    links: tuple[LinkSpec, ...] = ()
    diff: str = ""

    def __str__(self) -> str:
        return self.title

    def run(self, host: Host, progress: Progress) -> None:
        files.write(host, files=self.files, dirs=self.dirs, links=self.links)


@dataclass(frozen=True)
class InstallUnit:
    """Lint the rendered unit on its host, write it, and have systemd read it."""

    host: str
    unit: FileSpec
    diff: str = ""
    former: str = ""
    """The former `paths.bin`, whose links others may use by now: they stay, and it is said."""

    def __str__(self) -> str:
        stays = f"; our links and etcdctl.sh in {self.former} stay, for you to remove" if self.former else ""
        return f"write {self.unit.path}{stays}"

    def run(self, host: Host, progress: Progress) -> None:
        try:
            files.write(host, files=(self.unit,), around=units.replace_unit(service.LINES))
        except CommandFailed as error:
            hint = units.MEND if error.exit_status == units.MISFIT else error.hint
            raise CommandFailed(error.host, error.about, error.exit_status, error.stderr, hint) from error


@dataclass(frozen=True)
class LoadUnit:
    """Have systemd read the unit and start it at boot: what a cut-off run left undone."""

    host: str
    diff: str = ""

    def __str__(self) -> str:
        return "load and enable etcd.service"

    def run(self, host: Host, progress: Progress) -> None:
        host.run(units.load_unit())


@dataclass(frozen=True)
class StartEtcd:
    """Ask systemd to start etcd without waiting: it is ready only once a quorum is."""

    host: str
    diff: str = ""

    def __str__(self) -> str:
        return "start etcd"

    def run(self, host: Host, progress: Progress) -> None:
        host.run(units.start())


@dataclass(frozen=True)
class RestartEtcd:
    """Restart etcd without waiting for readiness. Only a gated stage may carry it."""

    host: str
    diff: str = ""

    def __str__(self) -> str:
        return "restart etcd"

    def run(self, host: Host, progress: Progress) -> None:
        host.run(units.restart())


@dataclass(frozen=True)
class StopEtcd:
    """Stop etcd and keep it enabled. Only a gated or confirmed stage may carry it."""

    host: str
    diff: str = ""

    def __str__(self) -> str:
        return "stop etcd"

    def run(self, host: Host, progress: Progress) -> None:
        host.run(units.stop())


@dataclass(frozen=True)
class MoveLeader:
    """Hand leadership over to another member before this one stops."""

    host: str
    to: str
    member_id: int
    etcdctl: tuple[str, ...]
    """The etcdctl call on this host up to the sub-command."""
    diff: str = ""

    def __str__(self) -> str:
        return f"hand leadership over to {self.to}, if {self.host} leads"

    def run(self, host: Host, progress: Progress) -> None:
        values = (f"{self.member_id:x}", *self.etcdctl)
        host.run(Command(_MOVE_LEADER, values, about=str(self), timeout=30))


@dataclass(frozen=True)
class MoveAside:
    """Rename a directory to `<path>.<date>`: data is never deleted by anything but consent."""

    host: str
    path: str
    stamp: str
    identity: str = ""
    """The file that says whose data it is: a copy goes along, so that the move can be undone."""
    diff: str = ""

    def __str__(self) -> str:
        return f"move {self.path} aside to {self.path}.{self.stamp}"

    def run(self, host: Host, progress: Progress) -> None:
        values = (self.path, f"{self.path}.{self.stamp}", f"{self.path}/{ASIDE}.{self.stamp}", self.identity)
        host.run(Command(_MOVE_ASIDE, values, about=str(self)))


@dataclass(frozen=True)
class SetAside:
    """Set aside, in its own directory, a first start that etcd would not come up from; nothing else."""

    host: str
    data: str
    wal: str = ""
    diff: str = ""

    def __str__(self) -> str:
        return f"move what a first start left in {self.data} aside, if etcd cannot go on from it"

    def run(self, host: Host, progress: Progress) -> None:
        seen = host.run(Command(_HOLDING, (self.data, self.wal), about="look at the data", writes=False))
        if Data.STUCK in holding(seen.text.splitlines()):
            places = (self.data, self.wal) if self.wal else (self.data,)
            try:
                host.run(Command(_SET_ASIDE, places, about=str(self)))
            except CommandFailed as error:
                if error.exit_status != IN_USE:
                    raise
                raise Refused(
                    f"{self.host}: {error.stderr.strip()}; nothing was moved", self._hint()
                ) from error

    def _hint(self) -> str:
        return (
            f"stop what has {self.data} open (`sudo systemctl stop etcd`; started by hand: `ps -C etcd -o pid,args`, "
            "and end it), then run the task again"
        )


@dataclass(frozen=True)
class Remove:
    """Remove what deploy installed: files, links and directories it named itself."""

    host: str
    title: str
    paths: tuple[str, ...]
    parents: tuple[str, ...] = ()
    """Directories that go as well if they are empty then."""
    diff: str = ""

    def __str__(self) -> str:
        return self.title

    def run(self, host: Host, progress: Progress) -> None:
        host.run(Command(_REMOVE, (*self.paths, "--", *self.parents), about=self.title, timeout=600))


@dataclass(frozen=True)
class ForgetUnit:
    """Disable and remove the unit; an operator's drop-ins stay where they are."""

    host: str
    diff: str = ""

    def __str__(self) -> str:
        return f"disable and remove {UNIT_PATH}"

    def run(self, host: Host, progress: Progress) -> None:
        host.run(units.forget_unit(UNIT_PATH))


def titles(paths: Sequence[str]) -> str:
    """Name a few paths in a line: the first three and how many more."""
    shown = ", ".join(paths[:3])
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"
