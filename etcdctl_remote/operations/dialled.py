"""Prove that every member refuses what is revoked, and takes what is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import Failed
from ..observed.refusal import Protocol, Taken, taken
from ..pki.authority import Authority, Credential, key_pem, new_key
from ..pki.crl import Port
from ..pki.generation import Generation
from ..pki.profiles import Kind, Profile
from ..remote.host import Host
from .session import Session

if TYPE_CHECKING:
    from .certs_revoke import Target

SPOKEN: Mapping[Port, tuple[Protocol, ...]] = {"client": ("h2", "http/1.1"), "peer": ("http/1.1",)}
"""What each port speaks."""
ATTEMPTS = 3
_WORDS: Mapping[Protocol, str] = {"h2": "gRPC", "http/1.1": "HTTP"}


def prove(session: Session, held: Generation, targets: Sequence[Target]) -> None:
    """Dial every member anew with each revoked certificate, then with a good one; Failed names who errs."""
    shown = {target.revoked.serial: _shown(session, held, target) for target in targets}

    def ask(host: Host) -> list[str]:
        wrong: list[str] = []
        for target in targets:
            for port, own in shown[target.revoked.serial].items():
                wrong += _wrong(session, held, host, port, own)
        return wrong

    found = {
        name: wrong for name, wrong in session.fleet.each(ask, doing="dial every member").items() if wrong
    }
    if found:
        raise Failed(
            "the list is on the nodes, but not every member does what it says",
            "see `logs` there; run the task again once that is mended: it only proves then",
            {name: "; ".join(dict.fromkeys(wrong)) for name, wrong in sorted(found.items())},
        )
    names = ", ".join(node.name for node in session.cluster.nodes)
    session.ways.tell(
        f"proven on {names}: new connections with it are refused, with a good certificate accepted"
    )


def _wrong(session: Session, held: Generation, host: Host, port: Port, revoked: Credential) -> list[str]:
    """Say what one port does wrong. The good one goes last: what it sees, the link can see."""
    cluster, node = session.cluster, session.cluster.node(host.name)
    number = cluster.ports.client if port == "client" else cluster.ports.peer
    good = held.credential(node.name, Kind.CLIENT if port == "client" else Kind.PEER)
    wrong = []
    for protocol in SPOKEN[port]:
        where = f"port {number} ({_WORDS[protocol]})"
        bad, fine = (_dialled(host, node.bind, number, own, protocol) for own in (revoked, good))
        if bad.accepted is not False:
            wrong.append(f"{where} {_said(bad)}")
        if fine.accepted is not True:
            wrong.append(f"{where} does not accept a good certificate: {fine.seen}")
    return wrong


def _dialled(host: Host, address: str, port: int, own: Credential, protocol: Protocol) -> Taken:
    """Dial until there is an answer or a refusal: a busy member gets a second chance, and a third."""
    answers = (taken(host, address, port, own, protocol) for _ in range(ATTEMPTS))
    answer = next(answers)
    while answer.accepted is None and (later := next(answers, None)):
        answer = later
    return answer


def _said(bad: Taken) -> str:
    return "accepts it" if bad.accepted else f"cannot be told to refuse it: {bad.seen}"


def _shown(session: Session, held: Generation, target: Target) -> dict[Port, Credential]:
    """What each port is dialled with: the certificate itself, or a twin."""
    if target.credential:
        return dict.fromkeys(target.revoked.ports, target.credential)
    signers = {"client": held.authorities.client, "peer": held.authorities.peer}
    if any(signers[port].key is None for port in target.revoked.ports):
        raise Failed(
            f"the list is on the nodes; that {target} is refused is not proven: neither its key nor the CA's is here",
            "have its holder try: `etcdctl endpoint health` with it has to fail",
        )
    session.ways.tell(
        f"the key of {target} is not here: members are dialled with a twin of the same serial, signed by our CA, "
        "whose key is thrown away"
    )
    return {port: _twin(signers[port], target.revoked.serial) for port in target.revoked.ports}


def _twin(signer: Authority, serial: str) -> Credential:
    """A certificate like the revoked one: etcd compares serials only."""
    key = new_key("ecdsa-p256")
    profile = Profile("revoked", (), (), ("client",), 1, uris=("urn:etcdctl-remote:revoked",))
    return Credential(
        signer.certify(profile, key.public_key(), datetime.now(UTC), int(serial, 16)), key_pem(key)
    )
