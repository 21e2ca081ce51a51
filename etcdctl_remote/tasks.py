"""The Invoke collection: arguments → operation → exit code; no logic.

Everything heavy is imported inside the tasks, so that `--help` and completion stay fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit

from . import tasks_certs
from .command import command, inventory_path
from .errors import UsageError
from .running import Asked, change, consent_on, look, screen, show_plan, ways_on
from .tasks_rotate import rotate_certs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from .console.output import Output
    from .lab.nodes import Lab
    from .operations.consent import Consent
    from .operations.session import Session
    from .plan.step import Plan


# -- start -------------------------------------------------------------------------------------


@command
def init(
    context: Context,
    cluster: str = "",
    node: list[str] = [],  # noqa: B006 (Invoke reads the default as "repeatable")
    version: str = "",
    user: str = "",
    inventory: str = "",
    output: str = "text",
    schema: bool = False,
) -> None:
    """Write an inventory: --cluster NAME --node n1=10.0.0.11 (repeatable); never over a file.

    With --schema, write a JSON Schema for editors to standard output instead.
    """
    from .operations import init as operation

    if schema:
        screen("json").result("", operation.json_schema())
        return
    path = operation.init(inventory, cluster=cluster, nodes=node, version=version, user=user)
    screen(output).result(f"{path} written. Next: `check`, then `deploy`.", {"inventory": str(path)})


@command
def check(context: Context, inventory: str = "", output: str = "text") -> None:
    """Preflight: everything that can spoil a deploy, as a table with values and fixes."""
    from .observed.findings import Result, document
    from .operations.check import check as operation
    from .session import session

    out = screen(output)
    with session(inventory_path(inventory), "check", "command", partial=True, ways=ways_on(out)) as opened:
        findings = operation(opened)
        failing = any(finding.result is Result.FAIL for finding in findings)
        if failing and opened.journal:
            opened.journal.exit = 1
    from .console.reports import findings_table

    out.result(findings_table(findings), document(findings))
    if failing:
        raise Exit(code=1)


# -- change ------------------------------------------------------------------------------------


@command
def plan(context: Context, inventory: str = "", output: str = "text") -> None:
    """Show what a deploy would do, with file diffs; exit 5 if that is anything."""
    from .operations.deploy import deploy as operation
    from .session import session

    out = screen(output)
    with session(inventory_path(inventory), "plan", ways=ways_on(out)) as opened:
        todo = operation(opened, consent_on(out, yes=False, dry_run=True))
    show_plan(out, todo)
    if todo:
        raise Exit(code=5)


@command
def deploy(
    context: Context, inventory: str = "", output: str = "text", yes: bool = False, dry_run: bool = False
) -> None:
    """Bring every host to what the inventory says: first start together, later changes rolling."""
    from .operations.deploy import deploy as operation

    done = "every member serves. Next: `health`, `status`; keep a copy of the certs folder in a safe place"
    change("deploy", operation, Asked(inventory, output, yes, dry_run), done)


@command
def start(
    context: Context, inventory: str = "", output: str = "text", yes: bool = False, dry_run: bool = False
) -> None:
    """Start all members that have their data."""
    from .operations.start_stop import start as operation

    asked = Asked(inventory, output, yes, dry_run)
    change("start", operation, asked, "every started member serves", partial=True)


@command
def stop(
    context: Context, inventory: str = "", output: str = "text", yes: bool = False, dry_run: bool = False
) -> None:
    """Stop all members; everything that needs etcd stops working until `start`."""
    from .operations.start_stop import stop as operation

    asked = Asked(inventory, output, yes, dry_run)
    change("stop", operation, asked, "every member is stopped. Next: `start`")


@command
def destroy(
    context: Context,
    inventory: str = "",
    output: str = "text",
    confirm: str = "",
    delete_data: bool = False,
    yes: bool = False,
    dry_run: bool = False,
) -> None:
    """Stop the cluster and remove what deploy installed; data is moved aside with a date.

    Needs --confirm CLUSTER, given or typed; --yes alone is never enough.
    --delete-data deletes the data directories instead of moving them aside.
    """
    from .operations.destroy import destroy as operation

    def run(opened: Session, consent: Consent) -> Plan:
        return operation(opened, consent, confirm=confirm, delete_data=delete_data)

    noted = {"delete_data": delete_data, "confirm": bool(confirm)}
    asked = Asked(inventory, output, yes, dry_run)
    change("destroy", run, asked, "the cluster is gone from its hosts", noted=noted)


# -- look --------------------------------------------------------------------------------------


@command
def health(context: Context, inventory: str = "", output: str = "text") -> None:
    """Check each member by a linearizable read on its own node; exit 1 if any is unhealthy."""
    from .console.reports import health_document, health_table
    from .operations.health import health as operation

    found = look("health", operation, inventory, output)
    screen(output).result(health_table(found), health_document(found))
    if not found.healthy:
        raise Exit(code=1)


@command
def status(context: Context, inventory: str = "", output: str = "text") -> None:
    """One table of members, how many more may be lost, and what to do about what is seen."""
    from .console.reports import status_document, status_table
    from .operations.status import status as operation

    found = look("status", operation, inventory, output)
    screen(output).result(status_table(found), status_document(found))


@command
def etcdctl(context: Context, command: str = "", inventory: str = "", node: str = "") -> None:
    """Run etcdctl on a node: -c 'member list -w table'; its exit code is passed on."""
    import sys

    from .operations.run_etcdctl import run_etcdctl as operation
    from .operations.run_etcdctl import verb
    from .session import session

    out, path = screen("text"), inventory_path(inventory)
    arguments = {"node": node, "command": verb(command)}
    typed = sys.stdin is None or sys.stdin.isatty()
    stdin = None if typed else open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
    with session(path, "etcdctl", "command", partial=True, ways=ways_on(out), arguments=arguments) as opened:
        code = operation(
            opened, command, node, stdin=stdin, out=_raw(sys.stdout.buffer), err=_raw(sys.stderr.buffer)
        )
    if code:
        raise Exit(code=code)


@command
def logs(
    context: Context,
    inventory: str = "",
    output: str = "text",
    node: str = "",
    lines: int = 100,
    follow: bool = False,
) -> None:
    """Show the units' journals of all nodes, merged in time order."""
    from .operations.logs import streams
    from .session import session

    if follow and output == "json":
        raise UsageError("--follow has no end, so it is no JSON document", "leave out one of the two")
    out = screen(output)
    with session(inventory_path(inventory), "logs", partial=True, ways=ways_on(out)) as opened:
        from .console import logs as view

        found = {
            name: (view.Entry(*fields) for fields in entries)
            for name, entries in streams(opened, node=node, lines=lines, follow=follow).items()
        }
        lost = {} if node else opened.unreachable
        for problem in lost.values():
            out.warn(problem.message)
        if output == "json":
            out.result("", view.document(view.merge(found.values())))
        else:
            entries = view.follow(found, _broken(out)) if follow else view.merge(found.values())
            view.show(out, entries, tuple(found))
    if lost:
        raise Exit(code=3)


@command
def audit(context: Context, inventory: str = "", output: str = "text", run: str = "") -> None:
    """List what was done to this cluster; --run ID shows one run step by step."""
    from .console import history
    from .plan.journal import beside, read

    out = screen(output)
    found = history.runs(read(beside(inventory_path(inventory))))
    if run:
        chosen = history.one(found, run)
        out.result(history.run_table(chosen), history.run_document(chosen))
    else:
        out.result(history.runs_table(found), history.runs_document(found))


# -- the lab -----------------------------------------------------------------------------------


@command
def lab_up(
    context: Context, nodes: int = 3, os: str = "debian12", name: str = "lab", output: str = "text"
) -> None:
    """Start local nodes that are real hosts (systemd, sshd), and write an inventory for them."""
    lab = _lab_nodes()

    out = screen(output)
    before = lab.find(name)
    if before is None:
        _writable(lab.DEFAULT_STATE)
    kept = before is not None and before.inventory.is_file()
    found = lab.up(name, lab.Shape(nodes=nodes, os=os), say=out.note)
    done = "kept as it was" if kept else "written"
    out.result(f"{found.inventory} {done}. Next: `deploy -i {found.inventory}`.", _lab_document(found))


@command
def lab_list(context: Context, output: str = "text") -> None:
    """List the local labs and their nodes."""
    lab = _lab_nodes()

    found = lab.list_labs()
    rows = (f"{each.name}  {node.name}  {node.address}" for each in found for node in each.nodes)
    screen(output).result(
        "\n".join(rows) or "there is no lab", {"labs": [_lab_document(each) for each in found]}
    )


@command
def lab_down(context: Context, name: str = "lab", output: str = "text") -> None:
    """Remove a local lab: its nodes, its network, its folder."""
    lab = _lab_nodes()

    out = screen(output)
    gone = lab.down(name, say=out.note)
    out.result(f"{name} is gone" if gone else f"there is no lab {name}", {"lab": name, "removed": gone})


def _lab_nodes() -> ModuleType:
    """Import the lab, which is an extra: an operator of real hosts does not need it."""
    from importlib.util import find_spec

    if find_spec("docker") is None:
        raise UsageError("the lab needs the docker package", "in a checkout: pip install '.[lab]'")
    from .lab import nodes

    return nodes


def _writable(folder: Path) -> None:
    """Refuse before anything is made: a lab's files are in a folder here."""
    import os

    place = folder if folder.exists() else folder.absolute().parent
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(
            f"{folder.absolute()} is for the lab's files, and {place.absolute()} cannot be written to",
            "run it in a folder of yours",
        )


def _lab_document(found: Lab) -> dict[str, object]:
    nodes = {node.name: node.address for node in found.nodes}
    return {"lab": found.name, "inventory": str(found.inventory), "nodes": nodes}


def _raw(stream: BinaryIO) -> Callable[[bytes], None]:
    """Write what arrives at once."""

    def write(data: bytes) -> None:
        stream.write(data)
        stream.flush()

    return write


def _broken(out: Output) -> Callable[[str, Exception], None]:
    """Tell of a journal that broke off, and go on with the others."""
    return lambda node, error: out.warn(f"{node}: {error}")


namespace = Collection("etcdctl_remote")
_TASKS = (
    init,
    check,
    plan,
    deploy,
    health,
    status,
    etcdctl,
    logs,
    start,
    stop,
    rotate_certs,
    destroy,
    audit,
)
for _task in _TASKS:
    namespace.add_task(_task)
namespace.add_collection(tasks_certs.namespace)
_lab = Collection("lab")
_lab.add_task(lab_up, name="up")
_lab.add_task(lab_list, name="list")
_lab.add_task(lab_down, name="down")
namespace.add_collection(_lab)
namespace.add_collection(tasks_certs.namespace)
