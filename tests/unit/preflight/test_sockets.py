"""The kernel's tables, and who is seen as whom."""

from __future__ import annotations

import re
from ipaddress import ip_address

import pytest

from etcdctl_remote.preflight.sockets import End, Source, admitted, as_address, grep, parse, source_of

TCP = "   2: 0B52E20A:094C 0C52E20A:B2F4 01 00000000:00000000 00:00000000 00000000   999        0 1139283 2 0000 20"
TCP6 = (
    "   4: 64F652FD00003BB90000000011000000:094C 64F652FD00003BB90000000012000000:B2F6 01 00000000:00000000 "
    "00:00000000 00000000   999        0 77 1 0000 20"
)
MAPPED = (
    "   5: 0000000000000000FFFF00000B52E20A:094B 0000000000000000FFFF00000C52E20A:9000 01 00000000:00000000 "
    "00:00000000 00000000   999        0 78 1 0000 20"
)


def end(address: str, port: int) -> End:
    return End(ip_address(address), port)


def test_lines_of_both_tables_are_read() -> None:
    """IPv4, IPv6, and IPv4 through an IPv6 socket."""
    four, six, mapped = parse(["  sl  local_address rem_address   st tx_queue", TCP, TCP6, MAPPED])
    assert (four.local, four.remote, four.state, four.inode) == (
        end("10.226.82.11", 2380),
        end("10.226.82.12", 0xB2F4),
        "01",
        1139283,
    )
    assert six.remote == end("fd52:f664:b93b::12", 0xB2F6)
    assert mapped.remote == end("10.226.82.12", 0x9000)


def test_the_pattern_finds_either_end_of_a_port() -> None:
    """The dialler's table has the port at the far end, the acceptor's at its own."""
    dialled = TCP.replace("0B52E20A:094C 0C52E20A:B2F4", "0C52E20A:B2F4 0B52E20A:094C")
    listening = "   1: 0100007F:094C 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 5"
    assert all(re.search(grep([2380]), line) for line in (TCP, dialled, TCP6))
    assert not re.search(grep([2379]), TCP)
    assert not re.search(grep([2380]), listening)
    assert re.search(grep([2379, 2380], "0A"), listening)
    assert not re.search(grep([2379, 2380], "0A"), TCP)


def test_an_end_in_both_tables_is_no_translation() -> None:
    """Own end and far end agree: that is the source, for certain."""
    mine = end("10.0.0.1", 5000)
    assert source_of([mine], [mine, end("10.0.0.3", 6000)], []) == Source(frozenset({mine.address}))


def test_a_translated_source_is_what_nobody_else_explains() -> None:
    """The acceptor sees an end that no dialler has: NAT; one that is another's is not ours."""
    mine, other, seen = end("10.0.0.1", 5000), end("10.0.0.3", 6000), end("192.0.2.1", 44444)
    assert source_of([mine], [seen, other], [mine, other]) == Source(frozenset({seen.address}))


def test_of_two_translated_sources_the_kept_port_tells() -> None:
    """NAT keeps the port where it can; where it cannot, both stay possible and none is certain."""
    mine = end("10.0.0.1", 5000)
    one, two = end("192.0.2.1", 5000), end("192.0.2.2", 7000)
    assert source_of([mine], [one, two], [mine]) == Source(frozenset({one.address}))
    both = source_of([end("10.0.0.1", 1)], [one, two], [])
    assert both == Source(frozenset({one.address, two.address}), certain=False)


@pytest.mark.parametrize(
    ("names", "resolved", "expected"),
    [
        ([], [], True),
        (["urn:etcdctl-remote:a:b"], [], True),
        (["10.0.0.1"], [], True),
        (["10.0.0.2"], [], False),
        (["n1", "10.0.0.2"], [], False),
        (["n1", "10.0.0.2"], ["10.0.0.1"], True),
        (["n1"], ["10.0.0.9"], False),
        (["::ffff:10.0.0.1"], [], True),
    ],
)
def test_a_peer_is_admitted_by_etcds_own_rule(names: list[str], resolved: list[str], expected: bool) -> None:
    """No name at all, an IP name, or a DNS name that resolves to the source on the acceptor."""
    assert admitted(ip_address("10.0.0.1"), names, [ip_address(one) for one in resolved]) is expected


def test_only_addresses_are_addresses() -> None:
    """Host names are None, zones are left out."""
    assert as_address("n1.example") is None
    assert as_address("fe80::1%eth0") == ip_address("fe80::1")
