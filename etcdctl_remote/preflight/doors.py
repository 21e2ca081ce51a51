"""Open the ports of a node before etcd does: listeners that live as long as we hold them.

systemd's own `systemd-socket-activate` binds the port, `systemd-socket-proxyd` carries each
connection to us through SSH: nothing is written, nothing is installed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from ..errors import Problem
from ..observed.tls import Contexts, answer
from ..remote.host import Command, Held, Host, Listener, Tunnel
from .facts import Facts

LIFE = 30
"""Seconds after which the listeners end by themselves, whatever became of us."""
TLS_SECONDS = 3.0

# Each argument is `address:port target`; without a target connections wait in the kernel's queue.
_OPEN = r"""
for p in /usr/lib/systemd /lib/systemd; do [ -x $p/systemd-socket-proxyd ] && proxyd=$p/systemd-socket-proxyd; done
exec 3<&0; life=$1; shift; wanted=$#
{
  for door do
    at=${door% *} to=${door##* }
    if [ "$to" = - ]; then set -- sleep "$life"; else set -- "$proxyd" "$to"; fi
    systemd-socket-activate -l "$at" "$@" </dev/null 3<&- 2>&1 & pids="$pids $!"
  done
  timeout "$life" cat <&3 >/dev/null
  kill $pids
} 2>/dev/null | {
  said=
  while read -r line; do
    case $line in
      'Listening on '*) said="$said|"; wanted=$((wanted - 1)) ;;
      'Failed to listen on '*) said="$said|${line#Failed to listen on }"; wanted=$((wanted - 1)) ;;
      *) continue ;;
    esac
    if [ $wanted = 0 ]; then echo "doors$said"; fi
  done
}
"""


@dataclass
class Doors:
    """The open ports of one node. `why` says of the others why they are not probed."""

    node: str
    open: dict[str, str] = field(default_factory=dict)
    """By port kind: `tls` (ends at our TLS server), `plain` (TCP only) or `etcd` (our running etcd)."""
    why: dict[str, str] = field(default_factory=dict)
    _held: list[Held | Listener | Tunnel] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        """Close everything, the listeners first."""
        self._over.set()
        for thing in self._held:
            with suppress(OSError, EOFError):
                thing.close()


def open_doors(host: Host, bind: str, ports: Mapping[str, int], facts: Facts, contexts: Contexts) -> Doors:
    """Open every port of a node that nobody holds yet, nor may take at any moment: etcd goes first."""
    doors = Doors(host.name)
    for kind, port in ports.items():
        if facts.serves(port):
            doors.open[kind] = "etcd"
        elif facts.strangers(port):
            doors.why[kind] = "the port is taken"
    wanted = {kind: port for kind, port in ports.items() if kind not in doors.open and kind not in doors.why}
    if wanted and facts.awaited:
        why = "etcd is installed there, not listening now, and may start any moment"
        if facts.pid:
            why = "etcd runs there and does not listen on it: it starts, or listens on other ports than the inventory's"
        doors.why |= dict.fromkeys(wanted, why)
        return doors
    if "systemd-socket-activate" not in facts.have:
        doors.why |= dict.fromkeys(wanted, "there is no systemd-socket-activate to listen with")
        return doors
    try:
        _listen(doors, host, bind, wanted, facts, contexts)
    except Problem as problem:
        doors.why |= dict.fromkeys(wanted, problem.message)
    return doors


def _listen(
    doors: Doors, host: Host, bind: str, wanted: Mapping[str, int], facts: Facts, contexts: Contexts
) -> None:
    targets = dict.fromkeys(wanted, "-")
    if "systemd-socket-proxyd" in facts.have:
        with suppress(PermissionError):  # sshd forbids forwarding: TCP only
            for kind in wanted:
                listener = host.listen_back()
                doors._held.append(listener)
                targets[kind] = f"127.0.0.1:{listener.port}"
                _serve(doors, listener, contexts, kind)
    at = f"[{bind}]" if ":" in bind else bind
    args = (str(LIFE), *(f"{at}:{port} {targets[kind]}" for kind, port in wanted.items()))
    if not wanted:
        return
    command = Command(_OPEN, args, about=f"listen on {at}", timeout=10)
    held = host.hold(command)
    doors._held.insert(0, held)
    # The lines come in any order, so each that failed is told by its port.
    failed = [text for text in held.first_line.split("|")[1:] if text]
    for kind, port in wanted.items():
        why = next((text for text in failed if text.startswith(f"{at}:{port}:")), None)
        if why is None:
            doors.open[kind] = "plain" if targets[kind] == "-" else "tls"
        else:
            doors.why[kind] = f"cannot listen on {why}"


def _serve(doors: Doors, listener: Listener, contexts: Contexts, kind: str) -> None:
    """Answer the connections of one port, each in a thread of its own."""

    def accept() -> None:
        while not doors._over.is_set():
            with suppress(TimeoutError):
                tunnel = listener.accept(0.2)
                doors._held.append(tunnel)
                work = (tunnel, contexts.serve[kind], TLS_SECONDS)
                threading.Thread(target=answer, args=work, daemon=True, name="probe-serve").start()

    threading.Thread(target=accept, daemon=True, name=f"probe-{doors.node}-{kind}").start()
