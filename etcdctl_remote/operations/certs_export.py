"""Give out a client certificate of the register, with the CAs that members' certificates are signed by."""

from __future__ import annotations

from datetime import datetime

from ..desired.model import ClusterSpec
from ..errors import Refused, UsageError
from ..pki import issued
from ..pki.applications import Asked
from ..pki.keyring import Keyring
from ..pki.store import Store
from .certs_issue import Handed, given_out, held_by, issue

OPERATOR = "operator"
"""Who is given out where nobody is named: issued at need."""


def export(
    cluster: ClusterSpec, now: datetime, *, out: str, name: str = "", keys: Keyring | None = None
) -> Handed:
    """Write the newest certificate of `name` that members accept."""
    if not out:
        raise UsageError("--out is missing: the folder for the files", "for example --out ./client")
    held, root = held_by(cluster, keys), Store.beside(cluster).root
    register = issued.issued(root)
    known = list(dict.fromkeys(one.name for one in register))
    if name and name != OPERATOR and name not in known:
        raise UsageError(
            f"no certificate was issued to {name!r}; there are: {', '.join(known) or 'none'}",
            "`certs.issue --name` makes one",
        )
    name = name or OPERATOR
    revoked = held.revocations.serials
    found = issued.usable(register, name, revoked, held.ca_bundle, now)
    old = found and not held.authorities.client.signed(found.leaf.certificate, found.leaf.carried)
    if name == OPERATOR and (found is None or old):
        return issue(cluster, Asked(OPERATOR), now, out=out, keys=keys)
    if found is None:
        raise Refused(
            f"no member accepts what was issued to {name}: expired, revoked, of a former CA, or for no client",
            f"`{issued.named(register, name)[-1].used.anew}` makes a new one",
        )
    given = given_out(cluster, held, found, out)
    given.write()
    notes = [] if found.key_pem else ["its key is with its owner, and was not written"]
    if old:
        notes.append(
            f"{found.leaf.issuer!r} is being replaced: `{found.used.anew}` makes one of its successor"
        )
    return Handed(found, root / issued.FOLDER / found.number, given, tuple(notes))
