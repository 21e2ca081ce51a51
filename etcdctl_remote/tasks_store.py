"""The tasks about the certificates on this computer; no host is contacted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context

from .command import command, inventory_path
from .running import screen, ways_on

if TYPE_CHECKING:
    from .pki.keyring import Ask, Passphrase


@command
def certs_init(
    context: Context,
    import_: str = "",
    import_peer: str = "",
    passphrase: str = "ask",  # noqa: S107 (where it comes from)
    inventory: str = "",
    output: str = "text",
    dry_run: bool = False,
) -> None:
    """Make the CA(s) ahead of a deploy, or take them in: --import CERT,KEY.

    Where there are CAs already, only how their keys are kept (`pki.ca_key`) is brought up to date.
    """
    from .operations.certs_init import Imports
    from .operations.certs_init import certs_init as operation
    from .pki.keyring import Keyring
    from .pki.store import Store
    from .session import offline

    out = screen(output)
    ask = ways_on(out).password
    imports = Imports(import_, import_peer, _passphrase(passphrase, ask))
    noted = {"import": bool(import_), "import_peer": bool(import_peer), "dry_run": dry_run}
    with offline(inventory_path(inventory), "certs.init", noted, out.note) as cluster:
        store = Store.beside(cluster, Keyring(cluster.pki.ca_key, ask))
        result = operation(cluster, store, imports, dry_run=dry_run)
    for warning in result.warnings:
        out.warn(warning)
    lines = [f"{'would be: ' if dry_run else ''}{line}" for line in result.done] or ["nothing to do"]
    out.result("\n".join(lines), result.document())


def _passphrase(source: str, ask: Ask | None) -> Passphrase:
    """Read where a passphrase comes from: it is never an argument itself."""
    from .desired import words
    from .errors import UsageError
    from .pki.keyring import Passphrase

    try:
        return Passphrase(words.source(source), ask)
    except ValueError:
        raise UsageError(
            "--passphrase says where it comes from, not what it is", "ask, env:NAME or fd:NUMBER"
        ) from None
