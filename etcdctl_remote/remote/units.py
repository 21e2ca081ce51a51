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


# $1 lines that may be ignored, $2 the unit. Each complaint begins with its file and line.
_LINT = """
said=$(SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no "$2" 2>&1) || { echo "$said" >&2; exit 1; }
bad=$(printf '%s\\n' "$said" | grep -F -- "$2:" | grep ignoring | while IFS= read -r complaint; do
  number=${complaint#"$2:"} number=${number%%:*}
  sed -n "${number}p" "$2" | grep -qxF -e "$1" || echo "${2##*/}:${complaint#"$2:"}"
done)
[ -z "$bad" ] || { echo "systemd would ignore a line, mend it under \\`service\\`: $bad" >&2; exit 1; }
"""


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
        accept=shlex.join(("sh", "-c", _LINT, "sh", "\n".join(may_be_ignored))),
        then=shlex.join(("sh", "-c", _LOAD, "sh", unit)),
    )


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
