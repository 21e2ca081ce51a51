"""Labs: nodes with their own addresses on a network of their own, found again by their labels."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Failed, Refused, UsageError
from . import access, image
from .engine import answering
from .hosts import LABEL, await_boot, execute, remove_network, start_all
from .machine import Say, make_room, quiet
from .model import Lab, Node, Shape, each

if TYPE_CHECKING:
    from docker.models.containers import Container

__all__ = ["Lab", "Node", "Shape", "down", "find", "list_labs", "me", "sweep", "up"]

DEFAULT_STATE = Path(".lab")
KEEP = """mkdir -p -m 0700 /.lab && cd / &&
tar -cpf /.lab/base.tar --one-file-system --exclude=etc/hosts --exclude=etc/hostname \
    --exclude=etc/resolv.conf etc home root usr/local 2>/dev/null
find /etc /home /root /usr/local /opt /var/lib /srv /mnt -xdev | LC_ALL=C sort >/.lab/base.list"""
"""Remember the fresh node, so that `faults.reset` can bring it back without a new container."""


def up(
    name: str = "lab",
    shape: Shape | None = None,
    state: Path = DEFAULT_STATE,
    version: str = "3.6.14",
    say: Say = quiet,
) -> Lab:
    """Start a lab, or give the one of this name if it stands with the same shape.

    `state` is the folder for all labs' files: the lab's are in `state/name`.
    """
    shape = shape or Shape()
    _check(name, shape)
    tag = image.ensure(shape.os, say)
    present = find(name)
    if present:
        return _again(present, shape, version, say)
    make_room(say)
    say(f"starting {shape.nodes} {shape.os} nodes for lab {name}")
    folder = (state / name).absolute()
    access.make_key(folder)
    try:
        start_all(name, shape, folder, tag)
        lab = _found(name)
        _settle(lab, version)
    except BaseException:
        with contextlib.suppress(Exception):
            down(name)
        raise
    say(f"lab {name} is up: {', '.join(f'{node.name} {node.address}' for node in lab.hosts)}")
    return lab


def find(name: str) -> Lab | None:
    """Give a lab by its name, None if there is none."""
    return {lab.name: lab for lab in list_labs()}.get(name)


def list_labs() -> list[Lab]:
    """Give every lab the engine holds, running or not; none where no engine answers."""
    client = answering()
    if client is None:
        return []
    labs: dict[str, list[Container]] = {}
    for container in client.containers.list(all=True, ignore_removed=True, filters={"label": LABEL}):
        labs.setdefault(container.labels[LABEL], []).append(container)
    return [_read(name, containers) for name, containers in sorted(labs.items())]


def down(name: str, say: Say = quiet) -> bool:
    """Remove a lab: containers, network, files. False if there was none."""
    client = answering()
    if client is None:
        return False
    containers = client.containers.list(all=True, ignore_removed=True, filters={"label": f"{LABEL}={name}"})
    networks = client.networks.list(filters={"label": f"{LABEL}={name}"})
    folders = {container.labels[f"{LABEL}.state"] for container in containers}
    folders |= {network.attrs["Labels"][f"{LABEL}.state"] for network in networks}
    each(containers, lambda container: container.remove(force=True, v=True))
    kept = [network for network in networks if not remove_network(network)]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    if kept:
        say(f"the engine still holds the empty network of lab {name}; it lets go at its next start")
    return bool(containers)


def me() -> str:
    """Name this process so that another can tell whether it still runs: pid and start time."""
    return f"{os.getpid()}:{_started(os.getpid())}"


def sweep(say: Say = quiet) -> None:
    """Remove the labs of test runs that have ended without doing so themselves."""
    client = answering()
    if client is None:
        return
    things = [
        *client.containers.list(all=True, ignore_removed=True, filters={"label": f"{LABEL}.owner"}),
        *client.networks.list(filters={"label": f"{LABEL}.owner"}),
    ]
    for name, owner in sorted({_owner(thing) for thing in things}):
        pid, _, started = owner.partition(":")
        if owner and _started(int(pid)) != started:
            down(name, say)
            say(f"lab {name} of a run that has ended is gone")


def _owner(thing: Any) -> tuple[str, str]:
    labels = thing.attrs.get("Labels") or thing.attrs["Config"]["Labels"]
    return labels[LABEL], labels[f"{LABEL}.owner"]


def _started(pid: int) -> str:
    """A process's start time in clock ticks since boot; empty if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


# -- starting ------------------------------------------------------------------------------


def _check(name: str, shape: Shape) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name):
        raise UsageError(f"not a name for a lab: {name!r}", "lower-case letters, digits and dashes")
    if not 1 <= shape.nodes <= 50:
        raise UsageError(f"a lab cannot have {shape.nodes} nodes", "1 to 50")
    image.suite_of(shape.os)


def _again(lab: Lab, shape: Shape, version: str, say: Say) -> Lab:
    """Take up a lab that stands already: started again if it was stopped."""
    there = (len(lab.nodes), lab.os, lab.jump is not None, sorted(lab.disks))
    if there != (shape.nodes, shape.os, shape.jump, sorted(shape.disks)):
        seen = f"{len(lab.nodes)} {lab.os} nodes{' and a jump host' if lab.jump else ''}"
        raise Refused(f"lab {lab.name} stands already, with {seen}", f"`lab.down --name {lab.name}`")
    if not lab.key.is_file():
        raise Refused(f"lab {lab.name} has lost its files ({lab.state})", f"`lab.down --name {lab.name}`")
    each(lab.hosts, lambda node: node.handle().start())
    each(lab.hosts, await_boot)
    if not lab.inventory.is_file():
        access.write_inventory(lab, version)
    say(f"lab {lab.name} stands already: {', '.join(f'{node.name} {node.address}' for node in lab.hosts)}")
    return lab


def _settle(lab: Lab, version: str) -> None:
    """Wait for all nodes, keep their real host keys, write the inventory."""
    keys = dict(zip(lab.hosts, each(lab.hosts, await_boot), strict=True))
    each(lab.hosts, lambda node: execute(node, KEEP))
    access.write_known_hosts(lab, keys)
    access.write_inventory(lab, version)


# -- finding -------------------------------------------------------------------------------


def _found(name: str) -> Lab:
    lab = find(name)
    if lab is None:
        raise Failed(f"lab {name} has vanished from the engine")
    return lab


def _read(name: str, containers: Sequence[Container]) -> Lab:
    labels = containers[0].labels
    nodes = sorted(
        (_node(container) for container in containers), key=lambda node: (len(node.name), node.name)
    )
    return Lab(
        name=name,
        state=Path(labels[f"{LABEL}.state"]),
        os=labels[f"{LABEL}.os"],
        nodes=tuple(node for node in nodes if node.role == "node"),
        jump=next((node for node in nodes if node.role == "jump"), None),
        disks=tuple(filter(None, labels[f"{LABEL}.disks"].split(","))),
    )


def _node(container: Container) -> Node:
    labels = container.labels
    name = labels[f"{LABEL}.node"]
    return Node(
        name=name,
        container=container.name or "",
        address=labels[f"{LABEL}.address"],
        address6=labels[f"{LABEL}.address6"] or None,
        role="jump" if name == "jump" else "node",
    )
