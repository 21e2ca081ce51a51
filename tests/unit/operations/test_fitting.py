"""New leaves are tried before anybody uses them: by themselves, and by the clock of their node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from etcdctl_remote.desired.model import PkiSpec
from etcdctl_remote.errors import Refused
from etcdctl_remote.observed.state import ClusterState
from etcdctl_remote.operations.fitting import refuse_unfit
from etcdctl_remote.operations.wish import Wish
from etcdctl_remote.pki.authority import Credential
from etcdctl_remote.pki.generation import Generation
from etcdctl_remote.pki.inspect import read_leaf
from etcdctl_remote.pki.profiles import Kind
from tests.unit.operations.rotating import Town

Found = Callable[..., Town]


def misfits(town: Town, generation: Generation, now: ClusterState | None = None) -> dict[str, str]:
    """What is wrong with these certificates, by node; nothing if they are fine."""
    want = Wish(town.cluster, generation, {})
    try:
        refuse_unfit(want, now or town.world.observe({}))
    except Refused as refused:
        return dict(refused.hosts)
    return {}


def swapped(held: Generation, node: str, kind: Kind, credential: Credential) -> Generation:
    """The same certificates, but for one."""
    slot = (node, kind)
    leaf = read_leaf(credential.certificate_pem)
    return replace(
        held, credentials={**held.credentials, slot: credential}, leaves={**held.leaves, slot: leaf}
    )


def clocked(town: Town, node: str, ahead: timedelta) -> ClusterState:
    """A node whose clock is wrong by so much."""
    now = town.world.observe({})
    here = datetime.now(UTC)
    host = replace(now.hosts[node], clock=(here + ahead).timestamp(), asked_at=here.timestamp())
    return replace(now, hosts={**now.hosts, node: host})


def test_what_was_issued_fits(found: Found) -> None:
    """On every node, by a clock that nobody asked for as well."""
    town = found()
    assert misfits(town, town.held) == {}
    assert misfits(town, town.held, clocked(town, "n2", timedelta(minutes=4))) == {}


def test_another_nodes_certificate_is_found_out(found: Found) -> None:
    """Names that are dialled and not covered are listed."""
    town = found()
    held = town.held
    wrong = swapped(held, "n1", Kind.SERVER, held.credential("n2", Kind.SERVER))
    assert set(misfits(town, wrong)) == {"n1"}
    assert misfits(town, wrong)["n1"].startswith("server: it does not name 10.0.0.1")


def test_names_that_the_inventory_gained_are_missed(found: Found) -> None:
    """On all nodes and in both leaves at once."""
    town = found()
    town.cluster = replace(town.cluster, pki=PkiSpec(names=("x.example",)))
    seen = misfits(town, town.held)
    assert set(seen) == {"n1", "n2", "n3"}
    assert seen["n1"] == "server: it does not name x.example; peer: it does not name x.example"


def test_a_key_of_another_certificate_is_found_out(found: Found) -> None:
    """Switched to, every new connection would fail."""
    town = found()
    held = town.held
    mixed = Credential(
        held.credential("n1", Kind.PEER).certificate_pem, held.credential("n1", Kind.SERVER).key_pem
    )
    seen = misfits(town, swapped(held, "n1", Kind.PEER, mixed))
    assert seen == {"n1": "peer: its key is another certificate's"}


@pytest.mark.parametrize(
    ("ahead", "said"),
    [(timedelta(hours=-1), "it begins at "), (timedelta(days=366), "it ends at ")],
)
def test_the_clock_of_the_node_decides(found: Found, ahead: timedelta, said: str) -> None:
    """An hour behind, a certificate of just now is not valid yet there; a year ahead it is over."""
    town = found()
    seen = misfits(town, town.held, clocked(town, "n2", ahead))
    assert set(seen) == {"n2"}
    assert [part.partition(": ")[0] for part in seen["n2"].split("; ")] == ["server", "peer", "client"]
    assert all(f": {said}" in part and "and there it is 20" in part for part in seen["n2"].split("; "))


def test_a_leaf_of_a_ca_that_is_not_in_the_bundle_is_found_out(found: Found) -> None:
    """The peer CA signs no server certificate, nor does another cluster's."""
    other, town = found(), found()
    strange = swapped(town.held, "n3", Kind.CLIENT, other.held.client("n3"))
    assert misfits(town, strange) == {"n3": "client: no CA of the bundle has signed it"}
    peer = swapped(town.held, "n3", Kind.SERVER, town.held.credential("n3", Kind.PEER))
    assert "server: no CA of the bundle has signed it" in misfits(town, peer)["n3"]


def test_all_that_is_wrong_is_said_at_once(found: Found) -> None:
    """Of every node, in one refusal, with the way out."""
    other, town = found(), found()
    wrong = swapped(town.held, "n1", Kind.CLIENT, other.held.client("n1"))
    wrong = swapped(wrong, "n3", Kind.PEER, wrong.credential("n2", Kind.PEER))
    with pytest.raises(Refused, match="nothing was installed") as caught:
        refuse_unfit(Wish(town.cluster, wrong, {}), town.world.observe({}))
    assert set(caught.value.hosts) == {"n1", "n3"}
    with pytest.raises(Refused) as caught:
        refuse_unfit(Wish(town.cluster, wrong, {}), town.world.observe({}), ("n1", "n2"))
    assert set(caught.value.hosts) == {"n1"}
