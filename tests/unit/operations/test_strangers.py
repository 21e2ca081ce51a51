"""Nodes that are no member, members of no inventory, and members that the inventory has moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from etcdctl_remote.errors import Refused
from etcdctl_remote.operations.converge import plan
from tests.unit.operations.test_deploy import deployed, wish
from tests.unit.operations.test_refusals import refused
from tests.unit.operations.world import Machine, World


def test_refuses_membership_differences(tmp_path: Path) -> None:
    """A node that is no member, and a member that is in no inventory, name their tasks."""
    want = wish(tmp_path)
    world = deployed(want)
    fewer = replace(want.cluster, nodes=want.cluster.nodes[:2])
    gone = World({name: world.machines[name] for name in ("n1", "n2", "n3")}, world.acknowledged, True, "n1")
    now = gone.observe()
    with pytest.raises(Refused) as caught:
        plan(replace(want, cluster=fewer), replace(now, hosts={n: now.hosts[n] for n in ("n1", "n2")}))
    assert "remove-node" in caught.value.hosts["n3"]


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("change", ["port", "address"])
def test_a_member_at_another_url_is_no_stranger(tmp_path: Path, running: bool, change: str) -> None:
    """The inventory moved, the member did not: nobody is told to remove a healthy member."""
    want = wish(tmp_path)
    world = deployed(want)
    if not running:
        world.stop("n3")
    spec = want.cluster
    if change == "port":
        moved = replace(spec, ports=replace(spec.ports, peer=2390))
        names = {"n1", "n2", "n3"}
    else:
        moved = replace(spec, nodes=(*spec.nodes[:2], replace(spec.nodes[2], address="10.0.0.9")))
        names = {"n3"}
    problem = refused(replace(want, cluster=moved), world)
    assert set(problem.hosts) == names
    port, address = (2390, "10.0.0.3") if change == "port" else (2380, "10.0.0.9")
    assert (
        f"the inventory gives it https://{address}:{port}, its membership says https://10.0.0.3:2380: "
        "put its address or ports.peer back"
    ) in problem.hosts["n3"]
    assert not any("-node" in seen for seen in problem.hosts.values())


def test_refuses_a_member_that_was_added_by_hand(tmp_path: Path) -> None:
    """Listed under an id that bootstrap did not give: starting it as new would be another member."""
    want = wish(tmp_path)
    world = deployed(want)
    peer = world.machines["n3"].peer
    world.machines["n3"] = Machine("n3", peer)
    now = world.observe()
    added = tuple(
        replace(member, id=0xABC, name="", client_urls=()) if peer in member.peer_urls else member
        for member in now.members
    )
    hosts = {name: replace(host, members=added if host.members else None) for name, host in now.hosts.items()}
    with pytest.raises(Refused) as caught:
        plan(want, replace(now, hosts=hosts))
    assert "add-node" in caught.value.hosts["n3"]
