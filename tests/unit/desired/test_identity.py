"""Ids computed here are the ids that etcd reports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdctl_remote.desired.identity import Marker, cluster_id, hexadecimal, member_id

PEERS = ("http://127.0.0.1:12380", "http://127.0.0.1:22380", "http://127.0.0.1:32380")


def test_the_ids_of_a_real_bootstrap() -> None:
    """Read from the log of etcd 3.6.14 started with these URLs and the token `demo-token`."""
    members = [member_id([peer], "demo-token") for peer in PEERS]
    assert [hexadecimal(one) for one in members] == [
        "adf4b328fabeeffb",
        "9585aa660f3acb0b",
        "4ef3ca7870335375",
    ]
    assert hexadecimal(cluster_id(members)) == "c8cabb6acea026b6"


@given(st.permutations(PEERS))
def test_order_means_nothing(peers: list[str]) -> None:
    """Neither the order of one member's URLs nor that of the members changes an id."""
    assert member_id(peers, "t") == member_id(PEERS, "t")
    assert cluster_id(member_id([p], "t") for p in peers) == cluster_id(member_id([p], "t") for p in PEERS)


def test_the_token_makes_another_cluster() -> None:
    """The same hosts with another token are other members of another cluster."""
    assert member_id(PEERS[:1], "a") != member_id(PEERS[:1], "b")


def test_a_marker_comes_back() -> None:
    """What is written on a host is read again."""
    marker = Marker("demo", "c8cabb6acea026b6", "adf4b328fabeeffb", "n1")
    assert Marker.decode(marker.encode()) == marker
    assert marker.encode().startswith(b'{"cluster": "demo", "cluster_id": "c8cabb6acea026b6"')


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"cluster": 1}', b"\xff", b"null", b'"x"'])
def test_what_is_no_marker_is_said(content: bytes) -> None:
    """A damaged marker is never taken for an absent one."""
    with pytest.raises(ValueError, match="not a member marker"):
        Marker.decode(content)
