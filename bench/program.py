"""The program under measurement: its command lines, and what its journal says of a run."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from etcdctl_remote.plan.journal import beside

START_STAGE = "Start all members together"
CHECKOUT = (sys.executable, "-c", "from etcdctl_remote.program import main; main()")
"""What the console script does, from this checkout, whether it is installed or not."""


@dataclass(frozen=True)
class Program:
    """How the program is called on one inventory."""

    argv: Sequence[str]
    inventory: Path

    def deploy(self) -> tuple[str, ...]:
        return (*self.argv, "deploy", "--yes", "-i", str(self.inventory))

    def health(self) -> tuple[str, ...]:
        return (*self.argv, "health", "-i", str(self.inventory))

    def rotate(self) -> tuple[str, ...]:
        return (*self.argv, "rotate-certs", "--force", "--yes", "-i", str(self.inventory))

    def help(self) -> tuple[str, ...]:
        return (*self.argv, "--help")

    def forget(self) -> None:
        """Remove its certificates and its journal: the next deploy starts from nothing."""
        shutil.rmtree(self.inventory.parent / "certs", ignore_errors=True)
        beside(self.inventory).unlink(missing_ok=True)

    def waited(self) -> float:
        """Seconds the last deploy spent in etcd's own first start: ask systemd, then wait for all."""
        entries = [json.loads(line) for line in beside(self.inventory).read_text("utf-8").splitlines()]
        stages = [(e["at"], e.get("title")) for e in entries if e["event"] in ("stage", "end")]
        for (began, title), (ended, _) in pairwise(stages):
            if title == START_STAGE:
                return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()
        raise LookupError(f"no stage {START_STAGE!r} in the journal")
