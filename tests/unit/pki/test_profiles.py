"""What stands in each certificate, whatever the inventory says."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, PkiSpec, Version
from etcdctl_remote.errors import UsageError
from etcdctl_remote.pki.profiles import Kind, Profile, common_name, node_profiles, split_names

NODE = NodeSpec("kube-node1", "bastion-alias", address="10.0.0.11")


def _profiles(node: NodeSpec, pki: PkiSpec | None = None) -> dict[Kind, Profile]:
    others = (NodeSpec("kube-node2", "10.0.0.12", address="10.0.0.12"),)
    cluster = ClusterSpec(
        "demo", Version(3, 6, 14), (node, *others), Path("inventory.yaml"), pki=pki or PkiSpec()
    )
    return node_profiles(cluster, node)


def test_a_server_answers_to_loopback_name_and_address() -> None:
    """Whatever a client of this node dials stands in the server certificate, and nothing else."""
    names = _profiles(NODE)[Kind.SERVER].names
    assert names == {"localhost", "127.0.0.1", "::1", "kube-node1", "10.0.0.11"}


def test_a_peer_has_no_loopback_names() -> None:
    """Nobody outside can be mistaken for a peer on the same host."""
    assert _profiles(NODE)[Kind.PEER].names == {"kube-node1", "10.0.0.11"}


def test_servers_and_peers_can_also_be_clients() -> None:
    """The JSON gateway dials with the server certificate; peers dial each other."""
    profiles = _profiles(NODE)
    assert profiles[Kind.SERVER].usages == profiles[Kind.PEER].usages == ("server", "client")
    assert profiles[Kind.CLIENT].usages == ("client",)


def test_a_client_has_a_name_that_is_no_address() -> None:
    """A URI satisfies strict verifiers, and etcd holds no source address against it."""
    client = _profiles(NODE)[Kind.CLIENT]
    assert (client.dns, client.addresses) == ((), ())
    assert client.uris == ("urn:etcdctl-remote:demo:kube-node1",)


def test_no_node_can_be_the_root_user() -> None:
    """etcd takes a CN for a user name: a node called root must not become one."""
    profiles = _profiles(replace(NODE, name="root"))
    assert "root" not in {profile.common_name for profile in profiles.values()}


def test_behind_nat_both_addresses_are_named() -> None:
    """Peers dial the advertised address, and see connections come from either."""
    profiles = _profiles(replace(NODE, advertise="203.0.113.7"))
    assert {"10.0.0.11", "203.0.113.7"} <= profiles[Kind.PEER].names
    assert {"10.0.0.11", "203.0.113.7"} <= profiles[Kind.SERVER].names


def test_names_of_the_inventory_go_to_servers_and_peers_only() -> None:
    """`names` and `pki.names` widen what is served; a client needs none of them."""
    profiles = _profiles(replace(NODE, names=("N1.Example.",)), PkiSpec(names=("etcd.svc", "10.9.9.9")))
    for kind in (Kind.SERVER, Kind.PEER):
        assert {"n1.example", "etcd.svc", "10.9.9.9"} <= profiles[kind].names
    assert len(profiles[Kind.CLIENT].names) == 1


def test_an_unresolved_interface_is_no_certificate() -> None:
    """Without its address a node's certificate would be wrong, so there is none."""
    with pytest.raises(ValueError, match="wg0"):
        _profiles(NodeSpec("n1", "n1", interface="wg0"))


def test_every_address_is_dropped_as_a_name() -> None:
    """`0.0.0.0` is what one binds, never what one dials."""
    assert split_names(["0.0.0.0", "::", "10.0.0.1"])[1] == (ipaddress.ip_address("10.0.0.1"),)  # noqa: S104


def test_an_ipv6_address_has_one_spelling() -> None:
    """Two spellings and a scope are the same address: no reason for a new certificate."""
    assert split_names(["fd00:0:0::1", "FD00::1", "fd00::1%wg0"])[1] == (ipaddress.ip_address("fd00::1"),)


def test_an_international_name_becomes_ascii() -> None:
    """Certificates hold the encoded form, which is what clients compare."""
    assert split_names(["bücher.example"])[0] == ("xn--bcher-kva.example",)


@pytest.mark.parametrize("name", ["", "a b", "-a", "a-.b", "a..b", "https://a", "a:2379", "x" * 64, "*.*.a"])
def test_a_name_no_certificate_can_hold_is_an_error(name: str) -> None:
    """The message shows the name and the keys it can come from."""
    with pytest.raises(UsageError) as caught:
        split_names([name])
    assert repr(name) in caught.value.message
    assert "pki.names" in caught.value.hint


def test_a_node_name_that_nobody_can_dial_stays_out() -> None:
    """etcd allows any member name; only host names are subject names."""
    assert _profiles(replace(NODE, name="node_1"))[Kind.PEER].names == {"10.0.0.11"}
    assert _profiles(replace(NODE, name="Knoten ß"))[Kind.PEER].names == {"10.0.0.11"}


@given(st.text(min_size=1, max_size=300))
def test_any_member_name_gives_distinct_common_names_that_fit(name: str) -> None:
    """Names of any length and script give at most 64 characters, told apart by a digest."""
    first, second = common_name("etcd-server", name), common_name("etcd-server", name + "x")
    assert len(first) <= 64
    assert len(second) <= 64
    assert first != second


@given(
    st.lists(st.ip_addresses(), max_size=8), st.lists(st.from_regex(r"[a-z][a-z0-9]{0,20}", fullmatch=True))
)
def test_names_are_sorted_apart_once_each(
    addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address], words: list[str]
) -> None:
    """Whatever comes twice stands once; addresses never end up as DNS names."""
    texts = [*map(str, addresses), *words]
    dns, found = split_names(texts + texts)
    assert list(dns) == list(dict.fromkeys(words))
    dialled = [a for a in addresses if not a.is_unspecified]
    assert {str(a) for a in found} == {str(a).partition("%")[0] for a in dialled}
    assert len(found) == len(set(found))
