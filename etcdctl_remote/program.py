"""The installed program: the same collection that `invoke` finds in a checkout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from invoke.exceptions import ParseError
from invoke.parser.argument import Argument
from invoke.program import Program

from . import __version__
from .tasks import namespace

FOR_SHELLS = frozenset(
    {
        "command-timeout",
        "config",
        "echo",
        "hide",
        "prompt-for-sudo-password",
        "pty",
        "warn-only",
    }
)


class EtcdctlRemote(Program):
    """Invoke's program with the exit code that the command line promises for wrong usage."""

    def core_args(self) -> list[Argument]:
        """Leave out what Invoke offers for local shell commands: we run none, so they would do nothing."""
        kept = [argument for argument in super().core_args() if argument.name not in FOR_SHELLS]
        for argument in kept:
            if argument.name == "dry":
                argument.help = "--dry-run for the tasks that have it; the others refuse."
        return kept

    def update_config(self, merge: bool = True) -> None:
        """Take over the one flag that is left; Invoke's own looks for all of them."""
        dry = {"run": {"dry": True}} if self.args["dry"].value else {}
        self.config.load_overrides(dry, merge=merge)

    def parse_core(self, argv: list[str] | None) -> None:
        with _usage():
            super().parse_core(argv)

    def parse_tasks(self) -> None:
        with _usage():
            super().parse_tasks()


@contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except ParseError as error:
        print(error, file=sys.stderr)
        if error.context and error.context.name:
            print(f"`etcdctl-remote {error.context.name} --help` lists its flags", file=sys.stderr)
        raise SystemExit(2) from error


def main() -> None:
    """Run `etcdctl-remote TASK …`."""
    program = EtcdctlRemote(
        version=__version__,
        namespace=namespace,
        name="etcdctl-remote",
        binary="etcdctl-remote",
        binary_names=["etcdctl-remote"],
    )
    program.run()
