"""Revocation compares what it sees: with the nodes as they were left, and with the lists they read."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdctl_remote.errors import Refused
from etcdctl_remote.operations.certs_revoke import FIRST, OPEN, Wanted, revoke
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
