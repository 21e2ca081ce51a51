"""What the network probe saw means: what passes, what is blocked, and by whom. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ..desired.model import ClusterSpec, NodeSpec
from ..observed.findings import Finding, Result
from ..pki.generation import Generation
from ..pki.profiles import Kind
from .facts import Facts
from .network import Probe
from .sockets import Source, admitted
from .ways import Trial, Way

CHECK = "network"
SKIP_SAN = ("peer-skip-client-san-verification", "experimental-peer-skip-client-san-verification")


def reach(
    cluster: ClusterSpec, generation: Generation, facts: Mapping[str, Facts], probe: Probe
) -> list[Finding]:
    """Turn a probe into findings: one for each blocked port, wrong address or wrong certificate."""
    found = [
        *blocked(cluster, facts, probe.trials),
        *_mistaken(probe),
        *_sources(cluster, generation, probe),
        *_unprobed(cluster, facts, probe),
    ]
    bad = {finding.node for finding in found}
    return [*(_good(name, probe) for name in facts if name not in bad and _tried(name, probe)), *found]


def _tried(node: str, probe: Probe) -> bool:
    return any(trial.way.source == node for trial in probe.trials)


def _good(node: str, probe: Probe) -> Finding:
    """Say what a node whose every way works reaches, and as whom."""
    trials = [trial for trial in probe.trials if trial.way.source == node and trial.outcome == "tls"]
    others = list(dict.fromkeys(trial.way.target for trial in trials if trial.way.target != node))
    seen = {str(a) for (one, _), source in probe.sources.items() if one == node for a in source.addresses}
    where = f"both ports of {' '.join(others)}" if others else "its own client port"
    return Finding(node, CHECK, Result.PASS, f"reaches {where} over TLS{_as(sorted(seen))}")


def _as(seen: list[str]) -> str:
    return f", seen as {', '.join(seen)}" if seen else ""


# -- blocked ---------------------------------------------------------------------------------


def blocked(cluster: ClusterSpec, facts: Mapping[str, Facts], trials: Iterable[Trial]) -> Iterator[Finding]:
    """Group by the port that is not reached: one rule on its host opens it to all."""
    groups: dict[tuple[str, int, str, str], list[Way]] = {}
    for trial in trials:
        if trial.outcome in ("refused", "lost"):
            key = (trial.way.target, trial.way.port, trial.outcome, trial.seen)
            groups.setdefault(key, []).append(trial.way)
    for (target, port, outcome, seen), ways in groups.items():
        sources = [cluster.node(way.source) for way in ways]
        who = ", ".join(f"{node.name} ({node.bind})" for node in sources)
        what = (
            "drops the packets"
            if outcome == "lost"
            else "rejects them, or the address leads to another machine"
        )
        text = (
            f"port {port} of {target} ({ways[0].host}) cannot be reached from {who}: {seen.lower()}; a firewall "
            f"{what}. {open_port(facts.get(target), sources, port)}"
        )
        yield Finding(target, CHECK, Result.FAIL, text)


def open_port(target: Facts | None, sources: Iterable[NodeSpec], port: int) -> str:
    """Say how the usual firewalls are told to let it in; only the active one's if we know it."""
    froms = [node.bind for node in sources]
    active = target.firewalls if target else frozenset()
    rich = "firewall-cmd --permanent --add-rich-rule='rule family={} source address={} port port={} protocol=tcp accept'"
    commands = {
        "ufw": [f"ufw allow from {one} to any port {port} proto tcp" for one in froms],
        "firewalld": [
            *(rich.format("ipv6" if ":" in one else "ipv4", one, port) for one in froms),
            "firewall-cmd --reload",
        ],
        "nftables": [
            f"nft add rule inet filter input {'ip6' if ':' in one else 'ip'} saddr {one} tcp dport {port} accept"
            for one in froms
        ],
    }
    chosen = [name for name in commands if name in active]
    where = target.node if target else "the target"
    if chosen:
        return f"On {where}: " + "; ".join(commands[chosen[0]])
    shown = " | ".join(lines[0] for lines in commands.values())
    return (
        f"No firewall service is active on {where} itself: look at `nft list ruleset`, `iptables -S`, "
        f"and at what lies between; e.g. {shown}"
    )


# -- the wrong end ---------------------------------------------------------------------------


def _mistaken(probe: Probe) -> Iterator[Finding]:
    for trial in probe.trials:
        if trial.outcome == "certificate":
            text = (
                f"{trial.way}: TLS failed: {trial.seen}. Another machine or process answers there, or an etcd with "
                f"other certificates: see nodes.{trial.way.target} in the inventory, and `ss -ltnp` on that host"
            )
            yield Finding(trial.way.source, CHECK, Result.FAIL, text)
        elif trial.outcome == "broken":
            text = (
                f"{trial.way}: connected, but {trial.seen}: something in between takes connections "
                "and does not pass them on (a proxy, a load balancer, or packets too big for the path: MTU)"
            )
            yield Finding(trial.way.source, CHECK, Result.FAIL, text)


# -- the wrong source ------------------------------------------------------------------------


def _sources(cluster: ClusterSpec, generation: Generation, probe: Probe) -> Iterator[Finding]:
    """Hold what acceptors see against the dialler's peer certificate, by etcd's own rule."""
    for name in dict.fromkeys(dialler for dialler, _ in probe.sources):
        names = generation.leaf(name, Kind.PEER).names
        strange: dict[str, list[str]] = {}
        for (dialler, acceptor), source in probe.sources.items():
            if dialler == name and not _lenient(cluster.node(acceptor)):
                for text in _refused(source, names, probe, acceptor):
                    strange.setdefault(text, []).append(acceptor)
        for seen, acceptors in strange.items():
            certain = all(probe.sources[name, acceptor].certain for acceptor in acceptors)
            listed = ", ".join(sorted(one for one in names if not one.startswith("urn:")))
            text = (
                f"{', '.join(acceptors)} {'sees' if len(acceptors) == 1 else 'see'} {name} as {seen}"
                f"{'' if certain else ' (or one of these)'}, which its peer certificate ({listed}) does not name: "
                f"etcd would turn it away. NAT, or another interface: set `nodes.{name}.names: [{seen}]`, "
                "or mend the route or `address`"
            )
            yield Finding(name, CHECK, Result.FAIL if certain else Result.WARN, text)


def _refused(source: Source, names: Iterable[str], probe: Probe, acceptor: str) -> list[str]:
    known = probe.resolved.get(acceptor, frozenset())
    return sorted(str(one) for one in source.addresses if not admitted(one, tuple(names), known))


def _lenient(node: NodeSpec) -> bool:
    return any(node.settings.get(flag) == "true" for flag in SKIP_SAN)


# -- not probed ------------------------------------------------------------------------------


def _unprobed(cluster: ClusterSpec, facts: Mapping[str, Facts], probe: Probe) -> Iterator[Finding]:
    ports = {"client": cluster.ports.client, "peer": cluster.ports.peer}
    for (node, kind), why in probe.unprobed.items():
        text = f"port {ports[kind]} cannot be probed: {why}"
        yield Finding(node, CHECK, Result.WARN, text)
    for node, why in probe.untold.items():
        text = f"under which address others see it, and it sees them, cannot be probed: {why}"
        yield Finding(node, CHECK, Result.WARN, text)
    for absent in cluster.nodes:
        if absent.name not in facts:
            text = "cannot be probed: nothing is known of the host"
            yield Finding(absent.name, CHECK, Result.WARN, text)
    yield from _half(
        probe, "waiting", "its etcd holds the port and does not answer yet (it waits for a quorum)"
    )
    yield from _half(probe, "tcp", "connected, but TLS cannot be probed: sshd forbids forwarding")
    for trial in probe.trials:
        if trial.outcome == "unknown":
            yield Finding(trial.way.source, CHECK, Result.WARN, f"{trial.way} cannot be probed: {trial.seen}")


def _half(probe: Probe, outcome: str, text: str) -> Iterator[Finding]:
    """One warning for each node that dialled, naming all the ways it concerns."""
    ways: dict[str, list[Trial]] = {}
    for trial in probe.trials:
        if trial.outcome == outcome:
            ways.setdefault(trial.way.source, []).append(trial)
    for source, trials in ways.items():
        to = ", ".join(f"{trial.way.target}:{trial.way.port}" for trial in trials)
        yield Finding(source, CHECK, Result.WARN, f"to {to}: {text}")
