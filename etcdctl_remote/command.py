"""What every task has in common: flags with one meaning, errors shown, exit codes kept.

No task has a required positional argument: Invoke would take `--help` for its value and run
the task (pyinvoke/invoke#982). For the same reason a value that looks like a flag is refused.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.parser.argument import Argument
from invoke.tasks import Task

from .errors import Failed, Interrupted, LeftAtQuestion, Problem, UsageError

ENVIRONMENT = "ETCDCTL_REMOTE_INVENTORY"

SHORT = {"inventory": "i", "output": "o", "yes": "y", "dry_run": "n", "command": "c", "follow": "f"}

HELP = {
    "inventory": f"the inventory file (default inventory.yaml, or ${ENVIRONMENT})",
    "output": "text or json",
    "yes": "do not ask",
    "dry_run": "show what would be done; nothing is touched",
    "confirm": "the cluster's name: agreement to what can cost data",
    "node": "only this node",
    "command": "etcdctl's own arguments, quoted as one: 'member list -w table'",
    "lines": "how many of the last lines of each node",
    "follow": "go on with what comes, until Ctrl-C",
    "delete_data": "delete the data directories instead of moving them aside",
    "within": "renew what ends within this time, 30d say (default: a third of its life is left)",
    "only": "server, peer, client; several with commas between",
    "force": "renew even what is fine",
    "if_needed": "say nothing where nothing is due: for cron",
    "back": "put the certificates before the current ones in force again",
    "ca": "replace the CAs: trust both, leaves from the new, trust the new only",
    "ca_only": "replace only the CA of client or peer",
    "pause_before_leaves": "with --ca: stop once both are trusted, for clients to take the bundle",
    "pause_before_drop": "with --ca: stop before the old CA is dropped, for clients to move",
    "run": "the id of one run, as the list shows it: step by step",
}
OWN = {
    "init": {
        "inventory": "the file to write (default inventory.yaml); never over one",
        "cluster": "the cluster's name",
        "node": "NAME=ADDRESS; repeatable, once for each node",
        "version": "the etcd release, for example 3.6.14 (default: the newest that is known)",
        "user": "the login user (default: what OpenSSH's configuration says)",
        "schema": "write the inventory's JSON Schema to standard output instead",
    },
    "rotate_certs": {
        "node": "only this node; repeatable",
        "confirm": "the cluster's name: where a CA has expired all members restart together",
    },
    "etcdctl": {"node": "on this node (default: the first that can be reached)"},
    "certs_init": {
        "import_": "CERT,KEY: the CA for clients and servers, its chain up to the root behind it",
        "import_peer": "CERT,KEY: the CA for peers (left out: it is made)",
        "passphrase": "where that of an encrypted key comes from: ask, env:NAME or fd:NUMBER",
    },
    "certs_backup": {
        "out": "the file to write (default certs/CLUSTER-DATE.tar.age); never over one",
        "recipient": "an age recipient or SSH public key to encrypt for; repeatable",
        "passphrase": "where a passphrase comes from instead: ask, env:NAME or fd:NUMBER",
    },
    "certs_restore": {
        "from_": "the backup",
        "identity": "what opens it: file of an age identity or SSH private key (default pki.ca_key.identity)",
        "passphrase": "where its passphrase comes from, if it has one: ask, env:NAME or fd:NUMBER",
    },
    "certs_list": {
        "within": "what counts as expiring: 30d, 12h, 2w (default: a third of its life is left)",
        "fail_within": "exit 1 if one ends within this time, or is not as it should be",
        "metrics": "write a Prometheus textfile, too: FILE.prom",
    },
    "lab_up": {
        "name": "the lab's name: its files are in .lab/NAME",
        "nodes": "how many nodes",
        "os": "debian12 or debian13",
    },
    "lab_down": {"name": "the lab's name"},
    "certs_issue": {
        "name": "whose it is: the common name, and etcd's user where auth is on",
        "kind": "ready-made: apiserver, prometheus or patroni",
        "usage": "client, server, or both: client,server",
        "names": "host names and addresses in it, separated by commas",
        "days": "how long it is valid (default: pki.leaf_days of the inventory)",
        "out": "write the certificate, its key and the CAs into this folder",
        "csr": "sign this request (PEM or DER): the key stays with its owner",
    },
    "certs_export": {
        "name": "whose certificate (default: operator, issued at need)",
        "out": "the folder for the files",
    },
    "certs_revoke": {
        "name": "whose certificates: all of that name that have not ended",
        "serial": "one certificate by its serial, hex, as `openssl x509 -noout -serial` prints it",
        "crl": "a list made by the owner of the CA, or copied from a node; one for each CA: ca.crl,peer-ca.crl",
        "confirm": "the cluster's name: agreement to revoke a serial that nobody here knows",
    },
}
"""What a flag means in one task only."""

SPANS = ("within", "fail_within")
"""Flags with a span of time: a negative one is told as such."""

ONE_BREATH = 0.5
"""Seconds in which a further SIGTERM is the same one."""


class NoNumber(str):
    """What was given where a whole number belongs; refused once it is known how to tell."""


class Whole(Argument):
    """A flag with a whole number. Invoke ends with a traceback where it gets something else."""

    @classmethod
    def of(cls, given: Argument) -> Whole:
        """The same flag, careful with its value."""
        return cls(names=given.names, kind=int, default=given.default, help=given.help)

    def set_value(self, value: Any, cast: bool = True) -> None:
        """Take a number; anything else is kept as what it is."""
        good = not cast or (str(value).isdecimal() and int(value) > 0)
        super().set_value(value if good else NoNumber(value), cast and good)


class Command(Task):  # type: ignore[type-arg]
    """An Invoke task whose short flags are chosen by us, not by the order of its arguments."""

    def arg_opts(self, name: str, default: str, taken_names: set[str]) -> dict[str, Any]:
        opts = super().arg_opts(name, default, taken_names)
        long = opts["names"][0]
        opts["names"] = (long, SHORT[name]) if name in SHORT else (long,)
        opts["help"] = OWN.get(self.body.__name__, {}).get(name) or HELP.get(name)
        return opts

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        found = super().get_arguments(ignore_unknown_help)
        return [Whole.of(one) if one.kind is int else one for one in found]


@contextmanager
def reported(output: str, *, changes: bool = False) -> Iterator[None]:
    """Show a problem as the format asks for, and end with its exit code."""
    try:
        yield
    except (Problem, KeyboardInterrupt) as ended:
        from .console.failures import show
        from .console.output import Output

        problem = ended if isinstance(ended, Problem) else _interrupted(ended, changes)
        show(Output("json" if output == "json" else "text"), problem)
        raise Exit(code=problem.exit_code) from ended
    except (Exit, BrokenPipeError):
        raise
    except Exception as bug:
        import traceback

        from .console.failures import show
        from .console.output import Output

        traceback.print_exc()
        seen = "".join(traceback.format_exception_only(bug)).strip()
        failed = Failed(
            f"a bug: {seen}", "report it with the lines above; `audit` lists what was done before"
        )
        show(Output("json" if output == "json" else "text"), failed)
        raise Exit(code=failed.exit_code) from bug


@contextmanager
def terminable() -> Iterator[None]:
    """Have SIGTERM end the task as Ctrl-C does: told, noted in the journal, the locks let go.

    It does whatever Ctrl-C would do at that moment, so a second one ends the program at once. `timeout`
    sends it to the process and to its group, twice in one breath: that is no second wish.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    first: list[float] = []

    def end(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if first and now - first[0] < ONE_BREATH:
            return
        first.append(now)
        pressed = signal.getsignal(signal.SIGINT)
        (pressed if callable(pressed) else signal.default_int_handler)(number, frame)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupted(ended: KeyboardInterrupt, changes: bool) -> Interrupted:
    """Say what to do after Ctrl-C, if there is anything: a task that only looks left nothing half done."""
    if isinstance(ended, LeftAtQuestion):
        return Interrupted("interrupted at the question; nothing was changed")
    again = "run the task again: it goes on from where the cluster is"
    return Interrupted("interrupted", again if changes else "")


def inventory_path(given: str) -> Path:
    """Return the inventory to use: the flag, the environment, or inventory.yaml here."""
    path = Path(given or os.environ.get(ENVIRONMENT) or "inventory.yaml").expanduser()
    if not path.exists():
        raise UsageError(f"{path}: no such file", "make one with `init`, or name it with --inventory")
    return path


def refuse_flags(arguments: dict[str, object]) -> None:
    """Refuse values that look like flags: a value was forgotten, or --help came too late; and no numbers."""
    for name, value in arguments.items():
        if isinstance(value, NoNumber):
            raise UsageError(f"--{name.replace('_', '-')} {value}: not a whole number from 1")
        if name in SPANS and isinstance(value, str) and value[1:2].isdecimal():
            continue
        values = value if isinstance(value, list) else [value]
        flags = [v for v in values if isinstance(v, str) and v.startswith("-") and len(v) > 1]
        if flags and name != "command":
            raise UsageError(
                f"--{name.replace('_', '-')} was given the value {flags[0]!r}", "give it a value"
            )


def tried(arguments: dict[str, object]) -> bool:
    """Take Invoke's --dry for our --dry-run; refuse it where there is none, for it would be ignored."""
    if "dry_run" not in arguments:
        raise UsageError("--dry: this task has no dry run", "leave it out; nothing was done")
    return True


def choose_output(output: str) -> str:
    """Check --output."""
    if output not in ("text", "json"):
        raise UsageError(f"--output {output}", "text or json")
    return output


Body = Callable[..., None]


def command(body: Body) -> Command:
    """Make a function a task: its problems become messages and exit codes."""
    import functools

    @functools.wraps(body)
    def run(context: Context, **arguments: Any) -> None:
        output = str(arguments.get("output", "text"))
        changes = "dry_run" in arguments and not (arguments["dry_run"] or context.config.run.dry)
        with terminable(), reported(output if output == "json" else "text", changes=changes):
            refuse_flags(arguments)
            choose_output(output)
            if context.config.run.dry:
                arguments["dry_run"] = tried(arguments)
            body(context, **arguments)

    return Command(run, auto_shortflags=False)
