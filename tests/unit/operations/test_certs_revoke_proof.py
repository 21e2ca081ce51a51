"""Success only once every member has refused the certificate, and taken a good one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from etcdctl_remote.errors import Failed
from etcdctl_remote.observed.refusal import Taken
from etcdctl_remote.operations import dialled
from etcdctl_remote.operations.certs_revoke import Wanted
from etcdctl_remote.operations.wish import Wish
from etcdctl_remote.pki.authority import Credential
from etcdctl_remote.pki.inspect import read_leaf
from tests.unit.operations.here import Canned, session

from .test_certs_revoke import app, elsewhere, targets, wish


def proving(
    want: Wish, monkeypatch: pytest.MonkeyPatch, answers: dict[tuple[str, bool, str], Sequence[Taken]]
) -> list[Credential]:
    """Answer by (node, whether revoked, protocol): refused if revoked, else accepted, unless said otherwise."""
    good = [c.certificate_pem for c in want.generation.credentials.values()]
    shown: list[Credential] = []

    def taken(host: Any, address: str, port: int, own: Credential, protocol: str) -> Taken:
        revoked = own.certificate_pem not in good
        if revoked:
            shown.append(own)
        said = list(answers.get((host.name, revoked, protocol), ()))
        if not said:
            return Taken(not revoked, "as it should")
        answers[host.name, revoked, protocol] = said[1:] or said
        return said[0]

    monkeypatch.setattr(dialled, "taken", taken)
    return shown


def prove(want: Wish, wanted: Wanted) -> None:
    opened = session(*(Canned(node.name) for node in want.cluster.nodes), spec=want.cluster)
    dialled.prove(opened, want.generation, targets(want, wanted))


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        (("n2", True, "h2"), Taken(True, "answered"), r"port 2379 \(gRPC\) accepts it"),
        (("n2", True, "http/1.1"), Taken(True, "answered"), r"port 2379 \(HTTP\) accepts it"),
        (("n2", True, "h2"), Taken(None, "it did not answer in time"), "cannot be told to refuse it"),
        (("n2", False, "h2"), Taken(False, "closed"), "does not accept a good certificate: closed"),
    ],
)
def test_one_member_that_errs_fails_it_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: tuple[str, bool, str], answer: Taken, said: str
) -> None:
    """It is named, with what it did; silence is no refusal."""
    want = wish(tmp_path)
    app(want)
    proving(want, monkeypatch, {key: (answer,)})
    with pytest.raises(Failed, match=said) as caught:
        prove(want, Wanted("app"))
    assert list(caught.value.by_host) == ["n2"]
    assert caught.value.exit_code == 1


def test_the_certificate_itself_is_shown_where_its_key_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To every member, in both protocols; who is busy is asked again."""
    want = wish(tmp_path)
    one = app(want)
    busy = (Taken(None, "it did not answer in time"), Taken(False, "closed"))
    shown = proving(want, monkeypatch, {("n1", True, "h2"): busy})
    prove(want, Wanted("app"))
    assert shown == [one.credential] * 7


def test_a_twin_is_shown_where_it_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same serial, signed by the CA of each port; nothing of it is kept."""
    want = wish(tmp_path)
    shown = proving(want, monkeypatch, {})
    before = set(tmp_path.rglob("*"))
    prove(want, Wanted(serial="abc"))
    leaves = [read_leaf(own.certificate_pem, own.key_pem) for own in shown]
    assert {(leaf.serial, leaf.key_matches) for leaf in leaves} == {("abc", True)}
    authorities = want.generation.authorities
    assert {leaf.issuer for leaf in leaves} == {
        authorities.client.common_name,
        authorities.peer.common_name,
    }
    assert set(tmp_path.rglob("*")) == before


def test_without_any_key_it_is_not_said_to_be_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is there, and that is said; success is not."""
    want, _ = elsewhere(wish(tmp_path))
    proving(want, monkeypatch, {})
    with pytest.raises(Failed, match="is not proven"):
        prove(want, Wanted(serial="abc"))
