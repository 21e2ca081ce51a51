"""Revocation compares what it sees: with the nodes as they were left, and with the lists they read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etcdctl_remote.errors import Refused, UsageError
from etcdctl_remote.observed.refusal import Taken
from etcdctl_remote.operations import deploy, dialled
from etcdctl_remote.operations.certs_issue import issue
from etcdctl_remote.operations.certs_revoke import FIRST, KNOWN_THERE, OPEN, UNKNOWN, Wanted, revoke
from etcdctl_remote.pki import crl
from etcdctl_remote.pki.applications import Asked
from etcdctl_remote.pki.authority import Authority, Credential
from etcdctl_remote.pki.crl import Revocations, Revoked
from etcdctl_remote.plan.step import Plan
from tests.unit.operations.rotating import Town, scribble, town
from tests.unit.operations.test_store import consent

UNHEARD = "7F935E19AABBCCDDEEFF0011"


def planned(found: Town, serial: str = UNHEARD) -> Plan:
    return revoke(found.session(), consent(found.shown, dry_run=True), Wanted(serial=serial))


def test_a_serial_nobody_knows_is_revoked_where_nothing_else_is_to_do(tmp_path: Path) -> None:
    """Straight after a deploy the hosts are as the inventory says, and nothing else is said."""
    found = town(tmp_path)
    todo = planned(found)
    assert set(todo.hosts) == {"n1", "n2", "n3"}
    assert todo.notes[0] == UNKNOWN
    assert todo.notes[-2:] == (FIRST.format("clients and peers"), OPEN)
    assert not [note for note in todo.notes if "goes along" in note]


def test_nodes_that_differ_come_first(tmp_path: Path) -> None:
    """They may use what is to be revoked."""
    found = town(tmp_path)
    scribble(found.world, "n2", "ca.crt", sha256="0" * 64)
    with pytest.raises(Refused, match="may still use a certificate"):
        planned(found)


def ship(found: Town, *serials: str, port: crl.Port = "client") -> None:
    """Revoke on one port what only the serial is known of, everywhere."""
    held, now = found.held, datetime.now(UTC)
    new = [Revoked(serial, "", now, None, (port,)) for serial in serials]
    signers: dict[crl.Port, Authority] = {"client": held.authorities.client, "peer": held.authorities.peer}
    lists = crl.revoke(held.revocations, new, signers, now)
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
    assert "copy ca.crl from a node (/etc/etcd/pki/current)" in caught.value.hint
    assert "certs.revoke --serial def --crl ca.crl`" in caught.value.hint
    assert found.world.done == []


def test_the_list_of_a_node_leads_out(tmp_path: Path) -> None:
    """As the refusal says: it was signed by our CA, and holds what was forgotten."""
    found = town(tmp_path)
    newer = behind(found)
    agreed = consent(found.shown, dry_run=True)
    todo = revoke(found.session(), agreed, Wanted(serial="def", crl=str(newer)))
    assert "certificate (serial def)" in todo.title


def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what is looked at on real hosts before a plan is carried out."""
    monkeypatch.setattr(deploy, "_refuse_unready", lambda *_: None)
    monkeypatch.setattr(deploy, "refuse_misfit", lambda *_: None)


def refusing(monkeypatch: pytest.MonkeyPatch, found: Town) -> set[int]:
    """Have every port refuse all but the nodes' own certificates; the ports that were dialled with others."""
    good = [one.certificate_pem for one in found.held.credentials.values()]
    dialled_with: set[int] = set()

    def taken(host: Any, address: str, port: int, own: Credential, protocol: str) -> Taken:
        if own.certificate_pem in good:
            return Taken(True, "answered")
        dialled_with.add(port)
        return Taken(False, "closed")

    monkeypatch.setattr(dialled, "taken", taken)
    return dialled_with


@pytest.mark.parametrize("serial", ["def", "abc"])
def test_a_list_is_taken_in_where_no_node_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serial: str
) -> None:
    """They have it already: it is saved all the same, and proven where it refuses; then `plan` is content."""
    found = town(tmp_path)
    newer = behind(found)
    ports = refusing(monkeypatch, found)
    wanted = Wanted(serial=serial, crl=str(newer))
    agreed = consent(found.shown, dry_run=True)
    assert KNOWN_THERE in revoke(found.session(), agreed, wanted).notes
    assert found.held.revocations.serials == {"abc"}, "a dry run takes nothing in"
    assert not revoke(found.session(), consent(found.shown), wanted)
    assert found.held.revocations.serials == {"abc", "def"}
    assert not deployed(found)
    assert not revoke(found.session(), consent(found.shown), Wanted(serial="def"))
    assert ports == {2379}, "no list of peers holds it"


def test_without_a_list_what_nodes_refuse_already_is_saved_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application's, that the older store knows: a new list is signed, and nobody is asked for a name."""
    found = town(tmp_path)
    serial = issue(found.cluster, Asked("app"), datetime.now(UTC)).certificate.leaf.serial
    ship(found, "abc")
    root, kept = found.store.root, found.store.root.with_name("kept")
    shutil.copytree(root, kept, symlinks=True)
    ship(found, serial)
    shutil.rmtree(root)
    kept.rename(root)
    unchecked(monkeypatch)
    refusing(monkeypatch, found)
    assert set(revoke(found.session(), consent(found.shown), Wanted("app")).hosts) == {"n1", "n2", "n3"}
    assert found.held.revocations.serials == {"abc", serial}
    assert not deployed(found)


def test_what_an_older_store_does_not_know_leads_to_the_list_of_a_node(tmp_path: Path) -> None:
    """A `deploy` first would be refused for the same reason."""
    found = town(tmp_path)
    behind(found)
    with pytest.raises(Refused, match="would be accepted again") as caught:
        planned(found, "def")
    assert "certs.revoke --serial def --crl ca.crl`" in caught.value.hint


def test_a_store_without_two_lists_takes_in_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One alone would leave the other unknown, and be refused for it."""
    found = town(tmp_path)
    kept = found.store.root.with_name("kept")
    shutil.copytree(found.store.root, kept, symlinks=True)
    ship(found, "abc", "def")
    ship(found, "77", port="peer")
    lists = {name: tmp_path / name for name in crl.FILES.values()}
    for name, path in lists.items():
        path.write_bytes(found.held.revocations.files[name])
    shutil.rmtree(found.store.root)
    kept.rename(found.store.root)
    with pytest.raises(Refused) as caught:
        deployed(found)
    assert "`certs.revoke --serial 77 --crl ca.crl,peer-ca.crl` takes in" in caught.value.hint
    ports = refusing(monkeypatch, found)
    one = Wanted(serial="abc", crl=str(lists["ca.crl"]))
    with pytest.raises(Refused, match="older than a revocation") as caught:
        revoke(found.session(), consent(found.shown), one)
    assert "`certs.revoke --serial 77 --crl ca.crl,peer-ca.crl` takes in" in caught.value.hint
    both = Wanted(serial="77", crl=",".join(map(str, lists.values())))
    assert not revoke(found.session(), consent(found.shown), both)
    assert {(entry.serial, entry.ports) for entry in found.held.revocations.entries} == {
        ("abc", ("client",)),
        ("def", ("client",)),
        ("77", ("peer",)),
    }
    assert ports == {2380}
    assert not deployed(found)


def test_a_serial_nobody_knows_takes_the_name_of_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be mistyped: --yes is not enough; once it is revoked it is known."""
    found = town(tmp_path)
    unchecked(monkeypatch)
    refusing(monkeypatch, found)
    found.world.done.clear()
    for given, said in (
        ("", "there is nobody to ask"),
        ("other", "--confirm other is not the cluster's name"),
    ):
        with pytest.raises(UsageError, match=said):
            revoke(found.session(), consent(found.shown), Wanted(serial=UNHEARD, confirm=given))
    assert found.world.done == []
    assert found.held.revocations.serials == frozenset()
    assert UNKNOWN in found.shown[-1].notes
    assert revoke(found.session(), consent(found.shown), Wanted(serial=UNHEARD, confirm="demo"))
    assert found.held.revocations.serials == {UNHEARD.lower()}
    assert not revoke(found.session(), consent(found.shown), Wanted(serial=UNHEARD))


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
