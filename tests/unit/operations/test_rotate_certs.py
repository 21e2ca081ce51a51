"""Leaves are renewed under a running cluster: no restart, one member at a time, killed anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from etcdctl_remote.errors import Failed, Refused, UsageError
from etcdctl_remote.pki import rotation
from etcdctl_remote.pki.generation import Due, renewed
from etcdctl_remote.pki.profiles import Kind
from etcdctl_remote.plan.step import Plan
from etcdctl_remote.plan.steps import WriteFiles
from tests.unit.operations.rotating import FORCED, Town, ago, damage, hosts, scribble
from tests.unit.operations.world import Crash, Machine

Found = Callable[..., Town]


def test_every_leaf_is_renewed_and_nobody_restarts(found: Found) -> None:
    """One stage a node, the leader last; each reason is said; the second run does nothing."""
    town = found()
    town.world.leader = "n2"
    before, shown = town.starts(), town.shows()
    todo = town.rotate(FORCED)
    assert [stage.hosts for stage in todo.stages] == [("n1",), ("n3",), ("n2",)]
    assert all(isinstance(step, WriteFiles) for stage in todo.stages for step in stage.steps)
    assert len(todo.notes) == 9
    assert todo.notes[0] == "server certificate for n1 (asked for)"
    assert town.starts() == before
    assert all(town.shows()[name] != shown[name] for name in shown)
    assert not town.rotate()
    town.assert_unharmed()
    town.assert_whole()


def test_nothing_due_is_nothing_to_do(found: Found) -> None:
    """Nothing is asked, and nothing is saved."""
    town = found()
    before = town.held.seen
    assert not town.rotate()
    assert town.shown == []
    assert town.held.seen == before


def test_the_last_third_is_due(found: Found) -> None:
    """By default; and a window that is given counts instead of it."""
    town = found(born=ago(250))
    assert not town.rotate(Due(timedelta(days=30)), dry_run=True)
    todo = town.rotate()
    assert todo.notes[0].startswith("server certificate for n1 (expires in 11")
    town.assert_unharmed()
    town.assert_whole()


@pytest.mark.parametrize(
    ("due", "renewed"),
    [
        (Due(None, (Kind.PEER,), force=True), {("n1", "peer"), ("n2", "peer"), ("n3", "peer")}),
        (Due(None, only=("n2",), force=True), {("n2", "server"), ("n2", "peer"), ("n2", "client")}),
        (Due(timedelta(days=400), (Kind.SERVER,), ("n3",)), {("n3", "server")}),
    ],
)
def test_only_what_is_asked_for_is_renewed(found: Found, due: Due, renewed: set[tuple[str, str]]) -> None:
    """Kinds, nodes, a window: the others keep what they have, on the laptop and on their disks."""
    town = found()
    before = dict(town.held.leaves)
    todo = town.rotate(due)
    after = town.held.leaves
    assert {
        (node, kind.value) for (node, kind), leaf in after.items() if leaf != before[node, kind]
    } == renewed
    assert set(hosts(todo)) == {node for node, _ in renewed}
    town.assert_whole()


def test_an_unknown_node_is_wrong_usage(found: Found) -> None:
    """All that are unknown, and which there are; nothing is saved."""
    town = found()
    before = town.held.seen
    with pytest.raises(UsageError, match="--node n7, n9") as caught:
        town.rotate(Due(None, only=("n9", "n1", "n7"), force=True))
    assert caught.value.hint == "one of: n1, n2, n3"
    assert town.held.seen == before


def test_a_dry_run_changes_nothing(found: Found) -> None:
    """Neither the store nor a host, and nobody is asked."""
    town = found()
    before, shown = town.held.seen, town.shows()
    assert town.rotate(FORCED, dry_run=True).changes == 3
    assert (town.held.seen, town.shows(), town.shown) == (before, shown, [])


@pytest.mark.parametrize("size", [1, 3, 5])
def test_killed_after_any_step_the_next_run_finishes(found: Found, size: int) -> None:
    """With what was issued already: no leaf is made a second time, nobody restarts."""
    for cut in range(size):
        town = found(size)
        before = town.starts()
        town.world.budget = cut
        with pytest.raises(Crash):
            town.rotate(FORCED)
        issued, town.world.budget = town.held.leaves, None
        town.world.write("between")
        todo = town.rotate()
        assert len(hosts(todo)) == size - cut
        assert any(
            "has other certificates than this store: an earlier run was cut off" in x for x in todo.notes
        )
        assert town.held.leaves == issued
        assert town.starts() == before
        town.assert_unharmed()
        town.assert_whole()


def test_names_that_changed_in_the_inventory_reissue_the_leaves_concerned(found: Found) -> None:
    """A deploy does the same: no restart, one member at a time."""
    for task in ("rotate", "deploy"):
        town = found()
        before = town.starts()
        nodes = [replace(n, names=("x.example",)) if n.name == "n2" else n for n in town.cluster.nodes]
        town.cluster = replace(town.cluster, nodes=tuple(nodes))
        todo: Plan = getattr(town, task)()
        assert "n2" in hosts(todo)
        assert [stage.hosts for stage in todo.stages if stage.title.startswith("Switch")] == [("n2",)]
        if task == "rotate":
            assert set(hosts(todo)) == {"n2"}
            assert "server certificate for n2 (names changed: +x.example)" in todo.notes
        assert town.starts() == before
        assert "x.example" in town.held.leaf("n2", Kind.SERVER).names
        town.assert_unharmed()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sha256": "0" * 64}, "n2: server.crt is not the one that was issued"),
        ({"mode": 0o666}, "n2: server.crt has the rights 0666 root:root"),
        (None, "n2: server.crt is missing"),
    ],
)
def test_a_damaged_file_is_put_right(found: Found, change: dict[str, object] | None, said: str) -> None:
    """What is wrong with it is said; the certificate itself stays the same."""
    town = found()
    before = town.held.leaves
    if change:
        scribble(town.world, "n2", "server.crt", **change)
    else:
        damage(town.world, "n2", "server.crt")
    todo = town.rotate()
    assert hosts(todo) == ["n2"]
    assert said in todo.notes
    assert town.held.leaves == before
    town.assert_whole()


def test_a_host_with_other_certificates_gets_ours(found: Found) -> None:
    """Somebody put others there: that is said, and undone."""
    town = found()
    former = town.held.node_files("n2")
    town.rotate(FORCED)
    machine = town.world.machines["n2"]
    for name, content in former.items():
        if isinstance(content, bytes):
            machine.paths[f"/etc/etcd/pki/old/{name}"] = replace(
                next(state for path, state in machine.paths.items() if path.endswith(f"/{name}")),
                text=content.decode(),
            )
    link = machine.paths["/etc/etcd/pki/current"]
    machine.paths["/etc/etcd/pki/current"] = replace(link, target="old")
    todo = town.rotate()
    assert hosts(todo) == ["n2"]
    assert todo.notes[0].startswith("n2 has other certificates than this store")
    town.assert_whole()


def test_a_member_that_was_stopped_is_not_started(found: Found) -> None:
    """It gets its certificates at once, and the others theirs one by one."""
    town = found()
    town.world.stop("n3")
    town.world.forget()
    todo = town.rotate(FORCED)
    assert [stage.hosts for stage in todo.stages] == [("n3",), ("n2",), ("n1",)]
    assert "n3 does not serve: it gets its certificates at once, before the others" in todo.notes
    assert "n3 was stopped: it gets its certificates and is not started" in todo.notes
    assert not town.world.machines["n3"].running
    assert not town.rotate()
    town.world.start("n3")
    town.assert_whole()


def test_an_unreachable_host_is_left_out(found: Found) -> None:
    """The run has not done all: it is said; when the host is back, the next run finishes."""
    town = found()
    town.lose("n2")
    todo = town.rotate(FORCED)
    assert set(hosts(todo)) == {"n1", "n3"}
    assert (todo.left_out, todo.incomplete) == (("n2",), True)
    assert "n2 is left out: no route to host" in todo.notes
    town.lost.clear()
    assert hosts(town.rotate()) == ["n2"]
    assert not town.rotate()
    town.assert_unharmed()
    town.assert_whole()


def test_nobody_reached_is_unreachable(found: Found) -> None:
    """Exit code 3, and nothing saved."""
    town = found()
    before = town.held.seen
    for name in town.world.machines:
        town.lose(name)
    with pytest.raises(Exception, match="reach") as caught:
        town.rotate(FORCED)
    assert getattr(caught.value, "exit_code", None) == 3
    assert town.held.seen == before


def test_hosts_that_are_no_members_get_nothing(found: Found) -> None:
    """Neither keys nor certificates go to a host that no deploy made a member."""
    town = found()
    town.world.machines["n2"] = Machine("n2", town.world.machines["n2"].peer)
    before = town.held.seen
    with pytest.raises(Refused, match="not every host is a member of demo; nothing was changed") as caught:
        town.rotate(FORCED)
    assert caught.value.hosts == {"n2": "no etcd of ours is installed there: `deploy` first"}
    assert town.held.seen == before


def test_no_certificates_here(found: Found) -> None:
    """Another laptop: which folder is missing is said, and none is made."""
    town = found()
    town.cluster = replace(town.cluster, source=town.cluster.source.parent / "elsewhere" / "inventory.yaml")
    with pytest.raises(Refused, match="there are no certificates of demo here"):
        town.rotate(FORCED)
    assert not town.store.root.exists()


def test_members_of_another_store_are_not_touched(found: Found) -> None:
    """Same names and addresses, another token: a cluster that somebody else deployed."""
    town, other = found(), found()
    town.world = other.world
    with pytest.raises(Refused):
        town.rotate(FORCED)
    assert other.world.done == []


def test_a_gate_that_closes_in_the_middle_stops_the_run(found: Found) -> None:
    """A member that falls while others are switched: no further one is touched."""
    town = found()
    session = town.session()
    todo = town.rotate(FORCED, dry_run=True)
    first, rest = replace(todo, stages=todo.stages[:1]), replace(todo, stages=todo.stages[1:])
    town.world.stop("n3")
    with pytest.raises(Refused, match="n3: etcd is inactive"):
        session.execute(first)
    with pytest.raises(Refused):
        session.execute(rest)
    assert town.world.done == []


def test_members_that_trust_other_cas_than_the_store_are_left_alone(found: Found) -> None:
    """A store from elsewhere, with CAs that nobody has loaded: its leaves are given to nobody."""
    town = found()
    both = rotation.trust_both(town.held, town.cluster, ago(0))
    town.store.save(renewed(rotation.advanced(both), town.cluster, ago(0)))
    with pytest.raises(Refused, match="n1, n2, n3: not restarted yet with the CAs of this store"):
        town.rotate()
    assert town.world.done == []


def test_nobody_is_touched_while_another_is_sick(found: Found) -> None:
    """n3 takes nobody any more, and its certificates are not why: one more such member would cost the quorum."""
    other, town = found(), found()
    town.world.machines["n3"].trusts = other.world.machines["n3"].trusts
    shown = town.shows()
    with pytest.raises(Refused, match="n3 runs and does not serve, and its certificates are right") as caught:
        town.rotate(Due(None, only=("n1",), force=True))
    assert list(caught.value.hosts) == ["n3"]
    assert town.shows() == shown


def test_a_ca_in_its_last_third_is_named(found: Found) -> None:
    """And a replacement that waits to be finished."""
    town = found(born=ago(300), pki="leaf_days: 400, ca_days: 400")
    todo = town.rotate(FORCED)
    assert sum("`rotate-certs --ca` replaces it" in note for note in todo.notes) == 2
    town.replace_ca(pause="before-drop")
    todo = town.rotate(FORCED)
    assert (
        "a CA is being replaced (state 2 of 3, leaves from the new): `rotate-certs --ca` finishes it"
        in todo.notes
    )
    town.assert_whole()


def test_what_was_not_carried_out_is_an_error(found: Found) -> None:
    """A host that lost its file again while the run went on: success is said only of what is seen."""
    town = found()
    apply = town.world.apply

    def spoiled(step: object) -> None:
        apply(step)  # type: ignore[arg-type]
        if getattr(step, "host", "") == "n1":
            scribble(town.world, "n2", "server.crt", mode=0o666)

    town.world.apply = spoiled  # type: ignore[method-assign]
    with pytest.raises(Failed, match="not everything is as wanted") as caught:
        town.rotate(FORCED)
    assert set(caught.value.hosts) == {"n2"}
