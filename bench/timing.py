"""Measure one run of a program: wall time, CPU here and on the nodes, peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from etcdctl_remote.errors import Failed
from etcdctl_remote.lab.model import Lab, Node, each

LAUNCH = Path(__file__).with_name("launch.py")


@dataclass(frozen=True)
class Sample:
    """One run. Seconds and bytes."""

    seconds: float
    cpu: float
    """User and system time on this computer, of the program and all it started."""
    nodes: float
    """CPU time of all nodes together, whatever ran on them."""
    peak: int
    """Largest resident memory of one process."""


@dataclass(frozen=True)
class Stopwatch:
    """Measures runs against one lab; what they say goes to a file, shown when one fails."""

    lab: Lab
    folder: Path

    def run(self, argv: Sequence[str]) -> Sample:
        """Run a program to its end; Failed with the end of what it said unless it exits with 0."""
        result, said = self.folder / "result.json", self.folder / "said.txt"
        before = self._burnt()
        with said.open("wb") as output:
            subprocess.run(
                [sys.executable, "-IS", str(LAUNCH), str(result), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=True,
            )
        found = json.loads(result.read_text("ascii"))
        if found["exit"]:
            tail = "\n".join(said.read_text("utf-8", "replace").splitlines()[-20:])
            raise Failed(f"{' '.join(argv)[:200]}: exit {found['exit']}\n{tail}")
        return Sample(found["seconds"], found["cpu"], self._burnt() - before, found["peak"])

    def _burnt(self) -> float:
        """CPU seconds all nodes have used since they were made."""
        return sum(each(self.lab.nodes, _burnt))


def _burnt(node: Node) -> float:
    """Read the CPU seconds of a container's cgroup, of either generation; 0 if it is not found."""
    id = node.handle().id or ""
    for place in (f"cpuacct/docker/{id}", f"docker/{id}", f"system.slice/docker-{id}.scope"):
        folder = Path("/sys/fs/cgroup") / place
        if (folder / "cpuacct.usage").is_file():
            return int((folder / "cpuacct.usage").read_text("ascii")) / 1e9
        if (folder / "cpu.stat").is_file():
            return int((folder / "cpu.stat").read_text("ascii").split()[1]) / 1e6
    return 0.0
