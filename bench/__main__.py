"""Measure: `python -m bench [--rounds N] [--json FILE] [--padded MIB] [--program 'COMMAND']`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path

from etcdctl_remote.errors import Problem
from etcdctl_remote.lab import nodes as labs
from etcdctl_remote.lab import releases

from . import table
from .program import CHECKOUT, Program
from .rounds import Bench, floor_of
from .timing import Stopwatch

NAME = "bench"
VERSION = releases.FOR_TESTS[0]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured")
    parser.add_argument("--json", type=Path, help="write all samples to this file")
    parser.add_argument("--padded", type=int, default=300, help="MiB of the big archive; 0: without it")
    parser.add_argument("--program", default="", help="measure this command instead of this checkout's")
    parser.add_argument("--quiet", action="store_true", help="print only the table")
    return parser.parse_args(argv)


def measure(wanted: argparse.Namespace, folder: Path) -> table.Samples:
    """Start the lab, measure, take the lab down."""

    def say(line: str) -> None:
        if not wanted.quiet:
            print(f"· {line}", file=sys.stderr, flush=True)

    archive = releases.ensure(VERSION, say=say)
    labs.sweep(say)
    try:
        lab = labs.up(NAME, labs.Shape(owner=labs.me()), folder, VERSION, say)
        watch = Stopwatch(lab, folder)
        program = Program(tuple(shlex.split(wanted.program)) or CHECKOUT, lab.inventory)
        bench = Bench(watch, program, floor_of(watch, archive), say)
        for number in range(1, wanted.rounds + 1):
            say(f"round {number} of {wanted.rounds}")
            bench.round()
        if wanted.padded:
            bench.big_archive(folder, wanted.padded << 20)
    finally:
        labs.down(NAME, say)
    return bench.samples.by_name


def main() -> int:
    """Print the table. Exits 0 whatever it says: a slow machine is not a failed test."""
    wanted = arguments()
    try:
        with tempfile.TemporaryDirectory(prefix="etcdctl-remote-bench-") as folder:
            samples = measure(wanted, Path(folder))
    except Problem as problem:
        print(problem, file=sys.stderr)
        return problem.exit_code
    found = table.rows(samples)
    print(table.text(found, samples))
    if wanted.json:
        wanted.json.write_text(json.dumps(table.document(found, samples), indent=1) + "\n", "utf-8")
    return 0


sys.exit(main())
