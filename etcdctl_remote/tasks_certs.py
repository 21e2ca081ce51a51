"""The tasks about certificates; like `tasks`: arguments → operation → exit code, no logic."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit

from .command import command, inventory_path
from .errors import UsageError
from .running import Asked, change, look, screen, ways_on
from .tasks_store import certs_backup, certs_init, certs_restore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta
    from pathlib import Path

    from .operations.consent import Consent
    from .operations.session import Session
    from .plan.step import Plan


# -- look --------------------------------------------------------------------------------------


@command
def certs_list(
    context: Context,
    inventory: str = "",
    output: str = "text",
    within: str | None = None,
    fail_within: str | None = None,
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
    within: str | None, fail_within: str | None, metrics: str
) -> tuple[timedelta | None, timedelta | None, Path | None]:
    """Read the flags of `certs`; every mistake in them at once."""
    from pathlib import Path

    from .desired.durations import parse_duration
    from .operations.metrics import writable

    file = Path(metrics).expanduser() if metrics else None
    wrong: list[UsageError] = []
    window, limit = None, None
    with _kept(wrong):
        window = parse_duration(within, "--within") if within is not None else None
    with _kept(wrong):
        limit = parse_duration(fail_within, "--fail-within") if fail_within is not None else None
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


# -- for applications --------------------------------------------------------------------------


@command
def certs_issue(
    context: Context,
    name: str = "",
    kind: str = "",
    usage: str = "client",
    names: str = "",
    days: int = 0,
    out: str = "",
    csr: str = "",
    inventory: str = "",
    output: str = "text",
) -> None:
    """Issue a certificate for an application, signed here: --name NAME, or --kind apiserver.

    With --csr only the certificate is given: on standard output, or with the CAs into --out.
    """
    from datetime import UTC, datetime

    from .console import applications
    from .operations.certs_issue import issue as operation
    from .pki.applications import Asked as Wanted
    from .session import offline

    screened, wanted = screen(output), Wanted(name, kind, usage, names, days)
    noted = {"name": name, "kind": kind, "usage": usage, "out": bool(out), "csr": bool(csr)}
    with offline(inventory_path(inventory), "certs.issue", noted, ways_on(screened)) as (cluster, keys):
        handed = operation(cluster, wanted, datetime.now(UTC), out=out, csr=csr, keys=keys)
    for note in handed.notes:
        screened.warn(note)
    document = applications.document(cluster, handed)
    if csr and not out:
        screened.note(applications.issued(cluster, handed))
        screened.result(handed.certificate.certificate_pem.decode().rstrip(), document)
    else:
        screened.result(applications.issued(cluster, handed), document)


@command
def certs_export(
    context: Context, out: str = "", name: str = "", inventory: str = "", output: str = "text"
) -> None:
    """Write a client bundle (CA, certificate, key) into --out, and print how it is used."""
    from datetime import UTC, datetime

    from .console import applications
    from .operations.certs_export import export as operation
    from .session import addressed, offline

    screened, path = screen(output), inventory_path(inventory)
    ways = ways_on(screened)
    with offline(path, "certs.export", {"name": name}, ways) as (cluster, keys):
        known = addressed(cluster, path, ways)
        handed = operation(known, datetime.now(UTC), out=out, name=name, keys=keys)
    for note in handed.notes:
        screened.warn(note)
    screened.result(*applications.exported(known, handed))


@command
def certs_revoke(
    context: Context,
    name: str = "",
    serial: str = "",
    crl: str = "",
    inventory: str = "",
    output: str = "text",
    confirm: str = "",
    yes: bool = False,
    dry_run: bool = False,
) -> None:
    """Revoke --name NAME or --serial HEX; success once every member was seen to refuse it.

    The first list for a port restarts every member, one at a time; later ones restart none.
    A serial that nobody here knows needs --confirm CLUSTER, given or typed; --yes alone is not enough.
    """
    from .operations.certs_revoke import Wanted, refuse_bad_input
    from .operations.certs_revoke import revoke as operation

    wanted = Wanted(name, serial, crl, confirm)
    refuse_bad_input(inventory_path(inventory), wanted)

    def run(opened: Session, consent: Consent) -> Plan:
        return operation(opened, consent, wanted)

    noted = {"name": name, "serial": serial, "crl": bool(crl), "confirm": bool(confirm)}
    done = "every member refuses it, and takes a good certificate: seen on new connections"
    change("certs.revoke", run, Asked(inventory, output, yes, dry_run), done, noted=noted)


namespace = Collection("certs")
namespace.add_task(certs_init, name="init")
namespace.add_task(certs_backup, name="backup")
namespace.add_task(certs_restore, name="restore")
namespace.add_task(certs_list, name="list", default=True)
namespace.add_task(certs_issue, name="issue")
namespace.add_task(certs_export, name="export")
namespace.add_task(certs_revoke, name="revoke")
