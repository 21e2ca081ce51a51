"""The task that renews certificates and replaces CAs; like `tasks`: no logic beyond its flags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context

from .command import command
from .errors import UsageError
from .running import Asked, change

if TYPE_CHECKING:
    from datetime import timedelta

    from .operations.consent import Consent
    from .operations.rotate_ca import Task
    from .operations.session import Session
    from .pki.generation import Due
    from .pki.profiles import Kind
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
    within: str = "",
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
    _refuse_together(
        {
            "--only": only,
            "--node": node,
            "--within": within,
            "--force": force,
            "--if-needed": if_needed,
            "--back": back,
        },
        {
            "--ca": replaces,
            "--pause-before-leaves": pause_before_leaves,
            "--pause-before-drop": pause_before_drop,
        },
    )
    if replaces or pause_before_leaves or pause_before_drop:
        task = _replacement(ca_only, leaves=pause_before_leaves, drop=pause_before_drop, confirm=confirm)

        def replace_ca(session: Session, consent: Consent) -> Plan:
            from .operations.rotate_ca import rotate_ca

            return rotate_ca(session, consent, task)

        change("rotate-certs", replace_ca, asked, "done", noted={"ca": ca_only or "all", "pause": task.pause})
        return
    due = _due(only, node, within, force=force)

    def renew(session: Session, consent: Consent) -> Plan:
        from .operations.rotate_certs import rotate_certs as operation

        return operation(session, consent, due, back=back, confirm=confirm)

    noted = {"only": only, "node": node, "within": within, "force": force, "back": back}
    change("rotate-certs", renew, asked, "done", partial=True, noted=noted, quiet=if_needed)


def _due(only: str, nodes: list[str], within: str, *, force: bool) -> Due:
    """Read which leaves are looked at; every mistake at once."""
    from .desired.durations import parse_duration
    from .pki.generation import Due
    from .pki.profiles import Kind

    wrong: list[UsageError] = []
    window: timedelta | None = None
    kinds: tuple[Kind, ...] = tuple(Kind)
    try:
        window = parse_duration(within, "--within") if within else None
    except UsageError as mistake:
        wrong.append(mistake)
    words = [word.strip() for word in only.split(",")] if only else []
    known = [kind.value for kind in Kind]
    if unknown := [word for word in words if word not in known]:
        wrong.append(UsageError(f"--only {', '.join(unknown)}", f"of: {', '.join(known)}"))
    elif words:
        kinds = tuple(kind for kind in Kind if kind.value in words)
    if wrong:
        raise UsageError("; ".join(each.message for each in wrong), "; ".join(each.hint for each in wrong))
    return Due(window, kinds, nodes or None, force)


def _replacement(ca_only: str, *, leaves: bool, drop: bool, confirm: str) -> Task:
    from .operations.rotate_ca import Pause, Task
    from .pki.rotation import BOTH, Which

    scopes: dict[str, frozenset[Which]] = {
        "": BOTH,
        "client": frozenset(("client",)),
        "peer": frozenset(("peer",)),
    }
    wrong = []
    if leaves and drop:
        wrong.append(
            UsageError(
                "--pause-before-leaves and --pause-before-drop at once",
                "the first pause comes first: give one, and the other when you go on",
            )
        )
    if ca_only not in scopes:
        wrong.append(UsageError(f"--ca-only {ca_only}", "client or peer"))
    if wrong:
        raise UsageError("; ".join(each.message for each in wrong), "; ".join(each.hint for each in wrong))
    pause: Pause = "before-leaves" if leaves else "before-drop" if drop else ""
    return Task(scopes[ca_only], pause, confirm)


def _refuse_together(leaves: dict[str, object], authorities: dict[str, object]) -> None:
    """Refuse flags for leaves beside flags for CAs: new CAs renew every leaf anyway."""
    here = [flag for flag, value in leaves.items() if value]
    there = [flag for flag, value in authorities.items() if value]
    if here and there:
        raise UsageError(
            f"{' '.join(here)} beside {' '.join(there)}",
            "a replacement of the CA renews every leaf: leave out one of the two",
        )
    if "--back" in here and len(here) > 1:
        raise UsageError(
            f"--back beside {' '.join(flag for flag in here if flag != '--back')}",
            "--back takes the whole state before: leave out the others",
        )
