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
    from .pki.store import Store
    from .session import offline

    out = screen(output)
    ways = ways_on(out)
    imports = Imports(import_, import_peer, _passphrase(passphrase, ways.password))
    noted = {"import": bool(import_), "import_peer": bool(import_peer), "dry_run": dry_run}
    with offline(inventory_path(inventory), "certs.init", noted, ways) as (cluster, keys):
        result = operation(cluster, Store.beside(cluster, keys), imports, dry_run=dry_run)
    for warning in result.warnings:
        out.warn(warning)
    lines = [f"{'would be: ' if dry_run else ''}{line}" for line in result.done] or ["nothing to do"]
    out.result("\n".join(lines), result.document())


@command
def certs_backup(
    context: Context,
    out: str = "",
    recipient: list[str] = [],  # noqa: B006 (Invoke reads the default as "repeatable")
    passphrase: str = "",
    inventory: str = "",
    output: str = "text",
) -> None:
    """Write all certificates and keys of this cluster into one encrypted file (age).

    For the recipients given, else those of `pki.ca_key`, else for a passphrase.
    """
    from datetime import UTC, datetime
    from pathlib import Path

    from .errors import UsageError
    from .operations.certs_backup import backup as operation
    from .pki.store import Store
    from .session import offline

    if recipient and passphrase:
        raise UsageError("both --recipient and --passphrase: a backup is for one of them", "leave out one")
    screened = screen(output)
    ways = ways_on(screened)
    phrase = _passphrase(passphrase or "ask", ways.password)
    with offline(inventory_path(inventory), "certs.backup", {"out": bool(out)}, ways) as (cluster, _):
        store = Store.beside(cluster)
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        path = Path(out).expanduser() if out else store.root.with_name(f"{cluster.name}-{stamp}.tar.age")
        to = [] if passphrase else list(recipient) or list(cluster.pki.ca_key.recipients)
        found = operation(cluster, store, path, to, phrase)
    count = len(found.tree)
    how = f"for {len(to)} recipient{'s' if len(to) > 1 else ''}" if to else "for the passphrase"
    screened.result(
        f"{path} written: {count} files, encrypted {how}. Put it where this computer is not.",
        {"backup": str(path), "files": count, "bytes": found.bytes},
    )


@command
def certs_restore(
    context: Context,
    from_: str = "",
    identity: str = "",
    passphrase: str = "",
    inventory: str = "",
    output: str = "text",
) -> None:
    """Put a backup of `certs.backup` in place: --from FILE; what is there is moved aside."""
    from dataclasses import replace
    from datetime import UTC, datetime
    from pathlib import Path

    from .errors import UsageError
    from .operations.certs_backup import restore as operation
    from .pki.store import Store
    from .session import offline

    if not from_:
        raise UsageError("--from: which backup?", "--from FILE, as `certs.backup` wrote it")
    out = screen(output)
    ways = ways_on(out)
    phrase = _passphrase(passphrase or "ask", ways.password)
    with offline(inventory_path(inventory), "certs.restore", {}, ways) as (cluster, keys):
        key = Path(identity).expanduser() if identity else cluster.pki.ca_key.identity
        keys = replace(keys, spec=replace(keys.spec, identity=key))
        keys.passphrase = phrase
        done = operation(cluster, Store.beside(cluster), Path(from_).expanduser(), keys, datetime.now(UTC))
    out.result(done or "nothing to do: this is what is there", {"restored": bool(done), "what": done})


def _passphrase(source: str, ask: Ask | None) -> Passphrase:
    """Read where a passphrase comes from: it is never an argument itself."""
    from .desired import words
    from .errors import UsageError
    from .pki.keyring import Passphrase

    try:
        return Passphrase(words.source(source), ask, by="--passphrase")
    except ValueError:
        raise UsageError(
            "--passphrase says where it comes from, not what it is", "ask, env:NAME or fd:NUMBER"
        ) from None
