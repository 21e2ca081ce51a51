"""What the facts of one host mean for a deploy. Pure; every message has the value or the fix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from statistics import median

from ..desired.hostspec import UNIT_PATH
from ..desired.model import ClusterSpec
from ..observed.findings import Finding, Result
from ..pki.generation import Generation
from ..pki.profiles import Kind
from .case import GIB, MIB, Case, Check, size
from .facts import Facts
from .question import host_names, ports
from .sockets import as_address
from .storage import config, data, disk, mounts

OLDEST_SYSTEMD = 239
"""RHEL 8's; older ones do not know @system-service."""
SINCE: Mapping[str, int] = {
    "ProtectHostname": 242,
    "RestrictSUIDSGID": 242,
    "OOMPolicy": 243,
    "ProtectKernelLogs": 244,
    "ProtectClock": 245,
    "ProcSubset": 247,
    "ProtectProc": 247,
    "PrivateIPC": 248,
    "RestrictFileSystems": 250,
    "RestartMaxDelaySec": 254,
    "RestartSteps": 254,
}
"""systemd releases that brought an option (its NEWS); an older one fails our lint of the unit."""
ARCHITECTURES: Mapping[str, str] = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
}
LISTENER = "systemd-socket-"
"""The kernel's fifteen characters of the program that the network probe listens with."""
SKEW_WARN = 0.5
"""Seconds off the median. etcd warns above one; two nodes may be off in opposite directions."""
SKEW_FAIL = 60.0
"""Seconds. Certificates are dated back five minutes, so this one leaves time to drift further."""
MEMORY_FAIL = 128 * MIB
"""An empty etcd takes 30 to 60 MiB."""
MEMORY_WARN = 2 * GIB
NOFILE_FATAL = 150
"""etcd keeps that many descriptors for itself and ends when it has no more."""
NOFILE_WARN = 4096
UNLIMITED = 1 << 30
"""The kernel's own ceiling (fs.nr_open) for `infinity`."""


def judge(cluster: ClusterSpec, generation: Generation, facts: Mapping[str, Facts]) -> list[Finding]:
    """Run every check on every host we have facts of, in the inventory's order."""
    offsets = {name: found.clock - found.asked_at for name, found in facts.items()}
    middle = median(offsets.values()) if offsets else 0.0
    cases = [
        Case(cluster, node, facts[node.name], generation, offsets[node.name] - middle)
        for node in cluster.nodes
        if node.name in facts
    ]
    return [finding for case in cases for check in CHECKS for finding in check(case)]


def login(case: Case) -> Iterator[Finding]:
    user = case.node.ssh.user or "the login user"
    yield case.says("ssh", Result.PASS, f"logged in to {case.node.host}")
    if case.facts.uid == 0:
        how = "root" if case.node.ssh.user == "root" else f"{user} becomes root by sudo"
        yield case.says("sudo", Result.PASS, how)
    else:
        fix = "allow it by sudo, or `ssh: {user: root}`"
        yield case.says("sudo", Result.FAIL, f"commands run as uid {case.facts.uid}, not as root: {fix}")


def certificates(case: Case) -> Iterator[Finding]:
    """A member here, and no CA on this laptop: what it shows cannot be known."""
    if case.generation.new_authorities and case.facts.marker == case.cluster.name:
        folder = f"certs/{case.cluster.name}"
        text = f"is a member, but there is no {folder} beside the inventory: put the folder it was deployed with there"
        yield case.says("certificates", Result.FAIL, text)


def system(case: Case) -> Iterator[Finding]:
    yield case.says("os", Result.PASS, f"{case.facts.os}, kernel {case.facts.kernel}")
    arch = ARCHITECTURES.get(case.facts.machine)
    if arch:
        yield case.says("architecture", Result.PASS, arch)
    else:
        known = ", ".join(ARCHITECTURES.values())
        text = f"{case.facts.machine or 'unknown'}: there are etcd releases for {known} only"
        yield case.says("architecture", Result.FAIL, text)


def init(case: Case) -> Iterator[Finding]:
    facts = case.facts
    if facts.init != "systemd":
        text = f"process 1 is {facts.init or 'unknown'}, not systemd: etcd is run as a systemd service"
        yield case.says("systemd", Result.FAIL, text)
        return
    version = facts.systemd or 0
    if version < OLDEST_SYSTEMD:
        text = f"systemd {version} is too old: {OLDEST_SYSTEMD} (RHEL 8, Debian 10) is the oldest that works"
        yield case.says("systemd", Result.FAIL, text)
        return
    unknown = sorted(key for key in case.cluster.service if SINCE.get(key, 0) > version)
    if unknown:
        nulls = ", ".join(f"{key}: null" for key in unknown)
        text = f"systemd {version} does not know {', '.join(unknown)}: set `service: {{{nulls}}}`"
        yield case.says("systemd", Result.FAIL, text)
    else:
        yield case.says("systemd", Result.PASS, f"systemd {version}")


def commands(case: Case) -> Iterator[Finding]:
    missing = case.facts.missing
    if missing:
        text = f"missing: {', '.join(missing)}; install the packages that have them"
        yield case.says("commands", Result.FAIL, text)
    else:
        yield case.says("commands", Result.PASS, "all there")


def clock(case: Case) -> Iterator[Finding]:
    """Compare with the other nodes, and with the certificates' dates."""
    now = datetime.fromtimestamp(case.facts.clock, UTC)
    fix = "set it by NTP (chrony, systemd-timesyncd)"
    for kind in (Kind.PEER, Kind.SERVER):
        leaf = case.generation.leaf(case.node.name, kind)
        if not leaf.not_before <= now < leaf.not_after:
            span = f"{leaf.not_before:%Y-%m-%d %H:%M} to {leaf.not_after:%Y-%m-%d %H:%M}"
            text = f"it is {now:%Y-%m-%d %H:%M:%S} UTC here, the {kind.value} certificate is valid from {span}: {fix}"
            yield case.says("clock", Result.FAIL, text)
            return
    off = abs(case.offset)
    seen = f"{off:.1f} s {'ahead of' if case.offset > 0 else 'behind'} the median of the nodes"
    if off > SKEW_WARN + case.facts.slack:
        yield case.says("clock", Result.FAIL if off > SKEW_FAIL else Result.WARN, f"{seen}: {fix}")
    else:
        yield case.says("clock", Result.PASS, "with the other nodes" if off < 0.1 else seen)


def address(case: Case) -> Iterator[Finding]:
    bind, facts = as_address(case.node.bind), case.facts
    here = [(name, as_address(text.partition("/")[0]), text) for name, text in facts.addresses]
    found = next((name for name, one, _ in here if one == bind), None)
    if bind is not None and bind.is_unspecified:
        yield case.says("address", Result.PASS, f"{bind}: all of the host's addresses")
    elif found:
        on = "" if found == "-" else f" on {found}"
        other = f", dialled as {case.node.advertise}" if case.node.advertise else ""
        yield case.says("address", Result.PASS, f"{bind}{on}{other}")
    else:
        has = ", ".join(f"{name} {text}" for name, one, text in here if one and not one.is_loopback)
        name = case.node.name
        text = f"{case.node.bind} is not on this host, which has {has or 'none'}: mend nodes.{name}.address"
        if not case.node.advertise:
            text += f", or, if {case.node.bind} is translated to it (NAT), say nodes.{name}.advertise"
        yield case.says("address", Result.FAIL, text)


def names(case: Case) -> Iterator[Finding]:
    """Only a host name in `advertise` is ever looked up."""
    wanted = host_names(case.cluster)
    lost = [name for name in wanted if not case.facts.names.get(name)]
    if lost:
        fix = "mend DNS or /etc/hosts, or advertise an address"
        yield case.says("names", Result.FAIL, f"{', '.join(lost)} cannot be resolved here: {fix}")
    elif wanted:
        seen = "; ".join(f"{name} is {', '.join(case.facts.names[name])}" for name in wanted)
        yield case.says("names", Result.PASS, seen)
    else:
        yield case.says("names", Result.PASS, "not needed: all URLs are addresses")


def listeners(case: Case) -> Iterator[Finding]:
    facts, taken = case.facts, False
    for kind, port in ports(case.cluster).items():
        for found, owner in facts.strangers(port):
            if case.deployed and owner.pid and owner.pid == facts.pid:
                continue  # our unit's own process, whose digest a drop-in has erased
            taken = True
            address = found.local.address
            where = "all addresses" if address.is_unspecified else f"{address}"
            fix = f"stop it, or set another `ports: {{{kind}: …}}`"
            if owner.name.startswith(LISTENER):
                fix = f"another check or deploy listens so for some seconds: try again; if it stays, {fix}"
            text = f"port {port} ({kind}) is taken by {owner.name} (pid {owner.pid}) on {where}: {fix}"
            yield case.says("ports", Result.FAIL, text)
    if not taken:
        held = [str(port) for port in ports(case.cluster).values() if facts.on(port)]
        free = [str(port) for port in ports(case.cluster).values() if not facts.on(port)]
        said = [f"{', '.join(held)} held by our etcd"] * bool(held) + [f"{', '.join(free)} free"] * bool(free)
        yield case.says("ports", Result.PASS, "; ".join(said))


def service(case: Case) -> Iterator[Finding]:
    """An etcd.service that runs and is not ours; our own unit file would shadow the packaged one."""
    unit = case.facts.unit
    fragment = unit.get("FragmentPath", "")
    if case.facts.pid and not case.facts.ours and not case.deployed:
        text = f"an etcd that is not ours runs from {fragment}: stop and disable it (`systemctl disable --now etcd`)"
        yield case.says("service", Result.FAIL, text)
    elif UNIT_PATH in case.facts.foreign and not case.deployed:
        text = (
            f"{UNIT_PATH} is not ours and would be overwritten: if nobody needs it, `systemctl disable --now etcd` "
            f"(`systemctl unmask etcd` if it is masked), then move the file away"
        )
        yield case.says("service", Result.FAIL, text)
    elif fragment and fragment != UNIT_PATH:
        yield case.says(
            "service", Result.WARN, f"{fragment} is there already; ours at {UNIT_PATH} comes before it"
        )
    else:
        yield case.says("service", Result.PASS, unit.get("ActiveState") or "not installed")


def programs(case: Case) -> Iterator[Finding]:
    """Programs of somebody else's where our links go; on a host of ours that is only a difference."""
    theirs = [path for path in case.facts.foreign if path != UNIT_PATH]
    if theirs and not case.deployed:
        text = f"{', '.join(theirs)} would become a link of ours: move it away, or choose another `paths.bin`"
        yield case.says("programs", Result.FAIL, text)
    elif theirs:
        yield case.says(
            "programs", Result.WARN, f"{', '.join(theirs)} is no link of ours: deploy makes it one"
        )
    else:
        yield case.says("programs", Result.PASS, f"{case.cluster.paths.bin} holds no others' etcd")


def memory(case: Case) -> Iterator[Finding]:
    total, free = case.facts.memory.get("MemTotal"), case.facts.memory.get("MemAvailable")
    if total is None or free is None:
        yield case.says("memory", Result.WARN, "cannot be told")
        return
    seen = f"{size(total)}, {size(free)} available"
    quota = int(case.node.settings.get("quota-backend-bytes", "0") or 0)
    if free < MEMORY_FAIL and not case.facts.ours:
        yield case.says("memory", Result.FAIL, f"{seen}: etcd needs {size(MEMORY_FAIL)} to start at all")
    elif total < max(MEMORY_WARN, quota):
        text = f"{seen}: the database should fit in memory, etcd advises 8 GiB and at least {size(max(MEMORY_WARN, quota))}"
        yield case.says("memory", Result.WARN, text)
    else:
        yield case.says("memory", Result.PASS, seen)


def limits(case: Case) -> Iterator[Finding]:
    """How many files etcd may open. systemd gives the closest it can: a container may get less."""
    wanted, can = _last(case.cluster.service, "LimitNOFILE").rpartition(":")[2], case.facts.limits
    files = UNLIMITED if wanted in ("", "infinity") else int(wanted) if wanted.isdigit() else UNLIMITED
    if not can.resource and can.files is not None:
        files = min(files, can.files)
    if files <= NOFILE_FATAL:
        text = f"only {files} open files: etcd does not start with {NOFILE_FATAL} or fewer; raise LimitNOFILE"
        yield case.says("limits", Result.FAIL, text)
    elif files < NOFILE_WARN:
        text = f"only {files} open files, {NOFILE_FATAL} of them etcd's own: each client connection takes one"
        yield case.says("limits", Result.WARN, text)
    else:
        seen = "any number of" if files == UNLIMITED else f"{files}"
        yield case.says("limits", Result.PASS, f"{seen} open files")


def _last(wanted: Mapping[str, tuple[str, ...]], key: str) -> str:
    return (wanted.get(key) or ("",))[-1]


def surroundings(case: Case) -> Iterator[Finding]:
    """What never forbids anything, but explains much later on."""
    facts = case.facts
    if facts.proxies:
        text = f"{', '.join(facts.proxies)} set for all services: the unit unsets them, or peers would be dialled by proxy"
        yield case.says("proxy", Result.PASS, text)
    if facts.enforcing:
        text = "SELinux enforces: should etcd be denied something, `ausearch -m avc -ts recent` tells"
        yield case.says("selinux", Result.PASS, text)
    if facts.firewalls:
        peer, client = case.cluster.ports.peer, case.cluster.ports.client
        text = f"{', '.join(sorted(facts.firewalls))} is active: it must let {client} and {peer} in (see network)"
        yield case.says("firewall", Result.PASS, text)


CHECKS: tuple[Check, ...] = (
    login,
    certificates,
    system,
    init,
    commands,
    clock,
    address,
    names,
    listeners,
    service,
    programs,
    config,
    data,
    disk,
    mounts,
    memory,
    limits,
    surroundings,
)
