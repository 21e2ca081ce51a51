"""The installed program: the same collection that `invoke` finds in a checkout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from invoke.exceptions import ParseError
from invoke.program import Program

from . import __version__
from .tasks import namespace


class EtcdctlRemote(Program):
    """Invoke's program with the exit code that the command line promises for wrong usage."""

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
