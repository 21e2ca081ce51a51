"""Who signs, and how a CA key is kept: what an inventory may say of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdctl_remote.desired import inventory
from etcdctl_remote.desired.model import CaKeySpec, ExternalSpec, PkiSpec
from etcdctl_remote.errors import UsageError

AGE = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
HEAD = 'cluster: demo\nversion: "3.6.14"\nnodes: {n1: 10.0.0.1}\n'


def pki(text: str) -> PkiSpec:
    return inventory.parse(f"{HEAD}pki: {{{text}}}\n", Path("/home/me/inventory.yaml")).pki


def mistakes(text: str) -> list[str]:
    """What is wrong with it, without file and place."""
    with pytest.raises(UsageError) as caught:
        pki(text)
    return [line.split(": ", 1)[1] for line in caught.value.message.splitlines()]


def test_defaults() -> None:
    """Keys lie in the clear for their owner, and nobody else signs."""
    assert pki("") == PkiSpec()
    assert (PkiSpec().ca_key, PkiSpec().external) == (CaKeySpec(), None)
    assert pki("ca_key: ").ca_key == CaKeySpec()


def test_what_is_said_is_read() -> None:
    """Paths start at the inventory."""
    key = pki(f"ca_key: {{protect: age, recipients: [{AGE}], identity: keys/id}}").ca_key
    assert key == CaKeySpec("age", "ask", (AGE,), Path("/home/me/keys/id"))
    assert pki("ca_key: {protect: passphrase, passphrase: 'fd:3'}").ca_key.passphrase == "fd:3"
    found = pki("external: {trust: r.crt, peer_trust: p.crt}").external
    requests = Path("/home/me/certs/demo/requests")
    assert found == ExternalSpec(Path("/home/me/r.crt"), Path("/home/me/p.crt"), requests)
    found = pki("peer_ca: same, external: {trust: r.crt, command: [./sign, --profile, etcd]}").external
    assert found == ExternalSpec(Path("/home/me/r.crt"), None, None, ("./sign", "--profile", "etcd"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ca_key: {protect: age}", ["for whom? expected `recipients`", "nothing could open the key"]),
        (f"ca_key: {{recipients: [{AGE}]}}", ["`recipients` has no meaning with `protect: none`"]),
        ("ca_key: {passphrase: hunter2}", ["this says not where the passphrase comes from"]),
        ("ca_key: {protect: pgp}", ["`protect` is the text 'pgp'; expected none, passphrase or age"]),
        ("ca_key: {protect: age, recipients: [AGE-SECRET-KEY-1X], identity: i}", ["this is an identity, which is secret"]),
        ("ca_key: {protect: age, recipients: [bob], identity: i}", ["'bob' is not a recipient"]),
        ("ca_key: {key: x}", ["unknown key `key`"]),
        ("external: {peer_trust: p}", ["`trust` is missing"]),
        ("external: {trust: r}", ["peers have a CA of their own; expected `peer_trust`"]),
        ("peer_ca: same, external: {trust: r, peer_trust: p}", ["`peer_trust` needs a CA of the peers' own"]),
        ("external: {trust: r, peer_trust: p, folder: f, command: [c]}", ["both `folder` and `command`"]),
        ("external: {trust: r, peer_trust: p, peer_command: [c]}", ["`peer_command` stands alone"]),
        ("external: {trust: r, peer_trust: p, command: []}", ["`command` is a list; expected at least one"]),
        ("external: {trust: r, peer_trust: p, command: ./sign it}", ["expected a list: [a, b]"]),
        (
            "external: {trust: r, peer_trust: p}, ca_key: {protect: passphrase}",
            ["with `external` there is no CA key on this computer"],
        ),
    ],
)  # fmt: skip
def test_contradictions_are_named(text: str, said: list[str]) -> None:
    """With what was expected; a passphrase that stands in the file is not repeated."""
    found = mistakes(text)
    assert "hunter2" not in "".join(found)
    assert len(found) == len(said), found
    assert all(any(part in line for line in found) for part in said), found
