"""Commands for systemd: built here, run elsewhere, tested as strings."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from .files import Around
from .host import Command

UNIT = "etcd.service"

# `enable` reloads by itself, so it is not asked to once the unit is enabled: a reload costs the
# host 0.12 s of CPU (measured), much of it for its generators.
_LOAD = """
if [ "$(systemctl is-enabled "$1" 2>/dev/null)" = enabled ]; then exec systemctl daemon-reload; fi
exec systemctl enable --quiet "$1"
"""


MISFIT = 78
"""Exit code of the far scripts for a unit that systemd complains of (EX_CONFIG)."""
MEND = "mend it under `service` in the inventory (or in the drop-in, where systemd names one)"

# $1 a program that may be missing as yet, or nothing; $2 lines that may be ignored; $3 the unit.
# Each complaint of a line begins with its file and number.
_LINT = rf"""
said=$(SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no "$3" 2>&1) || {{
  missing="Command $1 is not executable" why=$said
  case $said in
    *"$missing"*) why=$(printf '%s\n' "$said" | grep -F -e "${{3##*/}}" | grep -vF -e "$missing" -e ignoring) ;;
  esac
  [ -z "$why" ] || {{ echo "$why" >&2; exit {MISFIT}; }}
}}
bad=$(printf '%s\n' "$said" | grep -F -- "$3:" | grep ignoring | while IFS= read -r complaint; do
  number=${{complaint#"$3:"}} number=${{number%%:*}} line=$(sed -n "${{number%%:*}}p" "$3")
  printf '%s\n' "$line" | grep -qxF -e "$2" || echo "$line: ${{3##*/}}:${{complaint#"$3:"}}"
done)
[ -z "$bad" ] || {{ echo "systemd would ignore $bad" >&2; exit {MISFIT}; }}
"""

# $1 and $2 as above; the unit comes by standard input, and lies under its own name meanwhile.
_TRY = (
    r"""
place=$(mktemp -d /run/etcdctl-remote.XXXXXX) || exit 1
trap 'rm -rf -- "$place"' EXIT
trap 'exit 1' HUP INT TERM PIPE
cat >"$place/$3" || exit 1
set -- "$1" "$2" "$place/$3"
"""
    + _LINT
    + r"""
printf '%s\n' "$said" | grep -F -- "/${3##*/}.d/" | grep ignoring
exit 0
"""
)


# While systemd waits to try a crashed unit again it only queues a start, for up to RestartSec; a
# restart it takes at once (src/core/service.c, `service_start`). There is no process to lose then.
_START = """
verb=start
[ "$(systemctl show -p SubState --value "$1")" != auto-restart ] || verb=restart
exec systemctl $verb --no-block "$1"
"""


def systemctl(*words: str, timeout: float = 60.0) -> Command:
    """`systemctl WORDS`."""
    return Command('exec systemctl "$@"', words, about=f"systemctl {' '.join(words)}", timeout=timeout)


def start(unit: str = UNIT) -> Command:
    """Start without waiting: a first member is ready only once the others are."""
    return Command(_START, (unit,), about=f"start {unit}")


def restart(unit: str = UNIT) -> Command:
    """Restart without waiting, for the same reason."""
    return systemctl("restart", "--no-block", unit)


def stop(unit: str = UNIT) -> Command:
    """Stop and wait until it has: systemd kills it after TimeoutStopSec."""
    return systemctl("stop", unit, timeout=180.0)


def load_unit(unit: str = UNIT) -> Command:
    """Have systemd read a new unit, and start it at boot: one round trip, one reload."""
    return Command(_LOAD, (unit,), about=f"load {unit}")


def replace_unit(may_be_ignored: Sequence[str] = (), unit: str = UNIT) -> Around:
    """Go with the write of a unit: lint it before it takes its place, load it afterwards.

    It is linted as it lies beside its place, under its own name: systemd then finds the
    operator's drop-ins for it where they are. To systemd a line that it ignores (an unknown
    key, a bad value) is no error. To whoever wrote it, it is: only lines that an older
    systemd `may_be_ignored` for are let pass.
    """
    return Around(
        accept=shlex.join(("sh", "-c", _LINT, "sh", "", "\n".join(may_be_ignored))),
        then=shlex.join(("sh", "-c", _LOAD, "sh", unit)),
    )


def lint(program: str, may_be_ignored: Sequence[str] = (), unit: str = UNIT) -> Command:
    """Lint a unit, given on standard input, as its write would; its `program` need not be there yet.

    What systemd would ignore in a drop-in, which is the operator's, is told on standard output.
    """
    args = (program, "\n".join(may_be_ignored), unit)
    return Command(_TRY, args, about=f"lint {unit}", timeout=30)


def forget_unit(path: str, unit: str = UNIT) -> Command:
    """Disable a unit and remove its file; drop-ins stay. Nothing to do is no error."""
    script = r"""
set -eu
[ ! -e "$2" ] || systemctl disable --quiet "$1"
rm -f -- "$2"
systemctl daemon-reload
systemctl reset-failed "$1" 2>/dev/null || :
"""
    return Command(script, (unit, path), about=f"disable and remove {path}")


def journal(lines: int, unit: str = UNIT, *, follow: bool = False) -> Command:
    """Read the end of a unit's journal as JSON, one entry a line, what systemd says of the unit included.

    Following has no end, so it gets a week.
    """
    fields = "--output-fields=MESSAGE,PRIORITY,_PID,_SYSTEMD_INVOCATION_ID,INVOCATION_ID"
    options = ("-q", "--no-pager", "-u", unit, "-n", str(lines), "-o", "json", fields)
    timeout = 7 * 86400.0 if follow else 60.0
    return Command(
        'exec journalctl "$@"',
        (*options, *(("--follow",) if follow else ())),
        about=f"read the journal of {unit}",
        writes=False,
        timeout=timeout,
    )
