"""Find out how a host is reached: the inventory first, then the operator's own OpenSSH.

`ssh -G` is asked rather than ~/.ssh/config parsed: only OpenSSH itself gets Include, Match
and the defaults right. It costs about 5 ms and opens no connection.
"""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..desired.model import SshSpec
from ..errors import UsageError

if TYPE_CHECKING:
    from .host_keys import KnownKey

DEFAULT_IDENTITIES = tuple(Path("~/.ssh") / name for name in ("id_ed25519", "id_ecdsa", "id_rsa"))
DEFAULT_KNOWN_HOSTS = (Path("~/.ssh/known_hosts"), Path("/etc/ssh/ssh_known_hosts"))
DEPTH = 8
"""More hops than that is a loop in the configuration."""


@dataclass(frozen=True)
class Endpoint:
    """One SSH server on the way to a host, and how we log in to it."""

    host: str
    """What is dialled."""
    port: int
    user: str
    identities: tuple[Path, ...] = ()
    """Private keys in the order to try; those that do not exist are skipped."""
    identities_only: bool = False
    """Offer no other agent key than those of `identities`."""
    required: Path | None = None
    """The key the inventory names: it must exist, and is tried first."""
    agent: str | None = None
    """The agent's socket; None means no agent."""
    certificates: tuple[Path, ...] = ()
    known_hosts: tuple[Path, ...] = DEFAULT_KNOWN_HOSTS
    accept_new: bool = False
    remembered: list[KnownKey] | None = field(default=None, compare=False, repr=False)
    """Where new keys are noted instead of in a file, by a run that writes nothing."""
    alias: str | None = None
    """OpenSSH's HostKeyAlias: the name the host key is filed under."""
    proxy_command: str | None = None
    options: tuple[str, ...] = field(default=(), compare=False)
    """What the inventory says of the way there, in the words of ssh's command line."""

    @property
    def key_name(self) -> str:
        """The name this server has in a known_hosts file."""
        name = self.alias or self.host.lower()
        return name if self.alias or self.port == 22 else f"[{name}]:{self.port}"

    @property
    def by_hand(self) -> str:
        """The command line that goes the same way."""
        alias = ("-o", f"HostKeyAlias={self.alias}") if self.alias else ()
        words = ("ssh", "-p", str(self.port), *self.options, *alias, f"{self.user}@{self.host}")
        return shlex.join(words)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}:{self.port}"


@dataclass(frozen=True)
class Route:
    """The way to a host: the hops in the order they are dialled, then the host."""

    target: Endpoint
    hops: tuple[Endpoint, ...] = ()

    def remembering(self, keys: list[KnownKey]) -> Route:
        """The same way, with new host keys noted in memory only."""
        hops = tuple(replace(hop, remembered=keys) for hop in self.hops)
        return Route(replace(self.target, remembered=keys), hops)


def route(spec: SshSpec, host: str) -> Route:
    """Resolve one host: what the inventory says wins over OpenSSH's configuration."""
    asked = ask_openssh(host, spec.user, spec.port)
    target = endpoint(spec, host, asked)
    target = replace(target, identities_only=target.identities_only or spec.key is not None)
    if spec.key is not None:
        target = replace(target, identities=(spec.key.expanduser(),))
    jump = spec.jump or jump_of(asked)
    if jump:
        target = replace(target, proxy_command=None)
    if spec.jump:
        target = replace(target, options=(*target.options, "-J", ",".join(spec.jump)))
    return Route(target, hops(spec, jump))


def hops(spec: SshSpec, jump: Sequence[str], depth: int = 0) -> tuple[Endpoint, ...]:
    """Resolve jump hosts; the first may itself need a jump, as OpenSSH has it."""
    if not jump:
        return ()
    if depth >= DEPTH:
        raise UsageError(f"ProxyJump goes in a circle at {jump[0]}", "mend ~/.ssh/config")
    found: list[Endpoint] = []
    for number, text in enumerate(jump):
        user, host, port = parse_hop(text)
        asked = ask_openssh(host, user, port, *([] if number == 0 else ["-o", "ProxyJump=none"]))
        if number == 0:
            found += hops(spec, jump_of(asked), depth + 1)
        hop = endpoint(replace(spec, user=user, port=port), host, asked)
        found.append(replace(hop, required=None, proxy_command=hop.proxy_command if not found else None))
    return tuple(found)


def endpoint(spec: SshSpec, host: str, asked: Mapping[str, Sequence[str]]) -> Endpoint:
    """Merge the inventory's words with OpenSSH's answer for one server."""
    identities = tuple(Path(name).expanduser() for name in asked.get("identityfile", ()) if name != "none")
    if not asked:
        identities = tuple(path.expanduser() for path in DEFAULT_IDENTITIES)
    required = spec.key.expanduser() if spec.key else None
    return Endpoint(
        host=first(asked, "hostname") or host,
        port=spec.port or int(first(asked, "port") or 22),
        user=spec.user or first(asked, "user") or getpass.getuser(),
        identities=((required,) if required else ()) + identities,
        identities_only=first(asked, "identitiesonly") == "yes",
        required=required,
        agent=agent_of(asked),
        certificates=tuple(
            Path(name).expanduser() for name in asked.get("certificatefile", ()) if name != "none"
        ),
        known_hosts=known_hosts_of(spec, asked),
        accept_new=spec.host_keys == "accept-new",
        alias=first(asked, "hostkeyalias"),
        proxy_command=first(asked, "proxycommand"),
        options=(
            *(("-i", str(required)) if required else ()),
            *(("-o", f"UserKnownHostsFile={spec.known_hosts.expanduser()}") if spec.known_hosts else ()),
        ),
    )


def ask_openssh(host: str, user: str | None, port: int | None, *options: str) -> dict[str, list[str]]:
    """Run `ssh -G`; empty if there is no OpenSSH client here.

    User and port are passed along because `Match user` may depend on them.
    """
    given = [*(["-l", user] if user else []), *(["-p", str(port)] if port else []), *options]
    try:
        done = subprocess.run(  # noqa: S603 (arguments are a list, and `--` ends the options)
            ["ssh", "-G", *given, "--", host],  # noqa: S607 (the operator's own ssh)
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=20,
        )
    except (FileNotFoundError, PermissionError, subprocess.TimeoutExpired):
        return {}
    if done.returncode:
        seen = done.stderr.decode("utf-8", "replace").strip()
        raise UsageError(
            f"{host}: ssh -G could not read the OpenSSH configuration: {seen}", "mend ~/.ssh/config"
        )
    return parse_answer(done.stdout.decode("utf-8", "replace"))


def parse_answer(text: str) -> dict[str, list[str]]:
    """Read the lines `keyword value` of `ssh -G`; keywords may repeat."""
    answer: dict[str, list[str]] = {}
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        answer.setdefault(keyword.lower(), []).append(value.strip().strip('"'))
    return answer


def first(asked: Mapping[str, Sequence[str]], keyword: str) -> str | None:
    """The first value of a keyword; None if it is absent or `none`."""
    values = asked.get(keyword) or ("none",)
    return None if values[0] in ("none", "") else values[0]


def jump_of(asked: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The hops of OpenSSH's own configuration, first hop first."""
    return tuple(hop.strip() for hop in (first(asked, "proxyjump") or "").split(",") if hop.strip())


def parse_hop(text: str) -> tuple[str | None, str, int | None]:
    """Split `[ssh://][user@]host[:port]`; an IPv6 address with a port needs brackets."""
    user, _, address = text.removeprefix("ssh://").rstrip("/").rpartition("@")
    host, port = address, ""
    if address.startswith("["):
        host, _, port = address[1:].partition("]")
        port = port.removeprefix(":")
    elif address.count(":") == 1:
        host, _, port = address.partition(":")
    if not host or host.startswith("-") or (port and not port.isdigit()):
        raise UsageError(f"not a jump host: {text!r}", "write [user@]host[:port]")
    return user or None, host, int(port) if port else None


def agent_of(asked: Mapping[str, Sequence[str]]) -> str | None:
    """The agent's socket: IdentityAgent, else SSH_AUTH_SOCK."""
    if "identityagent" not in asked:
        return os.environ.get("SSH_AUTH_SOCK") or None
    value = first(asked, "identityagent") or ""
    if value == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK") or None
    if value.startswith("$"):
        return os.environ.get(value[1:].strip("{}")) or None
    return str(Path(value).expanduser()) if value else None


def known_hosts_of(spec: SshSpec, asked: Mapping[str, Sequence[str]]) -> tuple[Path, ...]:
    """The files to look a host key up in; a new key is added to the first."""
    own = (first(asked, "userknownhostsfile") or "").split()
    shared = (first(asked, "globalknownhostsfile") or "").split()
    if spec.known_hosts is not None:
        return (spec.known_hosts.expanduser(), *(Path(name) for name in shared))
    found = tuple(Path(name).expanduser() for name in (*own, *shared))
    return found or tuple(path.expanduser() for path in DEFAULT_KNOWN_HOSTS)
