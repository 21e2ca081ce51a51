"""Revoke certificates: every member refuses them from then on, which is seen before it is said.

What is revoked stands in the generation, and the list goes to the nodes with the certificates. etcd
learns at its start that there is a list, so the first revocation restarts every member, one at a
time; from then on it reads the list at each connection. Dangers, and what is done about them:

- etcd refuses everybody while the list is missing or unreadable: it is read back before it is
  shipped, it is there before the flag is, and nodes get it one by one.
- A member whose own certificate is revoked is cut off: refused.
- Releases that ignore lists: refused.
- A connection that is open stays open: said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ..desired import inventory
from ..desired.model import Version
from ..desired.versions import deaf_to_lists
from ..errors import Refused, UsageError
from ..observed.state import ClusterState, HostState
from ..pki import crl, issued
from ..pki.authority import Authority, Credential
from ..pki.crl import Port, Revocations, Revoked
from ..pki.generation import Generation
from ..pki.issued import Issued
from ..pki.profiles import Kind
from ..pki.replaced import replaced
from ..pki.standin import StandIns
from ..pki.store import Store
from ..plan.step import Plan
from ..plan.steps import RestartEtcd
from . import converge, deploy, leaves
from .certs_issue import held_by
from .consent import Consent
from .dialled import prove
from .notes import SEALED
from .refusals import lost_quorum
from .session import Session, resolved
from .wish import Wish, formed

OPEN = (
    "a connection that is open already stays open until it breaks: stop the program that holds one, or restart "
    "the members one by one"
)
FIRST = (
    "the first revocation: etcd reads only at its start that there is a list, so every member restarts once, one "
    "at a time; later ones need none"
)
LATER = "no member restarts for this: etcd reads the list at each new connection"


@dataclass(frozen=True)
class Wanted:
    """What was asked for, as it was typed."""

    name: str = ""
    serial: str = ""
    crl: str = ""
    """A list made by the owner of the CA, where its key is not here."""


@dataclass(frozen=True)
class Target:
    """A certificate that shall be refused."""

    revoked: Revoked
    credential: Credential | None
    """None: its key is not here."""
    accounted: bool = True
    """Whether it is in the register: then no node uses it."""

    def __str__(self) -> str:
        return f"{self.revoked.name or 'the certificate'} (serial {self.revoked.serial})"


def revoke(session: Session, consent: Consent, wanted: Wanted) -> Plan:
    """Revoke, distribute, and prove it; the plan that was carried out (or would be)."""
    resolved(session.cluster)
    held, now = session.prepare(), datetime.now(UTC)
    targets = found(Store.beside(session.cluster).root, held, wanted, now)
    revocations = listed(held, targets, wanted, now, planned=True)
    later = replace(held, revocations=revocations, issued=(*held.issued, *_lines(held, revocations)))
    want, before = Wish(session.cluster, later, {}), Wish(session.cluster, held, {})

    def sign(generation: Generation) -> Generation:
        return session.signed(replace(generation, revocations=listed(held, targets, wanted, now)))

    sealed = not wanted.crl and any(ca.waits and not ca.outside for ca in _signers(held).values())
    plan = planner(held, targets, sealed=sealed)
    todo = deploy.carried_out(session, consent, want, plan, before, sign if sealed else None)
    if not consent.dry_run:
        prove(session, session.held() or later, targets)
    return todo


def refuse_bad_input(source: Path, wanted: Wanted) -> None:
    """Say what the laptop alone can tell to be wrong, before any host is asked."""
    cluster = inventory.load(source)
    held, now = held_by(cluster), datetime.now(UTC)
    targets = found(Store.beside(cluster).root, held, wanted, now)
    if wanted.crl:
        listed(held, targets, wanted, now)
    else:
        _refuse_unsigned(held, _new(held, targets))


def found(root: Path, held: Generation, wanted: Wanted, now: datetime) -> tuple[Target, ...]:
    """Find what is to be revoked; UsageError if there is no such certificate, Refused if a node needs it."""
    if bool(wanted.name) == bool(wanted.serial):
        raise UsageError("give one of --name and --serial", "`certs.list` shows both")
    register = issued.issued(root)
    if wanted.serial:
        return (_by_serial(root, held, register, _hex(wanted.serial), now),)
    known = issued.named(register, wanted.name)
    if not known:
        names = ", ".join(dict.fromkeys(one.name for one in register)) or "none"
        raise UsageError(
            f"no certificate was issued to {wanted.name!r}; there are: {names}",
            "what is not in the register is revoked by its --serial; a node's certificate is replaced by `rotate-certs`",
        )
    valid = [one for one in known if one.valid(now)]
    if not valid:
        raise _expired(known[-1])
    return tuple(_issued(one, held, now) for one in valid)


def listed(
    held: Generation, targets: Sequence[Target], wanted: Wanted, now: datetime, *, planned: bool = False
) -> Revocations:
    """Add the targets to what is revoked: by a list of our own, or by the one that was given.

    One that is only `planned` opens no key that is sealed: a stand-in signs it.
    """
    signers = _signers(held)
    if wanted.crl:
        return _given(held, targets, wanted.crl, signers, now)
    new = _new(held, targets)
    if not new:
        return held.revocations
    _refuse_unsigned(held, new)
    if planned:
        stand_ins = StandIns(now)
        signers = {port: stand_ins.of(ca) if ca.waits else ca for port, ca in signers.items()}
    return crl.revoke(held.revocations, new, signers, now)


def _signers(held: Generation) -> dict[Port, Authority]:
    return {"client": held.authorities.client, "peer": held.authorities.peer}


def _new(held: Generation, targets: Sequence[Target]) -> list[Revoked]:
    return [target.revoked for target in targets if target.revoked.serial not in held.revocations.serials]


def _refuse_unsigned(held: Generation, new: Sequence[Revoked]) -> None:
    """Refuse to revoke without a list where the key that would sign one is not here."""
    signers = _signers(held)
    lacking = {port: signers[port] for one in new for port in one.ports if signers[port].key is None}
    if not lacking:
        return
    names = ", ".join(sorted({repr(signer.common_name) for signer in lacking.values()}))
    elsewhere = " (`pki.external`)" if any(signer.outside for signer in lacking.values()) else ""
    raise Refused(
        f"the key of {names} is not here{elsewhere}: no list can be signed; nothing was changed",
        f"have its owner revoke {', '.join(one.serial for one in new)}, and give the list by --crl FILE",
    )


def planner(
    held: Generation, targets: Sequence[Target], *, sealed: bool = False
) -> Callable[[Wish, ClusterState], Plan]:
    """Plan as deploy does, one node after the other; refuse where the list would be in vain."""

    def plan(want: Wish, now: ClusterState) -> Plan:
        refuse_deaf(want, now)
        if not formed(now):
            raise Refused(f"{want.cluster.name} does not run yet; nothing was changed", "`deploy` first")
        if not now.has_quorum:
            raise lost_quorum(want, now)
        before = converge.plan(replace(want, generation=held), now)
        unaccounted = [target.revoked.serial for target in targets if not target.accounted]
        if before and any(_refused_anew(want, now, serial) for serial in unaccounted):
            raise Refused(
                "the nodes are not as the inventory says, and may still use a certificate that is not in the "
                "register; nothing was changed",
                "`deploy`, then revoke",
            )
        todo = converge.plan(want, now)
        title = f"revoke {', '.join(map(str, targets))} in {want.cluster.name}"
        if not todo:
            return replace(todo, title=title)
        restarts = any(isinstance(step, RestartEtcd) for stage in todo.stages for step in stage.steps)
        notes = [*todo.notes, FIRST if restarts else LATER, OPEN, *([SEALED] if sealed else [])]
        if before:
            notes.append("the hosts are not as the inventory says: what `deploy` would do goes along")
        return replace(todo, title=title, notes=tuple(notes))

    return plan


def _refused_anew(want: Wish, now: ClusterState, serial: str) -> bool:
    """Whether some node accepts it until now where it will be refused."""
    files = [file for file, der in want.generation.revocations.files.items() if serial in crl.serials(der)]
    return not files or any(
        serial not in leaves.refused(want, host, file) for file in files for host in now.hosts.values()
    )


def refuse_deaf(want: Wish, now: ClusterState) -> None:
    """Refuse releases that let in what is revoked: those that run, and the one that is wanted."""
    seen = {
        name: why for name, host in sorted(now.hosts.items()) if host.unit.running and (why := _deaf(host))
    }
    wanted = deaf_to_lists(want.cluster.version)
    if wanted and not seen:
        seen = {"inventory": wanted}
    if seen:
        raise Refused(
            "revoking would be in vain; nothing was changed",
            "until then: `rotate-certs --ca` shuts out every certificate of the old CA",
            seen,
        )


def _deaf(host: HostState) -> str:
    """Say why a running member would ignore the list; what does not tell its release, might."""
    told = host.endpoint.version if host.endpoint else ""
    program = host.unit.program or ""
    for text in (told, program.removeprefix("/opt/etcd/v").removesuffix("/etcd")):
        try:
            return deaf_to_lists(Version.parse(text))
        except ValueError:
            continue
    return f"does not tell its release ({program or 'unknown program'})"


def _by_serial(
    root: Path, held: Generation, register: Sequence[Issued], serial: str, now: datetime
) -> Target:
    in_use = [slot for slot, leaf in held.leaves.items() if leaf.serial == serial]
    if in_use:
        node, kind = in_use[0]
        raise Refused(
            f"{serial} is the {kind.value} certificate that {node} uses: revoked, it would be cut off; "
            "nothing was changed",
            f"replace it first: `rotate-certs --node {node} --force`; then revoke it",
        )
    if serial in {f"{ca.parsed.serial_number:x}" for ca in (held.authorities.client, held.authorities.peer)}:
        raise Refused(f"{serial} is a CA; nothing was changed", "replace it: `rotate-certs --ca`")
    one = next((one for one in register if one.leaf.serial == serial), None)
    if one:
        if not one.valid(now):
            raise _expired(one)
        return _issued(one, held, now)
    leaf = replaced(root, serial)
    if leaf is None:
        return Target(Revoked(serial, "", now, None, ("client", "peer")), None, accounted=False)
    name = f"the former {leaf.kind.value} certificate of {leaf.node}"
    until = leaf.leaf.not_after
    return Target(
        Revoked(serial, name, now, until, _ports(leaf.kind, held)), leaf.credential, accounted=False
    )


def _issued(one: Issued, held: Generation, now: datetime) -> Target:
    """What is no client's can dial nobody: a twin has to."""
    credential = one.credential if "client" in one.leaf.usages else None
    revoked = Revoked(one.leaf.serial, one.name, now, one.leaf.not_after, _ports(Kind.CLIENT, held))
    return Target(revoked, credential)


def _ports(kind: Kind, held: Generation) -> tuple[Port, ...]:
    """Where a certificate is accepted: with one CA for all, everywhere."""
    if held.authorities.own_peer is None:
        return ("client", "peer")
    return ("peer",) if kind is Kind.PEER else ("client",)


def _given(
    held: Generation, targets: Sequence[Target], path: str, signers: dict[Port, Authority], now: datetime
) -> Revocations:
    """Take in a list of the CA's owner: whole, and with all that was revoked before."""
    carried = {one for leaf in held.leaves.values() for one in leaf.carried}
    for target in targets:
        carried |= set(target.credential.carried if target.credential else ())
    ports, der = crl.taken(_read(path), path, signers, tuple(carried))
    serials = crl.serials(der)
    wrong = [f"{target} is not in it" for target in targets if target.revoked.serial not in serials]
    wrong += [
        f"{target} would be accepted on the {' and '.join(lacking)} port all the same"
        for target in targets
        if target.revoked.name and (lacking := [port for port in target.revoked.ports if port not in ports])
    ]
    for port in ports:
        before = held.revocations.listed(port, now)
        wrong += [f"{serial} is revoked, and not in it" for serial in before if serial not in serials]
    if wrong:
        raise UsageError(
            f"{path}: {'; '.join(wrong)}; nothing was changed", "have the owner of the CA mend it"
        )
    used = sorted(
        f"{slot[1].value} of {slot[0]}" for slot, leaf in held.leaves.items() if leaf.serial in serials
    )
    if used:
        raise Refused(
            f"{path} revokes certificates that nodes use: {', '.join(used)}; nothing was changed",
            "replace them first by `rotate-certs --force`",
        )
    known = {target.revoked.serial: target.revoked for target in targets}
    new = [
        replace(known.get(serial, Revoked(serial, "", now, None, ports)), ports=ports)
        for serial in sorted(serials - held.revocations.serials)
    ]
    files = {crl.FILES[port]: der for port in ports}
    return Revocations((*held.revocations.entries, *new), {**held.revocations.files, **files})


def _lines(held: Generation, revocations: Revocations) -> tuple[str, ...]:
    if revocations == held.revocations:
        return ()
    new = [entry for entry in revocations.entries if entry.serial not in held.revocations.serials]
    return tuple(f"revoked: {entry.name} {entry.serial}" for entry in new) or (
        "list of what is revoked (new)",
    )


def _hex(text: str) -> str:
    """Read a serial as openssl and browsers write it: hex, with colons or without."""
    digits = text.lower().removeprefix("0x").replace(":", "")
    try:
        number = int(digits, 16) if digits.isalnum() else 0
    except ValueError:
        number = 0
    if not 0 < number < 1 << 160:
        raise UsageError(
            f"--serial {text} is no serial of a certificate", "hex, as `openssl x509 -serial` shows it"
        )
    return f"{number:x}"


def _expired(one: Issued) -> UsageError:
    return UsageError(
        f"the certificate of {one.name} (serial {one.leaf.serial}) ended on {one.leaf.not_after:%Y-%m-%d}: "
        "every member refuses it already",
        "nothing is to do",
    )


def _read(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"--crl {path}: {error.strerror}", "name the file with the list") from error
