"""Measure what etcd waits for at every write: fdatasync on the data disk, without fio.

`dd` writes one entry after the other into a preallocated file, each followed by fdatasync, and
prints its own time from open to the end of the sync; starting the program is not in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..desired.model import ClusterSpec
from ..errors import CommandFailed, Problem, TimedOut
from ..observed.findings import Finding, Result
from ..remote.fleet import Fleet
from ..remote.host import Command, Host

WRITES = 100
SIZE = 2300
"""Bytes in one write: what etcd's WAL writes on average (etcd's documentation, `fio`)."""
SECONDS = 2.0
"""The probe stops after this time, however few writes that was."""
GOOD = 10.0
"""Milliseconds at the 99th percentile, etcd's own goal (op-guide, "disk_wal_fsync_duration")."""

# In the directory only if it is a mount point of its own: nobody shall find our file in his data.
_PROBE = r"""
p=/$1; while [ ! -d "$p" ]; do p=${p%/*}; p=${p:-/}; done
up=$(dirname -- "$p")
if [ "$p" != / ] && [ "$(stat -c %d -- "$p")" = "$(stat -c %d -- "$up")" ]; then p=$up; fi
f=$(mktemp -- "$p/.etcdctl-remote-fsync.XXXXXX") || exit 1
trap 'rm -f -- "$f"' EXIT
trap 'exit 1' HUP INT TERM PIPE
dd if=/dev/zero of="$f" bs="$3" count="$2" conv=fsync status=none || exit 1
end=$(($(date +%s%N) + $4)); i=0
while [ $i -lt "$2" ] && [ "$(date +%s%N)" -lt $end ]; do
  dd if=/dev/zero of="$f" bs="$3" count=1 seek=$i conv=notrunc,fdatasync 2>&1 || exit 1
  i=$((i + 1))
done
"""


@dataclass(frozen=True)
class Latency:
    """Milliseconds that each write took, sorted."""

    writes: tuple[float, ...]

    def percentile(self, share: float) -> float:
        """The nearest-rank percentile: a time that at least this share of all writes stayed within."""
        return self.writes[max(0, math.ceil(share * len(self.writes)) - 1)]


def command(path: str) -> Command:
    """Build the probe for the file system of `path`. It writes, and removes what it wrote."""
    args = (path, str(WRITES), str(SIZE), str(int(SECONDS * 1e9)))
    return Command(_PROBE, args, about=f"measure fdatasync at {path}", timeout=30)


def read(output: str) -> Latency:
    """Read the times from dd's `2300 bytes (2.3 kB, 2.2 KiB) copied, 0.000123 s, 18 MB/s`."""
    took = re.findall(r"copied, ([0-9.e-]+) s", output)
    return Latency(tuple(sorted(float(seconds) * 1000 for seconds in took)))


def measure(cluster: ClusterSpec, fleet: Fleet) -> list[Finding]:
    """Measure the WAL's disk on every node, one finding each."""
    path = cluster.paths.wal or cluster.paths.data

    def one(host: Host) -> Finding:
        try:
            return judge(host.name, path, read(host.run(command(path)).text).writes)
        except (CommandFailed, TimedOut) as problem:
            return Finding(host.name, "fsync", Result.WARN, f"cannot be measured: {problem.message}")

    found = fleet.spread(fleet.hosts, one)
    return [
        answer
        if isinstance(answer, Finding)
        else Finding(
            name, "fsync", Result.FAIL, answer.message if isinstance(answer, Problem) else str(answer)
        )
        for name, answer in found.items()
    ]


def judge(node: str, path: str, writes: Sequence[float]) -> Finding:
    """Hold the 99th percentile against what etcd needs; a slow disk forbids nothing."""
    if not writes:
        return Finding(node, "fsync", Result.WARN, f"cannot be measured: no write to {path} ended in time")
    slow = Latency(tuple(writes)).percentile(0.99)
    seen = f"99 % of {len(writes)} fdatasync writes at {path} took at most {slow:.3g} ms"
    if slow <= GOOD:
        return Finding(node, "fsync", Result.PASS, f"{seen} (etcd wants {GOOD:g})")
    advice = f"etcd wants {GOOD:g}: put {path} on an SSD of its own (`paths.wal` can be another disk)"
    return Finding(node, "fsync", Result.WARN, f"{seen}; {advice}")
