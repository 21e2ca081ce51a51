"""The laptop dies at any step of a rolling change: the next run completes, and no write is lost."""

from __future__ import annotations

import pytest

from etcdctl_remote.lab.model import Lab

from . import drive
from .killing import Cut, at_each, converges, killed_at, points
from .traffic import traffic

pytestmark = pytest.mark.cluster


@pytest.mark.timeout(900)
def test_a_rolling_change_killed_at_any_step(lab3: Lab) -> None:
    """The next run restarts who is left, and no write that was acknowledged is ever lost."""
    drive.deploy(lab3)
    drive.edit(lab3, settings="{heartbeat-interval: 101}")
    drive.deploy(lab3)
    everything = points(lab3)
    assert len(everything) == 18, "three steps a host in two stages"

    def check(cut: Cut) -> None:
        interval = 102 + everything.index(cut)
        drive.edit(lab3, settings=f"{{heartbeat-interval: {interval}}}")
        before = drive.pids(lab3)
        killed_at(lab3, cut)
        converges(lab3)
        after = drive.pids(lab3)
        kept = [name for name, pid in before.items() if after[name] == pid]
        assert not kept, "a member runs with the old setting"

    with traffic(lab3, lab3.nodes[1]) as client:
        at_each(everything, check)
    assert client.acknowledged > 5 * len(everything)
