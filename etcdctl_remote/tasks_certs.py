"""The tasks about certificates; like `tasks`: arguments → operation → exit code, no logic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context

from .command import command, inventory_path
from .running import Asked, change, screen, ways_on

if TYPE_CHECKING:
    from .operations.consent import Consent
    from .operations.session import Session
    from .plan.step import Plan


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

    With --csr only the certificate is given: on standard output, or into --out.
    """
    from datetime import UTC, datetime

    from .console import certs
    from .operations.certs_issue import issue as operation
    from .pki.applications import Asked as Wanted
    from .session import offline

    screened, wanted = screen(output), Wanted(name, kind, usage, names, days)
    noted = {"name": name, "kind": kind, "usage": usage, "out": bool(out), "csr": bool(csr)}
    with offline(inventory_path(inventory), "certs.issue", noted, screened.note) as cluster:
        handed = operation(cluster, wanted, datetime.now(UTC), out=out, csr=csr)
    for note in handed.notes:
        screened.warn(note)
    document = certs.document(cluster, handed)
    if csr and not out:
        screened.note(certs.issued(cluster, handed))
        screened.result(handed.certificate.certificate_pem.decode().rstrip(), document)
    else:
        screened.result(certs.issued(cluster, handed), document)


@command
def certs_export(
    context: Context, out: str = "", name: str = "", inventory: str = "", output: str = "text"
) -> None:
    """Write a client bundle (CA, certificate, key) into --out, and print how it is used."""
    from datetime import UTC, datetime

    from .console import certs
    from .operations.certs_export import export as operation
    from .session import addressed, offline

    screened, path = screen(output), inventory_path(inventory)
    with offline(path, "certs.export", {"name": name}, screened.note) as cluster:
        known = addressed(cluster, path, ways_on(screened))
        handed = operation(known, datetime.now(UTC), out=out, name=name)
    for note in handed.notes:
        screened.warn(note)
    screened.result(*certs.exported(known, handed))


@command
def certs_revoke(
    context: Context,
    name: str = "",
    serial: str = "",
    crl: str = "",
    inventory: str = "",
    output: str = "text",
    yes: bool = False,
    dry_run: bool = False,
) -> None:
    """Revoke --name NAME or --serial HEX; success once every member was seen to refuse it.

    The first revocation restarts every member, one at a time; later ones restart none.
    """
    from .operations.certs_revoke import Wanted, refuse_bad_input
    from .operations.certs_revoke import revoke as operation

    wanted = Wanted(name, serial, crl)
    refuse_bad_input(inventory_path(inventory), wanted)

    def run(opened: Session, consent: Consent) -> Plan:
        return operation(opened, consent, wanted)

    noted = {"name": name, "serial": serial, "crl": bool(crl)}
    done = "every member refuses it, and takes a good certificate: seen on new connections"
    change("certs.revoke", run, Asked(inventory, output, yes, dry_run), done, noted=noted)


namespace = Collection("certs")
namespace.add_task(certs_issue, name="issue")
namespace.add_task(certs_export, name="export")
namespace.add_task(certs_revoke, name="revoke")
