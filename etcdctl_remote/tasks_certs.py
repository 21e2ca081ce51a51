"""The tasks about certificates; like `tasks`: arguments → operation → exit code, no logic."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit

from .command import command
from .errors import UsageError
from .running import look, screen
from .tasks_store import certs_backup, certs_init, certs_restore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta
    from pathlib import Path


# -- look --------------------------------------------------------------------------------------


@command
def certs_list(
    context: Context,
    inventory: str = "",
    output: str = "text",
    within: str = "",
    fail_within: str = "",
    metrics: str = "",
) -> None:
    """Every certificate of the cluster: on this laptop, on the nodes' disks, and as served.

    --fail-within 30d exits 1 if one ends by then or is not as it should be: for monitoring.
    """
    from .console.certificates import CertificatesView, document
    from .operations import metrics as textfile
    from .operations.certs import certs as operation

    window, limit, file = _monitoring(within, fail_within, metrics)
    found = look("certs", lambda opened: operation(opened, window), inventory, output)
    screen(output).result(CertificatesView(found, limit), document(found, limit))
    if file:
        textfile.write(file, found)
    if found.unreachable:
        raise Exit(code=3)
    if limit is not None and (found.damaged or found.failing(limit)):
        raise Exit(code=1)


def _monitoring(
    within: str, fail_within: str, metrics: str
) -> tuple[timedelta | None, timedelta | None, Path | None]:
    """Read the flags of `certs`; every mistake in them at once."""
    from pathlib import Path

    from .desired.durations import parse_duration
    from .operations.metrics import writable

    file = Path(metrics).expanduser() if metrics else None
    wrong: list[UsageError] = []
    window, limit = None, None
    with _kept(wrong):
        window = parse_duration(within, "--within") if within else None
    with _kept(wrong):
        limit = parse_duration(fail_within, "--fail-within") if fail_within else None
    if file:
        with _kept(wrong):
            writable(file)
    if wrong:
        hints = dict.fromkeys(mistake.hint for mistake in wrong if mistake.hint)
        raise UsageError("; ".join(mistake.message for mistake in wrong), "; ".join(hints))
    return window, limit, file


@contextmanager
def _kept(wrong: list[UsageError]) -> Iterator[None]:
    """Go on after a mistake, and keep it: all are told at once."""
    try:
        yield
    except UsageError as mistake:
        wrong.append(mistake)


namespace = Collection("certs")
namespace.add_task(certs_init, name="init")
namespace.add_task(certs_backup, name="backup")
namespace.add_task(certs_restore, name="restore")
namespace.add_task(certs_list, name="list", default=True)
