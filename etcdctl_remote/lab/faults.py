"""What happens to hosts: cut off, killed, rebooted, filled up, frozen, and made fresh again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from ..errors import TimedOut
from .hosts import await_boot, execute
from .model import Lab, Node, each

BALLAST = "lab-ballast"
CUT = """for tables in iptables ip6tables; do
    command -v $tables >/dev/null || exit 1
done
for there in "$@"; do
    case $there in *:*) t=ip6tables;; *) t=iptables;; esac
    for chain in "INPUT -s" "OUTPUT -d"; do
        $t -w -C $chain "$there" -m comment --comment lab-cut -j DROP 2>/dev/null ||
            $t -w -I $chain "$there" -m comment --comment lab-cut -j DROP || exit 1
    done
done"""
HEAL = """for t in iptables ip6tables; do
    $t-save | grep -e '--comment lab-cut' | sed 's/^-A/-D/' | while read -r rule; do
        if test $# -eq 0; then $t -w $rule; continue; fi
        for there in "$@"; do case "$rule " in *" $there/"*) $t -w $rule;; esac; done
    done
done"""
RESET = r"""export LC_ALL=C
PATH=/usr/sbin:/usr/bin:/sbin:/bin
iptables -w -F; ip6tables -w -F
systemctl kill -s CONT ssh 2>/dev/null
systemctl kill -s KILL ssh 2>/dev/null
systemctl list-units --all --no-legend --plain 'etcd*' | cut -d' ' -f1 | while read -r unit; do
    systemctl kill -s KILL "$unit" 2>/dev/null; systemctl stop "$unit" 2>/dev/null
done
pkill -KILL -u etcd 2>/dev/null
for disk in "$@"; do find "$disk" -xdev -mindepth 1 -delete; done
find /etc /home /root /usr/local /opt /var/lib /srv /mnt -xdev | sort >/.lab/now.list
comm -13 /.lab/base.list /.lab/now.list | sort -r | tr '\n' '\0' | xargs -0r rm -rf --
tar -C / -xpf /.lab/base.tar 2>/dev/null
find /tmp /var/tmp /run/user -xdev -mindepth 1 -not -path '*/systemd-private-*' -delete 2>/dev/null
find /run -maxdepth 1 -name 'etcd*' -exec rm -rf {} +
rm -f /lab-ballast /var/lab-ballast
systemctl daemon-reload; systemctl reset-failed
journalctl -q --rotate --vacuum-time=1s >/dev/null 2>&1
systemctl start ssh
! id etcd >/dev/null 2>&1 && ! pgrep -x etcd >/dev/null && systemctl is-active -q ssh"""


# -- the network ---------------------------------------------------------------------------


def cut(one: Node, other: Node) -> None:
    """Drop all packets between two nodes, both ways, both families; SSH from outside stays."""
    execute(one, CUT, *_addresses(other))
    execute(other, CUT, *_addresses(one))


def heal(one: Node, other: Node) -> None:
    """Undo `cut`."""
    execute(one, HEAL, *_addresses(other))
    execute(other, HEAL, *_addresses(one))


def isolate(lab: Lab, node: Node) -> None:
    """Cut a node off from all other nodes of the lab."""
    for other in lab.nodes:
        if other != node:
            cut(node, other)


def rejoin(lab: Lab) -> None:
    """Undo every cut in a lab."""
    each(lab.hosts, lambda node: execute(node, HEAL))


def _addresses(node: Node) -> list[str]:
    return [address for address in (node.address, node.address6) if address]


# -- the machine ---------------------------------------------------------------------------


def power_off(node: Node) -> None:
    """Pull the plug: every process gets SIGKILL, nothing is flushed by anyone."""
    node.handle().kill("SIGKILL")
    _until(node, lambda: node.handle().status == "exited", "did not die")


def power_on(node: Node) -> None:
    """Start a node that is off, and wait until it is up."""
    node.handle().start()
    await_boot(node)


def shut_down(node: Node) -> None:
    """Shut down in order: systemd stops its units."""
    node.handle().stop(timeout=30)


def reboot(node: Node) -> None:
    """Shut down in order and come up again, with the same address and disks."""
    node.handle().restart(timeout=30)
    await_boot(node)


def _until(node: Node, done: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + 15
    while not done():
        if time.monotonic() > deadline:
            raise TimedOut(f"{node.name} {otherwise} within 15 s")
        time.sleep(0.1)


def kill(node: Node, unit: str = "etcd.service") -> None:
    """Send SIGKILL to the main process of a unit."""
    execute(node, 'systemctl kill --kill-who=main -s KILL "$1"', unit)


def freeze(node: Node, unit: str = "ssh.service") -> None:
    """Stop every process of a unit (SIGSTOP): the kernel still answers, the program does not."""
    execute(node, 'systemctl kill -s STOP "$1"', unit)


def thaw(node: Node, unit: str = "ssh.service") -> None:
    """Undo `freeze`."""
    execute(node, 'systemctl kill -s CONT "$1"', unit)


@contextlib.contextmanager
def frozen(node: Node, unit: str = "ssh.service") -> Iterator[None]:
    """Hold a unit frozen for a while."""
    freeze(node, unit)
    try:
        yield
    finally:
        thaw(node, unit)


# -- the disk ------------------------------------------------------------------------------


def fill(node: Node, folder: str, leave_kb: int = 0) -> None:
    """Fill the disk under a folder, all but `leave_kb`. Only where the lab has a small disk."""
    execute(
        node,
        """size=$(df -Pk "$1" | awk 'NR==2 {print $2}')
        test "$size" -lt 4194304 || { echo "$1 is no small disk of the lab ($size KiB)" >&2; exit 1; }
        dd if=/dev/zero of="$1/$2" bs=64k 2>/dev/null
        free=$(df -Pk "$1" | awk 'NR==2 {print $4}')
        have=$(stat -c %s "$1/$2"); keep=$((have / 1024 + free - $3))
        test "$keep" -gt 0 && truncate -s "${keep}K" "$1/$2"; true""",
        folder,
        BALLAST,
        str(leave_kb),
    )


def free(node: Node, folder: str) -> None:
    """Undo `fill`."""
    execute(node, 'rm -f "$1/$2"', folder, BALLAST)


# -- afresh --------------------------------------------------------------------------------


def reset(lab: Lab, nodes: Sequence[Node] | None = None) -> None:
    """Bring the nodes back to what they were when the lab came up, in the same containers.

    Kills etcd and all that came in over SSH, removes every file that was not there, restores
    the changed ones, opens the network. Nodes that are off are started.
    """
    each(list(nodes or lab.hosts), lambda node: _reset(node, lab.disks))


def _reset(node: Node, disks: Sequence[str]) -> None:
    handle = node.handle()
    if handle.status == "paused":
        handle.unpause()
    if handle.status != "running":
        power_on(node)
    execute(node, RESET, *disks)
