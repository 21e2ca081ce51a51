"""How a task runs an operation: what is asked, shown, noted, and how it ends on the screen.

Everything heavy is imported inside, as in `tasks.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from .command import inventory_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .console.output import Output
    from .operations.consent import Consent
    from .operations.session import Session, Ways
    from .plan.events import Listener
    from .plan.journal import Journal
    from .plan.step import Plan
    from .session import Mode

    Operation = Callable[[Session, Consent], Plan]

T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """The flags that every task which changes something has."""

    inventory: str
    output: str
    yes: bool
    dry_run: bool


def screen(output: str) -> Output:
    """Give the output in the format that was asked for."""
    from .console.output import Output

    return Output("json" if output == "json" else "text")


def look(task: str, operation: Callable[[Session], T], inventory: str, output: str) -> T:
    """Run an operation that changes nothing, and goes on without the hosts that cannot be reached."""
    from .session import session

    ways = ways_on(screen(output))
    with session(inventory_path(inventory), task, partial=True, ways=ways) as opened:
        return operation(opened)


def change(
    task: str,
    operation: Operation,
    asked: Asked,
    done: str,
    *,
    partial: bool = False,
    noted: Mapping[str, object] | None = None,
    quiet: bool = False,
) -> None:
    """Run an operation that changes something: progress, consent, journal, a closing line.

    `quiet` says nothing where there is nothing to do: for cron.
    """
    from .console.progress import progress
    from .session import session

    out = screen(asked.output)
    path = inventory_path(asked.inventory)
    with progress(out) as listen:
        ways = ways_on(out, listen)
        if quiet:
            ways = replace(ways, tell=lambda line: None)
        mode: Mode = "read" if asked.dry_run else "change"
        arguments = {"yes": asked.yes, "dry_run": asked.dry_run, **(noted or {})}
        with session(path, task, mode, partial=partial, ways=ways, arguments=arguments) as opened:
            consent = consent_on(out, yes=asked.yes, dry_run=asked.dry_run, journal=opened.journal)
            todo = operation(opened, consent)
            if todo.incomplete and opened.journal:
                opened.journal.exit = 1
    if quiet and not todo and not todo.incomplete and asked.output != "json":
        return
    if asked.dry_run:
        show_plan(out, todo)
    else:
        finish(out, todo, done)


def finish(out: Output, todo: Plan, done: str) -> None:
    """Say how it ended; exit 1 if a host that was seen had to be left out."""
    from invoke.exceptions import Exit

    from .console.plans import document

    if todo.left_out or not todo:
        for note in todo.notes:
            out.warn(note)
    end = done if todo else "nothing to do"
    if todo.left_out:
        end = f"{done if todo else 'nothing was started'}; left out: {' '.join(todo.left_out)}"
    out.result(f"{todo.title}: {end}", document(todo))
    if todo.incomplete:
        raise Exit(code=1)


def ways_on(out: Output, listen: Listener | None = None) -> Ways:
    """Give an operation its ways to the person at the screen: told, asked for a password if present."""
    from .console.ask import Asker
    from .operations.session import Ways

    asker = Asker(out)
    password = asker.password if asker.present else None
    return Ways(tell=out.note, password=password, listen=listen or (lambda event: None))


def consent_on(out: Output, *, yes: bool, dry_run: bool, journal: Journal | None = None) -> Consent:
    """Show the plan before asking, and note it: one that is declined is history too."""
    from .console.ask import Asker
    from .console.plans import PlanView
    from .operations.consent import Consent

    def show(todo: Plan) -> None:
        out.inform(PlanView(todo, diffs=False))
        if journal:
            journal.plan(todo)

    return Consent(show, Asker(out), yes=yes, dry_run=dry_run)


def show_plan(out: Output, todo: Plan) -> None:
    """Show a whole plan, diffs included; exit 1 where carrying it out would leave a member out or silent."""
    from invoke.exceptions import Exit

    from .console.plans import PlanView, document

    out.result(PlanView(todo), document(todo))
    if todo.incomplete:
        raise Exit(code=1)
