"""Run the program as an operator does, in a process of its own, with no terminal and no inventory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, "-c", "from etcdctl_remote.program import main; main()")
"""What the console script of an installation does."""
CHECKOUT = (sys.executable, "-m", "invoke", "--search-root", str(ROOT))

Done = subprocess.CompletedProcess[str]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's, with nothing in it that chooses an inventory."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_REMOTE")}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **(extra or {})}


def start(*words: str, folder: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start the program in a folder."""
    return subprocess.Popen(
        [*PROGRAM, *words], cwd=folder, env=environment(env), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(*words: str, folder: Path, env: Mapping[str, str] | None = None) -> Done:
    """Run the program to its end."""
    return finish(start(*words, folder=folder, env=env))


def finish(process: subprocess.Popen[str]) -> Done:
    """Wait for it."""
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
