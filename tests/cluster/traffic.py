"""A client that writes and reads all the time, and remembers what was acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, Node

# A key is written until it is acknowledged, then read back by a linearizable read through
# another member until one answers. What was acknowledged goes to `acked` with its time.
_CLIENT = r"""
cd /var/tmp && rm -rf traffic && mkdir traffic && cd traffic || exit 1
. /etc/etcd/etcdctl.env; export ETCDCTL_CACERT ETCDCTL_CERT ETCDCTL_KEY
n=0
while [ ! -e stop ]; do
  n=$((n + 1))
  until etcdctl --endpoints="$1" --command-timeout=3s put "traffic/$n" "$n" >/dev/null 2>>errors; do
    [ -e stop ] && break 2; sleep 0.05
  done
  date +%s.%N >>acked
  until read=$(etcdctl --endpoints="$2" --command-timeout=3s get --print-value-only "traffic/$n" 2>>errors); do
    [ -e stop ] && break 2; sleep 0.05
  done
  [ "$read" = "$n" ] || echo "$n was read as '$read'" >>wrong
  sleep 0.1
done
: >ended
"""


@dataclass
class Traffic:
    """What a client has seen; complete once the traffic has ended."""

    acknowledged: int = 0
    wrong: tuple[str, ...] = ()
    longest_gap: float = 0.0
    """Seconds between two acknowledged writes."""


@contextmanager
def traffic(lab: Lab, node: Node) -> Iterator[Traffic]:
    """Write and read through all members while the block runs; then nothing may be missing."""
    endpoints = [f"https://{member.address}:2379" for member in lab.nodes]
    args = [",".join(endpoints), ",".join(reversed(endpoints))]
    execute(node, "rm -rf /var/tmp/traffic")
    node.handle().exec_run(["sh", "-c", _CLIENT, "sh", *args], detach=True)
    seen = Traffic()
    _until(node, "test -s acked")
    try:
        yield seen
    finally:
        execute(node, ": >/var/tmp/traffic/stop")
        _until(node, "test -e ended")
    times = [float(line) for line in execute(node, "cat /var/tmp/traffic/acked").split()]
    seen.acknowledged = len(times)
    seen.wrong = tuple(execute(node, "cat /var/tmp/traffic/wrong 2>/dev/null; true").splitlines())
    seen.longest_gap = max(b - a for a, b in pairwise(times))
    _nothing_lost(lab, seen)


def _nothing_lost(lab: Lab, seen: Traffic) -> None:
    """Hold every acknowledged write against what each member has."""
    assert seen.wrong == ()
    for node in lab.nodes:
        text = execute(node, "etcdctl.sh get --prefix traffic/").split()
        found = dict(zip(text[::2], text[1::2], strict=True))
        lost = [n for n in range(1, seen.acknowledged + 1) if found.get(f"traffic/{n}") != str(n)]
        assert not lost, f"{node.name} has lost {lost}"
    execute(lab.nodes[0], "etcdctl.sh del --prefix traffic/")


def _until(node: Node, condition: str) -> None:
    """Wait up to 20 s for something in the client's folder."""
    execute(
        node,
        f"""n=0; while [ $n -lt 200 ]; do
          if cd /var/tmp/traffic 2>/dev/null && {condition}; then exit 0; fi; n=$((n + 1)); sleep 0.1
        done; tail -n 3 errors >&2; exit 1""",
    )
