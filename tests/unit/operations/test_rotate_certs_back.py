"""Going back to the leaves before, and leaves that have expired."""

from __future__ import annotations

from dataclasses import replace

import pytest

from etcdctl_remote.errors import Refused
from etcdctl_remote.pki.crl import Revoked, revoke
from etcdctl_remote.pki.generation import Due
from etcdctl_remote.plan.steps import StartEtcd
from tests.unit.operations.rotating import FORCED, ago
from tests.unit.operations.world import Crash

from .test_rotate_certs import Found


def test_back_takes_the_leaves_before(found: Found) -> None:
    """Without a restart; and there and back again."""
    town = found()
    first, starts = town.shows(), town.starts()
    town.rotate(FORCED)
    second = town.shows()
    todo = town.rotate(back=True)
    assert todo.notes == ("all certificates (back to generation 0001)",)
    assert town.shows() == first
    town.assert_whole()
    town.rotate(back=True)
    assert town.shows() == second
    assert town.starts() == starts
    town.assert_unharmed()
    town.assert_whole()


def test_there_may_be_nothing_to_go_back_to(found: Found) -> None:
    """A first generation has none before it."""
    town = found()
    with pytest.raises(Refused, match="holds nothing before the current state"):
        town.rotate(back=True)


def test_back_to_leaves_that_have_expired_is_refused(found: Found) -> None:
    """They would be switched to, and nobody could connect any more."""
    town = found(born=ago(300), pki="leaf_days: 299, ca_days: 3000")
    town.world.clock = ago(0)
    town.rotate()
    before = town.held.seen
    with pytest.raises(Refused, match="new certificates would not fit; nothing was installed") as caught:
        town.rotate(back=True)
    assert set(caught.value.hosts) == {"n1", "n2", "n3"}
    assert "server: it ends at" in caught.value.hosts["n1"]
    assert town.held.seen == before
    town.assert_whole()


def test_expired_leaves_are_replaced_under_members_that_still_run(found: Found) -> None:
    """Nobody can ask them any more; etcd reads the new ones at the next handshake, without a restart."""
    town = found(born=ago(300), pki="leaf_days: 299, ca_days: 3000")
    starts = town.starts()
    assert not town.world.observe().has_quorum
    todo = town.rotate(Due())
    assert [stage.hosts for stage in todo.stages] == [("n1", "n2", "n3")]
    assert todo.notes[0].startswith("server certificate for n1 (expired on")
    assert town.starts() == starts
    town.assert_whole()


def test_members_that_fell_over_expired_leaves_are_started(found: Found) -> None:
    """Those whose process is gone, and nobody else."""
    town = found(born=ago(300), pki="leaf_days: 299, ca_days: 3000")
    town.world.cut_links()
    for name in ("n1", "n2", "n3"):
        town.world.stop(name)
        town.world.machines[name].failed = True
    todo = town.rotate(Due())
    assert [type(step) for step in todo.stages[-1].steps] == [StartEtcd] * 3
    town.assert_whole()


def test_killed_in_a_rescue_the_next_run_finishes(found: Found) -> None:
    """Half of the hosts with new certificates and half with expired ones."""
    for cut in range(6):
        town = found(born=ago(300), pki="leaf_days: 299, ca_days: 3000")
        for name in ("n1", "n2", "n3"):
            town.world.stop(name)
            town.world.machines[name].failed = True
        town.world.budget = cut
        with pytest.raises(Crash):
            town.rotate(Due())
        town.world.budget = None
        todo = town.rotate(Due())
        if cut == 5:  # two of three are a quorum: a third is the business of `start`
            assert not todo
            assert todo.notes == (
                "n3 fell and is not started: its certificates are right; see `logs --node n3`, then `start`",
            )
            town.world.start("n3")
        town.assert_whole()


def test_a_store_older_than_a_revocation_cuts_nobody_off(found: Found) -> None:
    """Members refuse everybody without the list they were started with."""
    town = found()
    older = town.held
    entry = Revoked("abc", "app", ago(1), None, ("client",))
    lists = revoke(older.revocations, [entry], {"client": older.authorities.client}, ago(0))
    town.store.save(replace(older, revocations=lists, issued=("revoked",)))
    town.deploy()
    town.store.save(replace(older, seen=town.held.seen, issued=("restored",)))
    before, shown = town.held.seen, town.shows()
    with pytest.raises(Refused, match="they would refuse everybody") as caught:
        town.rotate(FORCED)
    assert caught.value.hosts == dict.fromkeys(("n1", "n2", "n3"), "runs with ca.crl")
    with pytest.raises(Refused, match="they would refuse everybody"):
        town.replace_ca()
    assert (town.held.seen, town.shows()) == (before, shown)
