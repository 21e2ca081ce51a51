"""The installed program: the same collection that `invoke` finds in a checkout."""

from __future__ import annotations

import sys

from invoke.exceptions import ParseError
from invoke.program import Program

from . import __version__
from .tasks import namespace


class EtcdctlRemote(Program):
    """Invoke's program with the exit code that the command line promises for wrong usage."""

    def execute(self) -> None:
        super().execute()

    def parse_core(self, argv: list[str] | None) -> None:
        _usage(super().parse_core, argv)

    def parse_tasks(self) -> None:
        _usage(super().parse_tasks)


def _usage(parse: object, *arguments: object) -> None:
    try:
        parse(*arguments)  # type: ignore[operator]
    except ParseError as error:
        print(error, file=sys.stderr)
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
