"""Which connections are tried, who is seen as whom, and what the outcome means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

from etcdctl_remote.desired.model import NodeSpec
from etcdctl_remote.errors import Failed
from etcdctl_remote.observed.findings import Finding, Result
from etcdctl_remote.pki.profiles import Address
from etcdctl_remote.preflight.byhand import judge
from etcdctl_remote.preflight.facts import Facts
from etcdctl_remote.preflight.network import Probe, probe, sources
from etcdctl_remote.preflight.reach import open_port, reach
from etcdctl_remote.preflight.sockets import End, Socket, Source, as_address
from etcdctl_remote.preflight.ways import Trial, Way, ways
from etcdctl_remote.remote.fleet import Fleet

from .wish import certificates, cluster, fresh

FACTS = {name: fresh(name) for name in ("n1", "n2", "n3")}
ALL = list(ways(cluster(), FACTS))


def end(address: str, port: int) -> End:
    return End(ip_address(address), port)


def findings(trials: Sequence[Trial], **more: object) -> list[Finding]:
    """Judge a probe in which every way but those given went well."""
    tried = {trial.way: trial for trial in trials}
    probe = Probe(tuple(tried.get(way, Trial(way, "tls")) for way in ALL))
    return reach(cluster(), certificates(), FACTS, replace(probe, **more))  # type: ignore[arg-type]


def way(source: str, target: str, kind: str) -> Way:
    return next(w for w in ALL if (w.source, w.target, w.kind) == (source, target, kind))


def test_every_pair_on_both_ports_and_each_node_itself() -> None:
    """Three nodes: six directed pairs on two ports, and etcdctl on its own node."""
    assert len(ALL) == len(set(ALL)) == 15
    assert {(w.source, w.kind) for w in ALL if w.source == w.target} == {(n, "client") for n in FACTS}


def test_others_dial_what_is_advertised_the_node_itself_what_it_binds() -> None:
    """Behind NAT nobody need reach his own outer address."""
    one, two, three = cluster().nodes
    wish = replace(cluster(), nodes=(one, replace(two, advertise="192.0.2.2"), three))
    dialled = {(w.source, w.host) for w in ways(wish, FACTS) if w.target == "n2"}
    assert dialled == {("n1", "192.0.2.2"), ("n3", "192.0.2.2"), ("n2", "10.226.82.12")}


def test_a_node_without_ssh_is_left_out() -> None:
    """It can neither dial nor listen for us."""
    assert {(w.source, w.target) for w in ways(cluster(), ["n1", "n3"])} == {
        ("n1", "n1"),
        ("n1", "n3"),
        ("n3", "n3"),
        ("n3", "n1"),
    }


def addresses(one: Way) -> list[Address]:
    found = as_address(one.host)
    return [found] if found else []


def tables(seen_as: str) -> dict[str, tuple[Socket, ...]]:
    """n1 and n3 have dialled n2's peer port; n2 sees n1 under the address given."""
    target, here, there = end("10.226.82.12", 2380), end("10.226.82.11", 5001), end("10.226.82.13", 5002)
    return {
        "n1": (Socket(here, target, "01", 1),),
        "n3": (Socket(there, target, "01", 1),),
        "n2": (
            Socket(target, replace(here, address=ip_address(seen_as)), "01", 1),
            Socket(target, there, "01", 2),
        ),
    }


def test_tables_of_both_sides_tell_the_source() -> None:
    """Unchanged ends are certain; the one left over is the translated one."""
    opened = [way("n1", "n2", "peer"), way("n3", "n2", "peer")]
    plain = sources(2380, opened, tables("10.226.82.11"), addresses)
    assert {pair: {str(a) for a in source.addresses} for pair, source in plain.items()} == {
        ("n1", "n2"): {"10.226.82.11"},
        ("n3", "n2"): {"10.226.82.13"},
    }
    behind_nat = sources(2380, opened, tables("192.0.2.7"), addresses)
    assert behind_nat["n1", "n2"] == Source(frozenset({ip_address("192.0.2.7")}))
    assert behind_nat["n3", "n2"] == plain["n3", "n2"]


def test_all_well_is_one_line_for_each_node() -> None:
    """The line names whom it reaches and as whom it is seen."""
    seen = {("n1", "n2"): Source(frozenset({ip_address("10.226.82.11")}))}
    found = findings([], sources=seen)
    assert [f.result for f in found] == [Result.PASS] * 3
    assert found[0].message == "reaches both ports of n2 n3 over TLS, seen as 10.226.82.11"


def test_a_blocked_port_is_named_once_with_all_it_is_blocked_for() -> None:
    """Two nodes that run into one rule are one finding, on the host whose rule it is."""
    lost = [Trial(way(one, "n2", "peer"), "lost", "no answer in 2 s") for one in ("n1", "n3")]
    (bad,) = [f for f in findings(lost) if f.result is Result.FAIL]
    assert bad.node == "n2"
    assert "port 2380 of n2 (10.226.82.12)" in bad.message
    assert "n1 (10.226.82.11), n3 (10.226.82.13)" in bad.message
    assert "drops" in bad.message


def test_the_fix_is_in_the_words_of_the_active_firewall() -> None:
    """If ufw runs there, the line is ufw's, one for each source, and nobody else's."""
    nodes = [NodeSpec("n1", "h", "10.0.0.1"), NodeSpec("n6", "h", "fd00::1")]
    ufw = open_port(replace(fresh(), firewalls=frozenset({"ufw"})), nodes, 2380)
    assert "ufw allow from 10.0.0.1 to any port 2380 proto tcp; ufw allow from fd00::1" in ufw
    assert "firewall-cmd" not in ufw
    assert "family=ipv6" in open_port(replace(fresh(), firewalls=frozenset({"firewalld"})), nodes, 2380)
    assert "ip6 saddr fd00::1" in open_port(replace(fresh(), firewalls=frozenset({"nftables"})), nodes, 2380)
    unknown = open_port(None, nodes, 2380)
    assert all(name in unknown for name in ("ufw", "firewall-cmd", "nft"))


def test_a_strange_source_fails_with_the_address_the_names_and_the_fix() -> None:
    """etcd would turn it away; the inventory line that mends it is in the message."""
    seen = {("n1", "n2"): Source(frozenset({ip_address("192.0.2.7")}))}
    (bad,) = [f for f in findings([], sources=seen) if f.result is Result.FAIL]
    assert bad.node == "n1"
    assert "n2 sees n1 as 192.0.2.7" in bad.message
    assert "(10.226.82.11, n1)" in bad.message
    assert "nodes.n1.names: [192.0.2.7]" in bad.message


def test_a_name_that_resolves_to_the_source_saves_it() -> None:
    """etcd looks DNS names up on the acceptor, and so do we."""
    seen = {("n1", "n2"): Source(frozenset({ip_address("192.0.2.7")}))}
    resolved = {"n2": frozenset({ip_address("192.0.2.7")})}
    assert {f.result for f in findings([], sources=seen, resolved=resolved)} == {Result.PASS}


def test_an_acceptor_that_checks_no_names_is_not_complained_for() -> None:
    """`peer-skip-client-san-verification` switches the rule off where it is set."""
    lax = tuple(replace(n, settings={"peer-skip-client-san-verification": "true"}) for n in cluster().nodes)
    probe = Probe(
        tuple(Trial(w, "tls") for w in ALL), {("n1", "n2"): Source(frozenset({ip_address("192.0.2.7")}))}
    )
    found = reach(replace(cluster(), nodes=lax), certificates(), FACTS, probe)
    assert {f.result for f in found} == {Result.PASS}


def test_a_source_told_by_elimination_only_warns() -> None:
    """Two candidates: it is said, but nothing is forbidden on a guess."""
    seen = {
        ("n1", "n2"): Source(frozenset({ip_address("192.0.2.7"), ip_address("192.0.2.8")}), certain=False)
    }
    found = [f for f in findings([], sources=seen) if f.node == "n1"]
    assert {f.result for f in found} == {Result.WARN}


def test_what_cannot_be_probed_says_so_and_forbids_nothing() -> None:
    """Forwarding forbidden, a port held, a host gone: warnings with the reason."""
    trials = [
        Trial(way("n1", "n2", "peer"), "tcp"),
        Trial(way("n3", "n2", "peer"), "unknown", "sshd forbids forwarding"),
        Trial(way("n2", "n3", "client"), "waiting", "no answer"),
    ]
    found = findings(trials, unprobed={("n3", "peer"): "the port is taken"})
    assert {f.result for f in found} == {Result.WARN}
    assert any("port 2380 cannot be probed: the port is taken" in f.message for f in found)
    gone = reach(cluster(), certificates(), {"n1": fresh()}, Probe())
    assert [(f.node, f.result) for f in gone] == [("n2", Result.WARN), ("n3", Result.WARN)]


def test_a_wrong_certificate_names_the_way() -> None:
    """Somebody else answers at the address: source, target and address are in the message."""
    trial = Trial(way("n1", "n2", "client"), "certificate", "unable to get local issuer certificate")
    (bad,) = [f for f in findings([trial]) if f.result is Result.FAIL]
    assert "n1 → n2 (10.226.82.12 port 2379): TLS failed: unable to get local issuer" in bad.message


def test_the_nodes_own_word_beats_what_ssh_said() -> None:
    """SSH says only that it failed; bash on the node says why, or that it works by hand."""
    failed = Trial(ALL[0], "refused", "Connect failed")
    assert judge(failed, "No route to host") == Trial(ALL[0], "refused", "No route to host")
    assert judge(failed, "").outcome == "lost"
    assert judge(failed, "open").outcome == "tcp"
    assert judge(failed, None) is failed
    assert judge(failed, "bash: not found") is failed


def test_facts_of_one_host_are_enough_for_one_node() -> None:
    """A cluster of one dials its own client port and nothing else."""
    facts: dict[str, Facts] = {"n1": fresh()}
    alone = cluster(1)
    found = reach(alone, certificates(), facts, Probe(tuple(Trial(w, "tls") for w in ways(alone, facts))))
    assert [f.message for f in found] == ["reaches its own client port over TLS"]


class Broken:
    """A host on which nothing can be opened, dialled or read; each fails in its own way."""

    def __init__(self, name: str) -> None:
        self.name = name

    def listen_back(self) -> None:
        raise OSError(98, "Address already in use")

    def dial(self, *_: object) -> None:
        raise ConnectionResetError(104, "reset")

    def run(self, *_: object, **__: object) -> None:
        raise Failed("the table is gone")


def test_a_host_that_fails_to_listen_has_a_finding() -> None:
    """Whatever went wrong: nothing that was not probed passes in silence."""
    wish = cluster(2)
    facts = {name: fresh(name) for name in ("n1", "n2")}
    fleet = Fleet({name: Broken(name) for name in facts})  # type: ignore[misc]
    seen = probe(wish, certificates(), fleet, facts)
    assert set(seen.unprobed) == {(name, kind) for name in facts for kind in ("client", "peer")}
    found = reach(wish, certificates(), facts, seen)
    assert {(f.node, f.result) for f in found} == {("n1", Result.WARN), ("n2", Result.WARN)}
    assert "cannot be probed: OSError: [Errno 98] Address already in use" in found[0].message


def test_a_table_that_cannot_be_read_is_said() -> None:
    """The source addresses of that node were not looked at."""
    untold = [f for f in findings([], untold={"n2": "the table is gone"}) if f.result is Result.WARN]
    assert [f.node for f in untold] == ["n2"]
    assert "cannot be probed: the table is gone" in untold[0].message
