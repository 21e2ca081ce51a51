"""Expired CAs are replaced at once, with consent, and what was cut off is finished."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from etcdctl_remote.errors import Refused, UsageError
from etcdctl_remote.pki.generation import Due
from etcdctl_remote.plan.steps import RestartEtcd, StartEtcd
from tests.unit.operations.rotating import Town, ago, hosts
from tests.unit.operations.world import Crash

Found = Callable[..., Town]
SHORT = "leaf_days: 90, ca_days: 100"


def expired(found: Found, pki: str = "") -> Town:
    """A cluster whose CAs ended 20 days ago; it runs on over connections that stood."""
    town = found(born=ago(120), pki=", ".join(filter(None, (SHORT, pki))))
    assert not town.world.observe().has_quorum
    return town


def kinds(todo: object) -> list[str]:
    return [type(step).__name__ for stage in todo.stages for step in stage.steps]  # type: ignore[attr-defined]


@pytest.mark.parametrize("pki", ["", "peer_ca: same"])
@pytest.mark.parametrize("task", ["rotate", "replace_ca"])
def test_a_new_ca_everywhere_and_all_restart_together(found: Found, task: str, pki: str) -> None:
    """It says what is different from usual, and wants the cluster's name."""
    town = expired(found, pki)
    before, old = town.starts(), town.held
    todo = getattr(town, task)(confirm="demo")
    assert kinds(todo)[-3:] == [RestartEtcd.__name__] * 3
    assert todo.stages[-1].hosts == ("n1", "n2", "n3")
    assert any("(new, at once: its predecessor has expired)" in note for note in todo.notes)
    assert (
        "all members restart together: what still goes over old connections stops for some seconds"
        in todo.notes
    )
    assert town.starts() == {name: count + 1 for name, count in before.items()}
    assert town.held.authorities != old.authorities
    assert town.held.rotation is None
    assert not town.rotate()
    town.assert_whole()


def test_yes_is_not_enough(found: Found) -> None:
    """What interrupts wants the cluster's name; nothing is saved without it, or with another."""
    town = expired(found)
    before = town.held.seen
    for confirm in ("", "prod"):
        with pytest.raises(UsageError):
            town.rotate(confirm=confirm)
    assert (town.held.seen, town.world.done) == (before, [])


def test_a_dry_run_shows_it(found: Found) -> None:
    """And changes nothing."""
    town = expired(found)
    before = town.held.seen
    assert town.rotate(dry_run=True)
    assert town.replace_ca(dry_run=True)
    assert (town.held.seen, town.world.done) == (before, [])


def test_members_that_are_down_are_started(found: Found) -> None:
    """The whole cluster fell over it."""
    town = expired(found)
    town.world.stop_all()
    todo = town.rotate(confirm="demo")
    assert kinds(todo)[-3:] == [StartEtcd.__name__] * 3
    town.assert_whole()


def test_killed_at_every_step_it_is_finished(found: Found) -> None:
    """With the CA that was made already; where two serve again, the third restarts alone."""
    total = expired(found).rotate(dry_run=True).changes
    for cut in range(total):
        town = expired(found)
        town.world.budget = cut
        with pytest.raises(Crash):
            town.rotate(confirm="demo")
        made, town.world.budget = town.held.authorities, None
        if cut < total - 1:
            assert town.rotate(confirm="demo")
        else:
            with pytest.raises(Refused) as caught:
                town.rotate(confirm="demo")
            assert caught.value.hint.startswith("`rotate-certs --ca` finishes it")
            assert town.replace_ca()
        assert town.held.authorities == made, cut
        town.assert_whole()


def test_the_unreachable_is_left_out_and_follows(found: Found) -> None:
    """Two of three are brought back; the third when it is there again."""
    town = expired(found)
    town.lose("n3")
    todo = town.rotate(confirm="demo")
    assert (todo.left_out, todo.incomplete) == (("n3",), True)
    assert "n3 is left out: no route to host; run it again when it is back" in todo.notes
    assert set(hosts(todo)) == {"n1", "n2"}
    town.lost.clear()
    town.replace_ca()
    town.assert_whole()


def test_leaves_that_expired_need_no_restart(found: Found) -> None:
    """The CA lives: nothing is interrupted, and no name is asked for."""
    town = found(born=ago(120), pki="leaf_days: 90, ca_days: 1000")
    before = town.starts()
    town.rotate(Due())
    assert town.starts() == before
    town.assert_whole()
