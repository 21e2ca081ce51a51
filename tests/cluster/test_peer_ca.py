"""The CA of the peers is replaced alone; going back from that; a store from before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdctl_remote.lab.model import Lab

from . import authorities, drive

pytestmark = pytest.mark.cluster

Files = tuple[Path, Path]


def test_the_peers_ca_alone(lab3: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is its own changes; nobody gets an older store; one state back, the cluster serves."""
    monkeypatch.setenv("BACKUP_PHRASE", "a secret of the test")
    drive.deploy(lab3)
    drive.put(lab3.nodes[0], "before", "1")
    older, own = tmp_path / "older.age", authorities.saved(lab3, lab3.nodes[1], tmp_path / "old")
    drive.must(lab3, "certs.backup", "--out", str(older), "--passphrase", "env:BACKUP_PHRASE")
    authorities.replaced(lab3, "peer")
    assert taken(lab3, own) == {0}
    an_older_store(lab3, older)
    back(lab3, own)
    for node in lab3.nodes:
        assert drive.get(node, "before") == "1"


def taken(lab: Lab, own: Files) -> set[int]:
    """How members answer n2's former peer certificate, shown from n2."""
    return {authorities.from_node(lab, lab.nodes[1], member, own) for member in lab.nodes}


def an_older_store(lab: Lab, backup: Path) -> None:
    """A copy from before the replacement: members would refuse each other with it, so nobody gets it."""
    certs = lab.state / "certs"
    (certs / lab.name).rename(certs / "newer")
    drive.must(lab, "certs.restore", "--from", str(backup), "--passphrase", "env:BACKUP_PHRASE")
    with drive.untouched(lab, "/var/lib/etcd"):
        for words in (("deploy", "-y"), ("rotate-certs", "--force", "-y"), ("rotate-certs", "--ca", "-y")):
            done = drive.run(lab, *words)
            assert done.code == 4, done
            drive.tells(done, "older copy", "the newer one here")
    (certs / lab.name).rename(certs / "older")
    (certs / "newer").rename(certs / lab.name)
    drive.settle_nothing(lab)


def back(lab: Lab, own: Files) -> None:
    """One state back, one restart each: the dropped CA is trusted again, which is said; the cluster serves."""
    starts = drive.started(lab)
    done = drive.must(lab, "rotate-certs", "--back", "-y")
    drive.tells(
        done, "which was dropped, is trusted again", "if its key may be in wrong hands, do not go back"
    )
    assert authorities.restarts(lab, starts) == {1}
    assert taken(lab, own) == {200}
    drive.must(lab, "health")
    drive.settle_nothing(lab)
    state = "a CA is being replaced (state 2 of 3, leaves from the new)"
    assert any(note.startswith(state) for note in drive.document(lab, "certs")["notes"])
