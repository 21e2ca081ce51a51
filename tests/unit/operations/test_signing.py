"""What others sign, or a sealed key, is signed only once the plan was agreed to."""

from __future__ import annotations

from pathlib import Path

import pyrage
import pytest

from etcdctl_remote.errors import UsageError
from etcdctl_remote.operations.consent import Consent, Declined
from etcdctl_remote.operations.deploy import deploy
from etcdctl_remote.operations.rotate_certs import rotate_certs
from etcdctl_remote.plan.step import Plan
from tests.unit.operations.rotating import FORCED, Town, shown_in, spec, town
from tests.unit.operations.test_store import consent

SAID = "the key of the CA is sealed: it is opened to sign when this is carried out"


class Asked:
    """Somebody at a terminal, who gives one answer."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer

    def confirm(self, question: str) -> bool:
        return self.answer

    def typed(self, cluster: str, cost: str) -> bool:
        return self.answer


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Town:
    """A cluster whose CA key is sealed for an identity that is not at hand."""
    made = pyrage.x25519.Identity.generate()
    identity = tmp_path / "away.txt"
    identity.write_text(f"{made}\n")
    sealing = f"{{protect: age, recipients: [{made.to_public()}], identity: {identity}}}"
    found = town(tmp_path, pki=f"ca_key: {sealing}")
    identity.rename(tmp_path / "kept.txt")
    monkeypatch.setattr("etcdctl_remote.operations.fitting.shown", shown_in(found.world))
    return found


def test_a_declined_plan_opens_no_key(sealed: Town) -> None:
    """It is shown, with who will sign; only a yes needs the identity, and without it nothing changes."""
    before, seen = sealed.shows(), list[Plan]()
    with pytest.raises(Declined):
        rotate_certs(sealed.session(), Consent(seen.append, Asked(answer=False)), FORCED)
    (todo,) = seen
    assert SAID in todo.notes
    with pytest.raises(UsageError, match="identity"):
        rotate_certs(sealed.session(), Consent(seen.append, Asked(answer=True)), FORCED)
    assert sealed.shows() == before
    assert sealed.world.done == []


def test_a_dry_run_opens_no_key(sealed: Town) -> None:
    """Neither of leaves, nor of CAs."""
    assert SAID in sealed.rotate(FORCED, dry_run=True).notes
    assert sealed.replace_ca(dry_run=True)


def test_a_plan_that_was_agreed_to_is_signed_and_carried_out(sealed: Town, tmp_path: Path) -> None:
    """With the key at hand everything is as without a seal."""
    (tmp_path / "kept.txt").rename(tmp_path / "away.txt")
    before = sealed.shows()
    sealed.rotate(FORCED)
    assert not set(sealed.shows().values()) & set(before.values())
    sealed.assert_whole()
    sealed.assert_unharmed()


def test_a_key_that_should_be_sealed_is_named_in_every_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inventory says so, and nobody ran `certs.init`: a deploy, a renewal and a replacement tell."""
    found = town(tmp_path, pki="peer_ca: same")
    monkeypatch.setattr("etcdctl_remote.operations.fitting.shown", shown_in(found.world))
    found.cluster = spec(tmp_path, pki="peer_ca: same, ca_key: {protect: passphrase}")
    plans = [
        deploy(found.session(), consent([], dry_run=True)),
        found.rotate(),
        found.rotate(FORCED, dry_run=True),
        found.replace_ca(dry_run=True),
    ]
    assert [bool(todo) for todo in plans] == [False, False, True, True]
    said = "the key of ca/0001/ca.crt lies in the clear, though the inventory says `pki.ca_key.protect: passphrase`"
    assert all([note.startswith(said) for note in todo.notes].count(True) == 1 for todo in plans)
