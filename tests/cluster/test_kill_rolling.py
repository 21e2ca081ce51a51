"""The laptop dies at any step of a rolling change: the next run completes, and no write is lost.

Here at every step of one host; `test_rotation_killed.py` dies after each step of all of them.
"""

from __future__ import annotations

import pytest

from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab

from . import drive
from .killing import Cut, at_each, converges, cuts, killed_at, last_run
from .traffic import traffic

pytestmark = pytest.mark.cluster

SLOW = """
mkdir -p /etc/systemd/system/etcd.service.d
printf '[Service]\nExecStop=/bin/sleep 2\n' >/etc/systemd/system/etcd.service.d/slow.conf
"""
"""Whoever looks right after a restart was asked for finds the old process still there."""


@pytest.mark.timeout(900)
def test_a_rolling_change_killed_at_any_step(lab3: Lab) -> None:
    """The next run restarts who is left, nobody twice, and no write that was acknowledged is ever lost."""
    execute(lab3.nodes[0], SLOW)
    drive.deploy(lab3)
    drive.edit(lab3, settings="{heartbeat-interval: 101}")
    drive.deploy(lab3)
    found = [*cuts(last_run(lab3), "during"), *cuts(last_run(lab3), "after")]
    everything = [cut for cut in found if cut.host == lab3.nodes[0].name]
    assert len(everything) == 3 + 3, "three steps"

    def check(cut: Cut) -> None:
        interval = 102 + everything.index(cut)
        drive.edit(lab3, settings=f"{{heartbeat-interval: {interval}}}")
        before = drive.started(lab3)
        killed_at(lab3, cut)
        converges(lab3)
        restarts = {name: count - before[name] for name, count in drive.started(lab3).items()}
        assert restarts == dict.fromkeys(before, 1)

    with traffic(lab3, lab3.nodes[1]) as client:
        at_each(everything, check)
    assert client.acknowledged > 5 * len(everything)
