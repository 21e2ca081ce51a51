"""Take in lists of revoked certificates that were not made here: of the CA's owner, or copied from a node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509

from ..errors import Refused, UsageError
from ..pki import crl
from ..pki.authority import Authority
from ..pki.crl import Port, Revocations, Revoked
from ..pki.generation import Generation

if TYPE_CHECKING:
    from .certs_revoke import Target


def given(
    held: Generation, targets: Sequence[Target], paths: str, signers: Mapping[Port, Authority], now: datetime
) -> Revocations:
    """Take in lists, their files separated by commas: whole, and with all that was revoked before.

    Where a certificate is refused is what the lists say: of each CA its own.
    """
    carried = {one for leaf in held.leaves.values() for one in leaf.carried}
    for target in targets:
        carried |= set(target.credential.carried if target.credential else ())
    lists = _taken(paths, signers, tuple(carried))
    holds = {port: crl.serials(der) for port, der in lists.items()}
    if wrong := list(_wrong(held, targets, holds, now)):
        raise UsageError(
            f"{paths}: {'; '.join(wrong)}; nothing was changed", "have the owner of the CA mend it"
        )
    ports = {
        serial: tuple(port for port in crl.FILES if serial in holds.get(port, ()))
        for serial in sorted(frozenset().union(*holds.values()))
    }
    used = sorted(
        f"{slot[1].value} of {slot[0]}" for slot, leaf in held.leaves.items() if leaf.serial in ports
    )
    if used:
        raise Refused(
            f"{paths} revokes certificates that nodes use: {', '.join(used)}; nothing was changed",
            "replace them first by `rotate-certs --force`",
        )
    files = {crl.FILES[port]: der for port, der in lists.items()}
    return Revocations(_entries(held.revocations, targets, ports, now), {**held.revocations.files, **files})


def _taken(
    paths: str, signers: Mapping[Port, Authority], carried: Sequence[x509.Certificate]
) -> dict[Port, bytes]:
    """Read each list, and tell by its signer which ports it is for."""
    found: dict[Port, bytes] = {}
    for path in paths.split(","):
        ports, der = crl.taken(_read(path), path, signers, carried)
        for port in ports:
            if port in found and crl.serials(found[port]) != crl.serials(der):
                raise UsageError(
                    f"--crl {paths}: two lists of one CA that say different things", "give the newer one"
                )
            found[port] = der
    return found


def _wrong(
    held: Generation, targets: Sequence[Target], holds: Mapping[Port, frozenset[str]], now: datetime
) -> Iterator[str]:
    """Say what the lists lack."""
    for target in targets:
        serial = target.revoked.serial
        lacking = [port for port in target.revoked.ports if serial not in holds.get(port, ())]
        if not any(serial in each for each in holds.values()):
            yield f"{target} is not in it"
        elif target.revoked.name and lacking:
            yield f"{target} would be accepted on the {' and '.join(lacking)} port all the same"
    for port, serials in holds.items():
        for serial in held.revocations.listed(port, now):
            if serial not in serials:
                yield f"{serial} is revoked, and not in it"


def _entries(
    before: Revocations, targets: Sequence[Target], ports: Mapping[str, tuple[Port, ...]], now: datetime
) -> tuple[Revoked, ...]:
    """Add what is new; what was revoked before is refused wherever a list says so, too."""
    known = {target.revoked.serial: target.revoked for target in targets}
    old = tuple(
        replace(entry, ports=tuple(p for p in crl.FILES if p in (*entry.ports, *ports.get(entry.serial, ()))))
        for entry in before.entries
    )
    new = (
        replace(known.get(serial, Revoked(serial, "", now, None, where)), ports=where)
        for serial, where in ports.items()
        if serial not in before.serials
    )
    return (*old, *new)


def _read(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"--crl {path}: {error.strerror}", "name the file with the list") from error
