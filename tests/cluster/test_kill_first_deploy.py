"""The laptop dies at any step of a first deploy: the next run completes, and no key is lost."""

from __future__ import annotations

import shutil

import pytest

from etcdctl_remote.lab import faults
from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, each
from etcdctl_remote.plan.journal import beside

from . import drive
from .killing import Cut, at_each, converges, killed_at, points

pytestmark = pytest.mark.cluster

STASH = "/var/cache/lab-release"


def begin_again(lab: Lab, *, installed: bool) -> None:
    """Bring nodes and laptop back to before the first deploy; with the release there, to save time."""
    faults.reset(lab)
    shutil.rmtree(lab.state / "certs", ignore_errors=True)
    beside(lab.inventory).unlink(missing_ok=True)
    if installed:
        each(lab.nodes, lambda node: execute(node, f"cp -al {STASH} /opt/etcd"))


def early(lab: Lab) -> bool:
    """Put a key if the cluster serves already: what was acknowledged must stay."""
    ready = each(lab.nodes, lambda node: execute(node, "systemctl is-active etcd || true").strip())
    if "active" not in ready:
        return False
    drive.put(lab.nodes[ready.index("active")], "early", "kept")
    return True


def first_deploy(lab: Lab, cut: Cut, *, installed: bool) -> None:
    """Die at the cut of a first deploy; the next run brings the rest and disturbs nobody."""
    begin_again(lab, installed=installed)
    killed_at(lab, cut)
    served, pids = early(lab), drive.pids(lab)
    converges(lab)
    if served:
        assert drive.get(lab.nodes[2], "early") == "kept"
        running = {name: pid for name, pid in pids.items() if pid}
        assert drive.pids(lab).items() >= running.items(), "a serving member was restarted"


@pytest.mark.timeout(900)
def test_a_first_deploy_killed_at_any_step(lab3: Lab) -> None:
    """Whatever was done by then, the next run brings the rest, and a key put in between stays."""
    drive.deploy(lab3)
    whole = points(lab3)
    each(lab3.nodes, lambda node: execute(node, f"rm -rf {STASH}; cp -al /opt/etcd {STASH}"))
    begin_again(lab3, installed=True)
    drive.deploy(lab3)
    quick = points(lab3)
    # Unpacking the release is half of a deploy's time: done anew only where that is cut.
    slow = [cut for cut in whole if cut.step.startswith("install etcd")]
    assert len(slow) == 2
    assert {cut.host for cut in quick if cut.when == "after"} == {node.name for node in lab3.nodes}
    assert len(slow) + len(quick) == len(whole)
    at_each([*slow, *quick], lambda cut: first_deploy(lab3, cut, installed=cut not in slow))
