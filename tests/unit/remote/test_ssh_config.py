"""How a host is reached, from the inventory and from `ssh -G`'s answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdctl_remote.desired.model import SshSpec
from etcdctl_remote.errors import UsageError
from etcdctl_remote.remote import ssh_config
from etcdctl_remote.remote.ssh_config import endpoint, parse_answer, parse_hop, route

ANSWER = """\
host bastion
hostname 10.0.0.1
user ann
port 2222
identityfile ~/.ssh/id_ed25519
identityfile /keys/other
identitiesonly yes
identityagent none
proxyjump first,second
userknownhostsfile ~/.ssh/known_hosts /tmp/second
globalknownhostsfile /etc/ssh/ssh_known_hosts
hostkeyalias none
"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("bastion", (None, "bastion", None)),
        ("ann@bastion:2222", ("ann", "bastion", 2222)),
        ("ssh://ann@bastion:2222/", ("ann", "bastion", 2222)),
        ("ann@[fd00::1]:2222", ("ann", "fd00::1", 2222)),
        ("[fd00::1]", (None, "fd00::1", None)),
        ("fd00::1", (None, "fd00::1", None)),
        ("ann@corp@bastion", ("ann@corp", "bastion", None)),
    ],
)
def test_hop(text: str, wanted: tuple[str | None, str, int | None]) -> None:
    """OpenSSH's ways to write a jump host."""
    assert parse_hop(text) == wanted


@pytest.mark.parametrize("text", ["", "ann@", "-oProxyCommand=x", "ann@-x", "host:port", ":22"])
def test_not_a_hop(text: str) -> None:
    """What could be taken for an option, or is nothing, is refused."""
    with pytest.raises(UsageError, match="not a jump host"):
        parse_hop(text)


def test_openssh_answers_where_the_inventory_is_silent() -> None:
    """Name, user, port, keys, agent and files come from `ssh -G`."""
    server = endpoint(SshSpec(), "bastion", parse_answer(ANSWER))
    assert str(server) == "ann@10.0.0.1:2222"
    assert server.identities == (Path("~/.ssh/id_ed25519").expanduser(), Path("/keys/other"))
    assert server.identities_only
    assert server.agent is None
    assert server.known_hosts[1:] == (Path("/tmp/second"), Path("/etc/ssh/ssh_known_hosts"))
    assert server.key_name == "[10.0.0.1]:2222"
    assert not server.accept_new


def test_inventory_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """User, port, key and known_hosts of the inventory are the ones used; its key is the only one."""
    monkeypatch.setattr(
        ssh_config, "ask_openssh", lambda host, *_: parse_answer(ANSWER) if host == "bastion" else {}
    )
    spec = SshSpec(user="ops", port=22, key=Path("/k"), known_hosts=Path("/h"), jump=("gate",))
    way = route(spec, "bastion")
    assert str(way.target) == "ops@10.0.0.1:22"
    assert way.target.identities == (Path("/k"),)
    assert way.target.identities_only
    assert way.target.known_hosts == (Path("/h"), Path("/etc/ssh/ssh_known_hosts"))
    assert way.target.key_name == "10.0.0.1"


def test_jump_hosts_keep_their_own_user_and_also_try_our_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in OpenSSH the node's user is not the hop's; the inventory's key is tried there first."""
    monkeypatch.setattr(ssh_config, "ask_openssh", lambda *_: {"user": ["me"], "identityfile": ["/own"]})
    way = route(SshSpec(user="ops", key=Path("/k"), jump=("gate", "ann@inner:7")), "n1")
    assert [str(hop) for hop in way.hops] == ["me@gate:22", "ann@inner:7"]
    assert way.hops[0].identities == (Path("/k"), Path("/own"))
    assert way.hops[0].required is None


def test_circle_of_jump_hosts_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A jump host that needs itself is an error, not a hang."""
    monkeypatch.setattr(ssh_config, "ask_openssh", lambda *_: {"proxyjump": ["gate"]})
    with pytest.raises(UsageError, match="circle"):
        route(SshSpec(), "n1")


def test_ipv6_is_shown_in_brackets() -> None:
    """So that the port can be told."""
    assert str(endpoint(SshSpec(user="ops"), "fd00::1", {})) == "ops@[fd00::1]:22"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("SSH_AUTH_SOCK", "/env"),
        ("$OTHER", "/other"),
        ("${OTHER}", "/other"),
        ("/path", "/path"),
        ("none", None),
    ],
)
def test_identity_agent(monkeypatch: pytest.MonkeyPatch, value: str, wanted: str | None) -> None:
    """Each form OpenSSH knows."""
    monkeypatch.setenv("SSH_AUTH_SOCK", "/env")
    monkeypatch.setenv("OTHER", "/other")
    assert ssh_config.agent_of({"identityagent": [value]}) == wanted
    assert ssh_config.agent_of({}) == "/env"
