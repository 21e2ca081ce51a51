"""Revoke certificates: every member refuses them from then on, which is seen before it is said.

What is revoked stands in the generation, and the list goes to the nodes with the certificates. etcd
learns at its start that there is a list, so the first one of a port restarts every member, one at a
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
from ..desired.hostspec import LISTS
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
from .certs_lists import given
from .consent import Consent, Insistent
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
    "the first list for {}: etcd reads only at its start that there is one, so every member restarts once, one "
    "at a time; later ones need none"
)
UNKNOWN = (
    "nobody here knows a certificate of this serial: compare it with `openssl x509 -noout -serial`; mistyped, the "
    "one that was meant stays accepted, and there is no undo"
)
KNOWN_THERE = "every node has this list already: only the store here takes it in"
LATER = "no member restarts for this: etcd reads the list at each new connection"


@dataclass(frozen=True)
class Wanted:
    """What was asked for, as it was typed."""

    name: str = ""
    serial: str = ""
    crl: str = ""
    """Lists that were not made here: by the owner of the CA, or copied from a node."""
    confirm: str = ""
    """The cluster's name: agreement to a serial that nobody here knows."""


@dataclass(frozen=True)
class Target:
    """A certificate that shall be refused."""

    revoked: Revoked
    credential: Credential | None
    """None: its key is not here."""
    accounted: bool = True
    """Whether it is in the register: then no node uses it."""
    known: bool = True
    """Whether anything here knows a certificate of this serial."""

    def __str__(self) -> str:
        return f"{self.revoked.name or 'the certificate'} (serial {self.revoked.serial})"


def revoke(session: Session, consent: Consent, wanted: Wanted) -> Plan:
    """Revoke, distribute, and prove it; the plan that was carried out (or would be)."""
    resolved(session.cluster)
    held, now = session.prepare(), datetime.now(UTC)
    targets = found(Store.beside(session.cluster).root, held, wanted, now)
    revocations = listed(held, targets, wanted, now, planned=True)
    targets = where_listed(held, targets, revocations, wanted)
    later = replace(held, revocations=revocations, issued=(*held.issued, *_lines(held, revocations)))
    want, before = Wish(session.cluster, later, {}), Wish(session.cluster, held, {})

    def sign(generation: Generation) -> Generation:
        return session.signed(replace(generation, revocations=listed(held, targets, wanted, now)))

    sealed = not wanted.crl and any(ca.waits and not ca.outside for ca in _signers(held).values())
    plan = planner(held, targets, sealed=sealed)
    agreed = Insistent.of(consent, UNKNOWN, session.cluster.name, wanted.confirm)
    todo = deploy.carried_out(session, agreed, want, plan, before, sign if sealed else None)
    if not todo and wanted.crl and not consent.dry_run:
        session.save(later)
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
        return (_by_serial(root, held, register, wanted, now),)
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
        return given(held, targets, wanted.crl, signers, now)
    new = _new(held, targets)
    if not new:
        return held.revocations
    _refuse_unsigned(held, new)
    if planned:
        stand_ins = StandIns(now)
        signers = {port: stand_ins.of(ca) if ca.waits else ca for port, ca in signers.items()}
    return crl.revoke(held.revocations, new, signers, now)


def where_listed(
    held: Generation, targets: Sequence[Target], revocations: Revocations, wanted: Wanted
) -> tuple[Target, ...]:
    """Of what only the serial is known, the lists tell where it is refused; and one that was given knows it."""
    entries = {entry.serial: entry for entry in revocations.entries}
    return tuple(
        target
        if target.known
        else replace(
            target,
            revoked=entries[target.revoked.serial],
            known=bool(wanted.crl) or target.revoked.serial in held.revocations.serials,
        )
        for target in targets
    )


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
            leaves.refuse_unlisted(replace(want, generation=held), now)
            raise Refused(
                "the nodes are not as the inventory says, and may still use a certificate that is not in the "
                "register; nothing was changed",
                "`deploy`, then revoke",
            )
        todo = converge.plan(want, now)
        title = f"revoke {', '.join(map(str, targets))} in {want.cluster.name}"
        if not todo:
            taken_in = want.generation.revocations != held.revocations
            return replace(todo, title=title, notes=(*todo.notes, *([KNOWN_THERE] if taken_in else [])))
        notes = [*_unknown(want, now, targets), *todo.notes, *_restarts(want, held, now, todo), OPEN]
        if sealed:
            notes.append(SEALED)
        if before:
            notes.append("the hosts are not as the inventory says: what `deploy` would do goes along")
        else:
            todo = leaves.relisted(todo)
        return replace(todo, title=title, notes=tuple(notes))

    return plan


def _unknown(want: Wish, now: ClusterState, targets: Sequence[Target]) -> tuple[str, ...]:
    """Warn of a serial that neither the store nor a node knows."""
    there = {
        serial
        for host in now.hosts.values()
        for file in crl.FILES.values()
        for serial in leaves.refused(want, host, file)
    }
    lost = [one for one in targets if not one.known and one.revoked.serial not in there]
    return (UNKNOWN,) if lost else ()


def _restarts(want: Wish, held: Generation, now: ClusterState, todo: Plan) -> tuple[str, ...]:
    """Say whom this restarts and why: the ports whose members read no list until now."""
    if not any(isinstance(step, RestartEtcd) for stage in todo.stages for step in stage.steps):
        return (LATER,)
    flags = {file: f"--{flag}=" for flag, file in LISTS.items()}
    started = [host.unit.flags for host in now.hosts.values() if host.unit.running and host.unit.flags]
    first = [
        f"{port}s"
        for port, file in crl.FILES.items()
        if file in want.generation.revocations.files
        and (
            file not in held.revocations.files
            or any(not any(has.startswith(flags[file]) for has in each) for each in started)
        )
    ]
    return (FIRST.format(" and ".join(first)),) if first else ()


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
    root: Path, held: Generation, register: Sequence[Issued], wanted: Wanted, now: datetime
) -> Target:
    serial = _hex(wanted.serial)
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
        if not (one.valid(now) or wanted.crl):
            raise _expired(one)
        return _issued(one, held, now)
    leaf = replaced(root, serial)
    if leaf is None:
        return Target(Revoked(serial, "", now, None, ("client", "peer")), None, accounted=False, known=False)
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


def _lines(held: Generation, revocations: Revocations) -> tuple[str, ...]:
    if revocations == held.revocations:
        return ()
    new = [entry for entry in revocations.entries if entry.serial not in held.revocations.serials]
    return tuple(f"revoked: {entry.name} {entry.serial}" for entry in new) or (
        "list of what is revoked (new)",
    )


def _hex(text: str) -> str:
    """Read a serial as openssl and browsers write it: hex, with colons or without, `serial=` before it."""
    digits = text.strip().lower().removeprefix("serial=").removeprefix("0x").replace(":", "")
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
