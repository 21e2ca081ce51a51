"""All that a deploy depends on, as one round trip to a host tells it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..desired.hostspec import INSTALL_ROOT
from ..desired.model import ClusterSpec, NodeSpec
from ..observed.holding import holding
from ..observed.state import Data
from ..remote.host import Host
from .question import FIREWALLS, command
from .sockets import Socket, parse


@dataclass(frozen=True)
class Process:
    """Who holds a listening socket."""

    pid: int
    name: str


@dataclass(frozen=True)
class Place:
    """The file system a path of ours is on, or will be. Sizes in bytes."""

    path: str
    near: str
    """The nearest directory that exists, links resolved."""
    mount: str
    free: int
    inodes: int | None
    type: str
    options: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Occupied:
    """A directory that ours would be, with names in it that are not ours."""

    path: str
    rights: str
    """Mode, owner and group, as `0755 root:root`."""
    names: tuple[str, ...]
    """The first four."""


@dataclass(frozen=True)
class Limits:
    """What systemd may give to a service."""

    files: int | None = None
    """Its own limit of open files; None: no limit."""
    resource: bool = True
    """Whether it may raise that (CAP_SYS_RESOURCE)."""


@dataclass(frozen=True)
class Facts:
    """Everything one round trip tells. Empty or None means: not seen."""

    node: str
    clock: float = 0.0
    """Unix time on the host."""
    asked_at: float = 0.0
    """Unix time on the laptop when the host read its clock, about."""
    slack: float = 0.0
    """Seconds by which `asked_at` may be off."""
    uid: int | None = None
    user_exists: bool = False
    os: str = ""
    machine: str = ""
    kernel: str = ""
    init: str = ""
    systemd: int | None = None
    missing: tuple[str, ...] = ()
    have: frozenset[str] = frozenset()
    unit: Mapping[str, str] = field(default_factory=dict)
    installed: bool = False
    """Whether the wanted release is unpacked there already."""
    foreign: tuple[str, ...] = ()
    """Files of somebody else's in places that ours would take: the unit, the programs."""
    occupied: tuple[Occupied, ...] = ()
    """Of `paths.config` and its `pki`, unless a link of ours there says whose they are."""
    token: str | None = None
    marker: str | None = None
    """The cluster the host says it is a member of; empty if that cannot be read."""
    data: Data = Data.ABSENT
    wal: Data = Data.ABSENT
    strange: tuple[str, ...] = ()
    """Paths in the data directories that belong to somebody else."""
    listening: tuple[Socket, ...] = ()
    owners: Mapping[int, Process] = field(default_factory=dict)
    """By the socket's inode."""
    places: Mapping[str, Place] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    """Bytes: MemTotal, MemAvailable."""
    limits: Limits = Limits()
    addresses: tuple[tuple[str, str], ...] = ()
    """Interface (`-` if not known) and address with its prefix length if known."""
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What host names of the inventory resolve to here."""
    firewalls: frozenset[str] = frozenset()
    proxies: tuple[str, ...] = ()
    enforcing: bool | None = None

    @property
    def pid(self) -> int:
        """Main process of etcd.service, 0 if none."""
        return int(self.unit.get("MainPID") or 0)

    @property
    def ours(self) -> bool:
        """Whether an etcd that this tool installed runs here."""
        return self.pid > 0 and bool(self.unit.get("digest"))

    @property
    def awaited(self) -> bool:
        """Whether systemd has, or may any moment start, an etcd that will want its ports."""
        state = self.unit.get("ActiveState") or "inactive"
        enabled = (self.unit.get("UnitFileState") or "").startswith("enabled")
        return enabled or state not in ("inactive", "failed")

    def serves(self, port: int) -> bool:
        """Whether our own etcd listens on this port."""
        return self.ours and any(self._owner(found).pid == self.pid for found in self.on(port))

    def on(self, port: int) -> tuple[Socket, ...]:
        """The listening sockets of this port."""
        return tuple(found for found in self.listening if found.local.port == port)

    def _owner(self, found: Socket) -> Process:
        return self.owners.get(found.inode, Process(0, "an unknown process"))

    def strangers(self, port: int) -> tuple[tuple[Socket, Process], ...]:
        """Listening sockets of this port that are not our etcd's, with their owners."""
        held = ((found, self._owner(found)) for found in self.on(port))
        return tuple((found, owner) for found, owner in held if not (self.ours and owner.pid == self.pid))


def ask(cluster: ClusterSpec, node: NodeSpec, host: Host) -> Facts:
    """Ask one host."""
    began = time.time()
    text = host.run(command(cluster)).text
    took = time.time() - began
    return replace(read(cluster, node.name, text), asked_at=began + took / 2, slack=took / 2)


def read(cluster: ClusterSpec, node: str, output: str) -> Facts:
    """Turn the script's sections into `Facts`."""
    said = _sections(output)
    lines = said.get
    ids, system, init = lines("id", []), lines("os", []), lines("init", [])
    active = dict(zip(FIREWALLS, lines("firewalls", []), strict=False))
    data, wal = holding(lines("holds", []))
    enforce, marked = _one(said, "selinux"), _one(said, "marker")
    return Facts(
        node,
        clock=float(_one(said, "clock") or 0),
        uid=int(ids[0]) if ids else None,
        user_exists=len(ids) > 1,
        os=system[0] if system else "",
        machine=system[1] if len(system) > 1 else "",
        kernel=system[2] if len(system) > 2 else "",
        init=init[0] if init else "",
        systemd=_number(init[1].split()[1]) if len(init) > 1 and len(init[1].split()) > 1 else None,
        missing=tuple(lines("missing", [])),
        have=frozenset(lines("have", [])),
        unit=dict(line.split("=", 1) for line in lines("unit", []) if "=" in line),
        installed=_one(said, "release") == "installed",
        foreign=tuple(lines("foreign", [])),
        occupied=tuple(_occupied(line) for line in lines("config", [])),
        token=_one(said, "token"),
        marker=None if marked is None else marked.removeprefix("of").strip(),
        data=data,
        wal=wal,
        strange=tuple(lines("owners", [])),
        listening=parse(lines("listen", [])),
        owners=_owners(lines("sockets", [])),
        places=_places(cluster, said),
        memory=_memory(lines("memory", [])),
        limits=_limits(lines("limits", [])),
        addresses=tuple((words[0], words[1]) for words in _words(said, "addresses") if len(words) > 1),
        names={words[0]: tuple(dict.fromkeys(words[1:])) for words in _words(said, "names")},
        firewalls=frozenset(name for name, state in active.items() if state == "active"),
        proxies=tuple(lines("proxies", [])),
        enforcing=None if enforce is None else enforce == "1",
    )


def _words(said: Mapping[str, list[str]], section: str) -> list[list[str]]:
    """Split the lines of a section into words; empty ones are left out."""
    return [words for line in said.get(section, []) if (words := line.split())]


def _sections(output: str) -> dict[str, list[str]]:
    said: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in output.splitlines():
        if line.startswith("@@"):
            lines = said.setdefault(line[2:], [])
        elif line.strip():
            lines.append(line)
    return said


def _one(said: Mapping[str, list[str]], section: str) -> str | None:
    return next(iter(said.get(section, [])), None)


def _number(text: str) -> int | None:
    """Read the leading number of `252` or `239-82`."""
    digits = "".join(char if char.isdigit() else " " for char in text).split()
    return int(digits[0]) if digits else None


def _owners(lines: list[str]) -> dict[int, Process]:
    found: dict[int, Process] = {}
    for line in lines:
        inode, pid, *name = line.split()
        found.setdefault(int(inode.strip("[]")), Process(int(pid), " ".join(name) or "?"))
    return found


def _occupied(line: str) -> Occupied:
    """Read `0755 root:root /etc/ssl//certs/private/`."""
    mode, owner, rest = line.split(" ", 2)
    path, _, names = rest.partition("//")
    return Occupied(path, f"{mode} {owner}", tuple(name for name in names.split("/") if name))


def _places(cluster: ClusterSpec, said: Mapping[str, list[str]]) -> dict[str, Place]:
    paths = cluster.paths
    wanted = (
        paths.data,
        paths.wal or paths.data,
        paths.config,
        paths.bin,
        INSTALL_ROOT,
        "/etc/systemd/system",
    )
    mounts = {line.split(" ", 2)[0]: line.split(" ", 2) for line in said.get("mounts", [])}
    rows = zip(*(said.get(name, []) for name in ("near", "places", "inodes", "types")), strict=False)
    found: dict[str, Place] = {}
    for path, (near, blocks, inodes, type_) in zip(wanted, rows, strict=False):
        fields, mount = blocks.split(), blocks.partition("% ")[2]
        _, kind, options = mounts.get(mount, ["", type_, ""])
        left = inodes.split()
        found[path] = Place(
            path=path,
            near=near,
            mount=mount,
            free=int(fields[3]) * 1024,
            inodes=int(left[3]) if left[3].isdigit() and left[1] != "0" else None,
            type=kind,
            options=frozenset(options.partition(" ")[0].split(",")),
        )
    return found


def _memory(lines: list[str]) -> dict[str, int]:
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def _limits(lines: list[str]) -> Limits:
    """A user namespace that is not the machine's own counts as unprivileged, whatever it shows."""
    said = {
        line.rsplit(None, 3)[0] if line.startswith("Max ") else line.split()[0]: line.split()
        for line in lines
    }
    files = next((words[-2] for key, words in said.items() if key.startswith("Max open files")), "unlimited")
    capabilities = int(said.get("CapEff", ["", "0"])[1], 16)
    whole = said.get("userns", ["", "0", "0", "4294967295"])[1:] == ["0", "0", "4294967295"]
    return Limits(
        files=int(files) if files.isdigit() else None,
        resource=whole and bool(capabilities >> 24 & 1),
    )
