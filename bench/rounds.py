"""One whole run: everything is measured in turn, round after round.

Interleaved, because a machine's speed drifts by the minute: what is compared with what was
measured right before or after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from etcdctl_remote.desired import inventory
from etcdctl_remote.errors import Failed
from etcdctl_remote.lab import access, faults, releases, writer
from etcdctl_remote.observed.state import HostState
from etcdctl_remote.operations import leaves
from etcdctl_remote.operations.wish import Wish
from etcdctl_remote.pki.store import Store

from .floor import Floor, pack
from .padded import padded
from .program import Program
from .timing import Sample, Stopwatch

SHORT = 3
"""How often the quick ones are measured in a round: they vary the most."""


@dataclass
class Samples:
    """What was measured so far, by name."""

    by_name: dict[str, list[Sample]] = field(default_factory=dict)

    def add(self, name: str, sample: Sample) -> None:
        self.by_name.setdefault(name, []).append(sample)


@dataclass(frozen=True)
class Bench:
    """What a run needs."""

    watch: Stopwatch
    program: Program
    floor: Floor
    say: Callable[[str], None]
    samples: Samples = field(default_factory=Samples)

    def round(self) -> None:
        """Measure everything once, the quick ones three times."""
        self._from_nothing()
        self._short()
        self._floor()

    def _from_nothing(self) -> None:
        self._fresh()
        self.program.forget()
        sample = self._measure("deploy", self.program.deploy())
        waited = self.program.waited()
        self.samples.add("deploy without start", replace(sample, seconds=sample.seconds - waited))

    def _short(self) -> None:
        for _ in range(SHORT):
            self._measure("ssh true", self.floor.true())
            self._measure("deploy, nothing to do", self.program.deploy())
            self._measure("ssh health", self.floor.health())
            self._measure("health", self.program.health())
            self._measure("rotate-certs", self.program.rotate())
            self._measure("--help", self.program.help())
        self._gap()

    def _gap(self) -> None:
        """Renew all leaves once more while applications write, for their longest wait alone."""
        folder = self.watch.folder / "clients"
        writer.equip(self.watch.lab, folder)
        with writer.writing(self.watch.lab, folder) as found:
            self.watch.run(self.program.rotate())
        for mode, seen in found.items():
            if seen.failed:
                raise Failed(f"rotate-certs: a write failed: {seen.failed[0]}")
            self.samples.add(f"longest gap, {mode}", Sample(seen.longest_gap, 0.0, 0.0, 0))

    def _floor(self) -> None:
        """The bytes, then the start: two scripts, so that each can be told from the other."""
        self._fresh()
        bytes_only = self._measure("floor", self.floor.install())
        start = self._measure("floor's start", self.floor.start())
        for _ in range(SHORT):
            self._measure("ssh certificates", self.floor.rotate())
        both = [one + other for one, other in zip(_numbers(bytes_only), _numbers(start), strict=True)]
        peak = max(bytes_only.peak, start.peak)
        self.samples.add("floor and start", Sample(both[0], both[1], both[2], peak))

    def big_archive(self, folder: Path, size: int) -> None:
        """Deploy an archive of `size` bytes once, for its memory alone."""
        self.say(f"memory: an archive of {size >> 20} MiB")
        lab, archive = self.watch.lab, padded(self.floor.archive, folder, size)
        path = lab.state / "big.yaml"
        text = access.inventory(lab, str(self.floor.cluster.version))
        path.write_text(text.replace(releases.pattern(), str(archive)), "utf-8")
        self._fresh()
        self.program.forget()
        self._measure("deploy, padded archive", replace(self.program, inventory=path).deploy())

    def _fresh(self) -> None:
        faults.reset(self.watch.lab)

    def _measure(self, name: str, argv: tuple[str, ...]) -> Sample:
        sample = self.watch.run(argv)
        self.samples.add(name, sample)
        self.say(f"{name}: {sample.seconds:.2f} s")
        return sample


def _numbers(sample: Sample) -> tuple[float, float, float]:
    return sample.seconds, sample.cpu, sample.nodes


def floor_of(watch: Stopwatch, archive: Path) -> Floor:
    """Make the floor's scripts, with certificates like the ones that a deploy issues."""
    cluster = inventory.load(watch.lab.inventory)
    generation = Store(watch.folder / "certs").prepare(cluster, datetime.now(UTC))
    want = Wish(cluster, generation, {})
    for node in cluster.nodes:
        spec = want.spec(node, HostState(node.name), formed=False)
        pack(spec, watch.folder / f"{node.name}.tar")
        pack(leaves.parted(want, spec)[0], watch.folder / f"{node.name}.pki.tar")
    return Floor(watch.lab, cluster, archive, watch.folder)
