"""Revocation compares what it sees: with the nodes as they were left, and with the lists they read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etcdctl_remote.errors import Refused
from etcdctl_remote.operations import deploy
from etcdctl_remote.operations.certs_revoke import FIRST, OPEN, Wanted, revoke
from etcdctl_remote.pki import crl
from etcdctl_remote.pki.authority import Authority
from etcdctl_remote.pki.crl import Revocations, Revoked
from etcdctl_remote.plan.step import Plan
from tests.unit.operations.rotating import Town, scribble, town
from tests.unit.operations.test_store import consent

UNKNOWN = "7F935E19AABBCCDDEEFF0011"


def planned(found: Town, serial: str = UNKNOWN) -> Plan:
    return revoke(found.session(), consent(found.shown, dry_run=True), Wanted(serial=serial))


def test_a_serial_nobody_knows_is_revoked_where_nothing_else_is_to_do(tmp_path: Path) -> None:
    """Straight after a deploy the hosts are as the inventory says, and nothing else is said."""
    found = town(tmp_path)
    todo = planned(found)
    assert set(todo.hosts) == {"n1", "n2", "n3"}
    assert todo.notes[-2:] == (FIRST, OPEN)
    assert not [note for note in todo.notes if "goes along" in note]


def test_nodes_that_differ_come_first(tmp_path: Path) -> None:
    """They may use what is to be revoked."""
    found = town(tmp_path)
    scribble(found.world, "n2", "ca.crt", sha256="0" * 64)
    with pytest.raises(Refused, match="may still use a certificate"):
        planned(found)


def ship(found: Town, *serials: str) -> None:
    """Revoke on the client port what only the serial is known of, everywhere."""
    held, now = found.held, datetime.now(UTC)
    new = [Revoked(serial, "", now, None, ("client",)) for serial in serials]
    lists = crl.revoke(held.revocations, new, {"client": held.authorities.client}, now)
    found.store.save(replace(held, revocations=lists, issued=("revoked",)))
    found.deploy()


def behind(found: Town) -> Path:
    """A cluster where `abc` and `def` were revoked, and a store that knows of the first; the newer list."""
    ship(found, "abc")
    root, kept = found.store.root, found.store.root.with_name("kept")
    shutil.copytree(root, kept, symlinks=True)
    ship(found, "def")
    newer = root.with_name("newer.crl")
    newer.write_bytes(found.held.revocations.files["ca.crl"])
    shutil.rmtree(root)
    kept.rename(root)
    return newer


def deployed(found: Town) -> Plan:
    return deploy.deploy(found.session(), consent(found.shown, dry_run=True))


@pytest.mark.parametrize(
    "task",
    [
        deployed,
        planned,
        lambda found: found.rotate(dry_run=True),
        lambda found: found.replace_ca(dry_run=True),
    ],
    ids=["deploy", "revoke", "rotate", "replace the CA"],
)
def test_nobody_goes_back_to_an_older_list(tmp_path: Path, task: Callable[[Town], Any]) -> None:
    """What would be accepted again is named, on each node, and nothing was done."""
    found = town(tmp_path)
    behind(found)
    found.world.done.clear()
    with pytest.raises(Refused, match="would be accepted again") as caught:
        task(found)
    assert caught.value.hosts == dict.fromkeys(("n1", "n2", "n3"), "ca.crl refuses def")
    assert "certs.revoke --serial def --crl FILE" in caught.value.hint
    assert found.world.done == []


def test_the_list_of_a_node_leads_out(tmp_path: Path) -> None:
    """As the refusal says: it was signed by our CA, and holds what was forgotten."""
    found = town(tmp_path)
    newer = behind(found)
    agreed = consent(found.shown, dry_run=True)
    todo = revoke(found.session(), agreed, Wanted(serial="def", crl=str(newer)))
    assert "certificate (serial def)" in todo.title


def test_a_list_that_nobody_can_read_is_put_right(tmp_path: Path) -> None:
    """It shuts everybody out: that is mended, not refused."""
    found = town(tmp_path)
    ship(found, "abc")
    scribble(found.world, "n2", "ca.crl", sha256="0" * 64, content=b"garbage")
    assert deployed(found).hosts == ("n2",)


def test_what_has_ended_may_leave_the_list() -> None:
    """It is known still; what only the other port refuses is not."""
    now = datetime(2026, 11, 21, tzinfo=UTC)
    ca = Authority.create("demo", "ecdsa-p256", 900, now)
    short = Revoked("abc", "app", now, now + timedelta(days=1), ("client",))
    older = crl.revoke(Revocations(), [short], {"client": ca}, now)
    later = crl.revoke(
        older, [Revoked("def", "", now, None, ("client",))], {"client": ca}, now + timedelta(days=2)
    )
    assert crl.serials(later.files["ca.crl"]) == {"def"}
    assert later.forgotten("client", crl.serials(older.files["ca.crl"])) == frozenset()
    assert later.forgotten("peer", crl.serials(older.files["ca.crl"])) == {"abc"}
    assert older.forgotten("client", crl.serials(later.files["ca.crl"])) == {"def"}
