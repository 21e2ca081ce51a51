"""What somebody did by hand is seen and not undone, and the way out that the message names is one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from etcdctl_remote.lab.hosts import execute, write
from etcdctl_remote.lab.model import Lab, Node

from . import drive

pytestmark = pytest.mark.cluster

NEWER = "3.7.1"
BIN = "/usr/local/bin/etcd"

# As docs/operations.md says it: from a snapshot, under a new token.
RESTORE = r"""set -e
flag() { systemctl cat etcd.service | sed -n "s/^ *--$1=\([^ ]*\).*/\1/p"; }
etcdctl.sh snapshot save /var/tmp/s.db
systemctl stop etcd
mv /var/lib/etcd /var/lib/etcd.before
"/opt/etcd/v$1/etcdutl" snapshot restore /var/tmp/s.db --name "$(flag name)" --data-dir /var/lib/etcd \
  --initial-advertise-peer-urls "$(flag initial-advertise-peer-urls)" --initial-cluster "$(flag initial-cluster)" \
  --initial-cluster-token anew
chown -R etcd:etcd /var/lib/etcd
"""

UNGUARDED = r"""mkdir -p /etc/systemd/system/etcd.service.d
printf '[Service]\nExecStartPost=\\\n\n' >'/etc/systemd/system/etcd.service.d/my own.conf'"""
EDIT = """sed -i s/--pre-vote=true/--pre-vote=false/ /etc/systemd/system/etcd.service
systemctl daemon-reload; systemctl restart etcd"""
RUNNING = 'tr "\\0" "\\n" </proc/$(systemctl show -P MainPID etcd)/cmdline'


def test_by_hand(lab_factory: drive.Factory, programs: Callable[[str], Path]) -> None:
    """Edited flags are undone; a newer program, a restored snapshot, other paths are refused, then taken over."""
    lab = lab_factory(1)
    (node,) = lab.nodes
    drive.deploy(lab)
    drive.put(node, "kept", "yes")

    execute(node, EDIT)
    assert "--pre-vote=false" in execute(node, RUNNING).splitlines()
    drive.deploy(lab)
    assert "--pre-vote=true" in execute(node, RUNNING).splitlines()
    drive.settle_nothing(lab)

    execute(node, 'rm "$1"', BIN)
    write(node, BIN, (programs(NEWER) / "etcd").read_bytes(), 0o755)
    execute(node, "systemctl restart etcd")
    running = drive.pids(lab)
    for task in ("deploy", "plan"):
        done = drive.fails(lab, 4, "nothing was changed", task=task)
        drive.tells(done, "n1:", f"runs etcd {NEWER}", "wants 3.6.14", f"put {NEWER} into the inventory")
    assert (is_link(node), drive.pids(lab)) == (False, running)
    drive.edit(lab, version=f'"{NEWER}"')
    drive.deploy(lab)
    assert execute(node, 'readlink "$1"', BIN).strip() == f"/opt/etcd/v{NEWER}/etcd"
    drive.settle_nothing(lab)

    _restored(lab)

    _programs_and_keys_gone(lab)
    execute(node, UNGUARDED)
    for task in ("deploy", "plan"):
        done = drive.fails(lab, 4, "nothing was changed", task=task)
        drive.tells(done, "n1:", "my own.conf:ExecStartPost=")
    execute(node, "rm -r /etc/systemd/system/etcd.service.d; systemctl daemon-reload")

    execute(node, "systemctl stop etcd; rm /etc/systemd/system/etcd.service; systemctl mask etcd 2>&1")
    for task in ("deploy", "start"):
        drive.tells(drive.fails(lab, 4, task=task), "n1:", "etcd.service is masked", "systemctl unmask etcd")
    execute(node, "systemctl unmask etcd 2>&1")
    drive.deploy(lab)
    assert drive.get(node, "kept") == "yes"

    drive.edit(lab, paths="{config: /etc/etcd2, bin: /opt/bin}")
    done = drive.run(lab, "destroy", "--confirm", lab.name)
    assert done.code == 4, done
    drive.tells(done, "n1:", "paths.config is /etc/etcd there", "paths.bin is /usr/local/bin there")
    assert drive.get(node, "kept") == "yes"


def _programs_and_keys_gone(lab: Lab) -> None:
    """The member serves on and would not start again: nobody is told to restart it, and deploy mends it."""
    (node,) = lab.nodes
    running = drive.pids(lab)
    for aside in (f"/opt/etcd/v{NEWER}", "/etc/etcd/pki"):
        execute(node, 'mv "$1" "$1.aside"', aside)
        (advice,) = [line for line in drive.document(lab, "status")["advice"] if line.startswith("n1 ")]
        assert "do not restart it" in advice
        assert "`deploy` puts back" in advice
        drive.deploy(lab)
        assert drive.pids(lab) == running
        drive.must(lab, "health")
    execute(node, "rm -r /opt/etcd/*.aside /etc/etcd/pki.aside")


def _restored(lab: Lab) -> None:
    """A snapshot that was restored by hand: the command that the refusal names is the way out."""
    (node,) = lab.nodes
    execute(node, RESTORE, NEWER)
    drive.must(lab, "start", "-y")
    done = drive.fails(lab, 4, "nothing was changed")
    named = re.search(r"`(sudo sed -i s/\w+/\w+/\s+/etc/etcd/identity)`", done.err)
    assert named, done
    execute(node, named[1].removeprefix("sudo "))
    drive.deploy(lab)
    assert drive.get(node, "kept") == "yes"
    drive.settle_nothing(lab)


def is_link(node: Node) -> bool:
    """Whether the program is our link."""
    return execute(node, 'test -L "$1" && echo yes || true', BIN) != ""
