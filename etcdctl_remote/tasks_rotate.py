"""The task that renews certificates and replaces CAs; like `tasks`: no logic beyond its flags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context

from .command import command, inventory_path
from .errors import UsageError
from .running import Asked, change

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .operations.consent import Consent
    from .operations.rotate_ca import Task
    from .operations.session import Session
    from .pki.generation import Due
    from .plan.step import Plan


@command
def rotate_certs(
    context: Context,
    inventory: str = "",
    output: str = "text",
    yes: bool = False,
    dry_run: bool = False,
    only: str = "",
    node: list[str] = [],  # noqa: B006 (Invoke reads the default as "repeatable")
    within: str | None = None,
    force: bool = False,
    if_needed: bool = False,
    back: bool = False,
    ca: bool = False,
    ca_only: str = "",
    pause_before_leaves: bool = False,
    pause_before_drop: bool = False,
    confirm: str = "",
) -> None:
    """Renew what is due, without a restart; --ca replaces the CA itself, in two rolling restarts."""
    asked = Asked(inventory, output, yes, dry_run)
    replaces = ca or bool(ca_only)
    for_leaves = {"--only": only, "--node": node, "--within": within is not None, "--force": force}
    for_leaves |= {"--if-needed": if_needed, "--back": back}
    pauses = {"--pause-before-leaves": pause_before_leaves, "--pause-before-drop": pause_before_drop}
    for_cas = {"--ca": replaces, **pauses}
    wrong = [*_apart(for_leaves, for_cas), *_wrong_values(only, within, ca_only)]
    _refuse([*wrong, *_strange(inventory, node, ca_only)])
    if replaces:
        task = _replacement(ca_only, leaves=pause_before_leaves, drop=pause_before_drop, confirm=confirm)
        _replace(asked, ca_only, task)
        return
    due = _due(only, node, within, force=force)

    def renew(session: Session, consent: Consent) -> Plan:
        from .operations.rotate_certs import rotate_certs as operation

        return operation(session, consent, due, back=back, confirm=confirm)

    noted = {"only": only, "node": node, "within": within, "force": force, "back": back}
    change("rotate-certs", renew, asked, "done", partial=True, noted=noted, quiet=if_needed)


def _replace(asked: Asked, ca_only: str, task: Task) -> None:
    """Replace the CAs."""

    def operation(session: Session, consent: Consent) -> Plan:
        from .operations.rotate_ca import rotate_ca

        return rotate_ca(session, consent, task)

    change("rotate-certs", operation, asked, "done", noted={"ca": ca_only or "all", "pause": task.pause})


def _due(only: str, nodes: list[str], within: str | None, *, force: bool) -> Due:
    """Say which leaves are looked at."""
    from .desired.durations import parse_duration
    from .pki.generation import Due
    from .pki.profiles import Kind

    words = _words(only)
    kinds = tuple(kind for kind in Kind if not words or kind.value in words)
    return Due(
        parse_duration(within, "--within") if within is not None else None, kinds, nodes or None, force
    )


def _replacement(ca_only: str, *, leaves: bool, drop: bool, confirm: str) -> Task:
    """Say which CAs are replaced, and where that stops."""
    from .operations.rotate_ca import Pause, Task
    from .pki.rotation import BOTH

    pause: Pause = "before-leaves" if leaves else "before-drop" if drop else ""
    return Task(frozenset(which for which in BOTH if ca_only in ("", which)), pause, confirm)


def _words(only: str) -> list[str]:
    return [word.strip() for word in only.split(",")] if only else []


def _refuse(wrong: list[UsageError]) -> None:
    """Refuse with every mistake at once."""
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        hints = dict.fromkeys(each.hint for each in wrong)
        raise UsageError("; ".join(each.message for each in wrong), "; ".join(hints))


def _wrong_values(only: str, within: str | None, ca_only: str) -> Iterator[UsageError]:
    from .desired.durations import parse_duration
    from .pki.profiles import Kind
    from .pki.rotation import BOTH

    if within is not None:
        try:
            parse_duration(within, "--within")
        except UsageError as mistake:
            yield mistake
    known = [kind.value for kind in Kind]
    if unknown := [word for word in _words(only) if word not in known]:
        yield UsageError(f"--only {', '.join(unknown)}", f"of: {', '.join(known)}")
    if ca_only and ca_only not in BOTH:
        yield UsageError(f"--ca-only {ca_only}", "client or peer")


def _strange(inventory: str, nodes: list[str], ca_only: str) -> Iterator[UsageError]:
    """Hold the flags against the inventory, before any host is asked."""
    from .desired.inventory import load
    from .operations.rotate_ca import refuse_shared
    from .operations.rotate_certs import refuse_unknown
    from .pki.rotation import BOTH

    try:
        cluster = load(inventory_path(inventory))
    except UsageError as mistake:
        yield mistake
        return
    try:
        refuse_unknown(nodes, cluster)
    except UsageError as mistake:
        yield mistake
    try:
        refuse_shared(cluster, [which for which in BOTH if ca_only == which] or BOTH)
    except UsageError as mistake:
        yield mistake


def _apart(leaves: Mapping[str, object], authorities: Mapping[str, object]) -> Iterator[UsageError]:
    """Tell of flags for leaves beside flags for CAs (new CAs renew every leaf), and of others that don't go together."""
    here = [flag for flag, value in leaves.items() if value]
    there = [flag for flag, value in authorities.items() if value]
    others = [flag for flag in here if flag != "--back"]
    if here and there:
        yield UsageError(
            f"{' '.join(here)} beside {' '.join(there)}",
            "a replacement of the CA renews every leaf: leave out one of the two",
        )
    if there and not authorities["--ca"]:
        yield UsageError(
            f"{' '.join(there)} without --ca", "give --ca as well: a pause belongs to a replacement"
        )
    if others != here and others:
        yield UsageError(
            f"--back beside {' '.join(others)}", "--back takes the whole state before: leave out the others"
        )
    if authorities["--pause-before-leaves"] and authorities["--pause-before-drop"]:
        yield UsageError(
            "--pause-before-leaves and --pause-before-drop at once",
            "the first pause comes first: give one, and the other when you go on",
        )
