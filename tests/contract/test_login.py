"""Logging in: keys, passphrases, agents, and errors that say what was tried."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from etcdctl_remote.errors import LoginFailed, UsageError
from etcdctl_remote.remote.host import Command

from .conftest import Asked, Connect, Start
from .sshd import Sshd, fingerprint, make_key, public

HELLO = Command("echo hello", root=False, writes=False)


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A running ssh-agent; its socket. It is not in the environment."""
    path = tmp_path / "agent.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    while not path.exists():
        assert process.poll() is None
    yield path
    process.terminate()
    process.wait()


def add(agent: Path, key: Path) -> None:
    subprocess.run(["ssh-add", "-q", str(key)], check=True, env={**os.environ, "SSH_AUTH_SOCK": str(agent)})


def let_in(server: Sshd, key: Path) -> None:
    (server.folder / "authorized_keys").write_text(public(key) + "\n")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_kinds_of_keys(server: Sshd, connect: Connect, tmp_path: Path, kind: str) -> None:
    """The kinds ssh-keygen makes log in."""
    key = make_key(tmp_path / "key", kind=kind)
    let_in(server, key)
    assert connect(server, key=key).hosts["n1"].run(HELLO).text == "hello\n"


def test_passphrase_is_asked_once_for_all_hosts(server: Sshd, connect: Connect, tmp_path: Path) -> None:
    """Five hosts, one question, which names the key."""
    key = make_key(tmp_path / "locked", passphrase="open sesame")
    let_in(server, key)
    asked = Asked("open sesame")
    fleet = connect(server, *(f"n{number}" for number in range(5)), key=key, password=asked)
    assert len(fleet.hosts) == 5
    assert asked.prompts == [f"passphrase of {key}"]


def test_wrong_passphrase(server: Sshd, connect: Connect, tmp_path: Path) -> None:
    """A mistyped passphrase is said to be one; the server saw no failed login."""
    key = make_key(tmp_path / "locked", passphrase="open sesame")
    with pytest.raises(LoginFailed, match=f"passphrase does not open the key {key}"):
        connect(server, key=key, password=Asked("wrong"))
    assert server.sessions() == []


def test_locked_key_and_nobody_to_ask(server: Sshd, connect: Connect, tmp_path: Path) -> None:
    """Without a terminal the way out is the agent."""
    key = make_key(tmp_path / "locked", passphrase="open sesame")
    with pytest.raises(LoginFailed, match="has a passphrase") as caught:
        connect(server, key=key)
    assert caught.value.hint == f"add it to the agent: ssh-add {key}"


@pytest.mark.parametrize("name", ["key.pub", "mine"])
def test_the_public_half_for_the_private_one(
    server: Sshd, connect: Connect, tmp_path: Path, name: str
) -> None:
    """It is said to be that, and the other half is named where the name tells it."""
    key = make_key(tmp_path / "key")
    given = tmp_path / name
    given.write_text(public(key) + " me@here\n")
    with pytest.raises(LoginFailed) as caught:
        connect(server, key=given)
    assert caught.value.message == f"n1: {given} is the public half of a key, and the private one is needed"
    assert caught.value.hint == (
        f"`ssh.key: {key}`" if name == "key.pub" else "name the private key with `ssh.key`"
    )


def test_a_file_that_is_no_key(server: Sshd, connect: Connect, tmp_path: Path) -> None:
    """It is not taken for a public one, whatever is in it."""
    for content in (b"", b"hello aGVsbG8=\n", b"\xff\x00\n", b"ssh-ed25519 AAAA\n"):
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(LoginFailed, match="is no private key we can read"):
            connect(server, key=tmp_path / "key")


def test_agents_copy_of_a_locked_key(server: Sshd, connect: Connect, tmp_path: Path, agent: Path) -> None:
    """A locked key that the agent holds is not asked for, even without its .pub file."""
    key = make_key(tmp_path / "locked")
    let_in(server, key)
    add(agent, key)
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(key)], check=True, capture_output=True
    )
    key.with_name("locked.pub").unlink()
    os.environ["SSH_AUTH_SOCK"] = str(agent)
    try:
        assert connect(server, key=key).hosts["n1"].run(HELLO).text == "hello\n"
    finally:
        del os.environ["SSH_AUTH_SOCK"]


def test_identity_agent_of_the_ssh_config(
    server: Sshd, connect: Connect, agent: Path, ssh_config: Path
) -> None:
    """IdentityAgent is honoured though SSH_AUTH_SOCK names none; no key file is needed."""
    add(agent, server.key)
    ssh_config.write_text(f"Host *\n  IdentityAgent {agent}\n  IdentityFile /no/such/file\n")
    assert connect(server, key=None).hosts["n1"].run(HELLO).text == "hello\n"


def test_full_agent_does_not_burn_the_tries(
    start: Start, connect: Connect, tmp_path: Path, agent: Path, ssh_config: Path
) -> None:
    """Ten keys in the agent and a server that hangs up after two: the named key goes first."""
    server = start("strict", "MaxAuthTries 2")
    for number in range(10):
        add(agent, make_key(tmp_path / f"other{number}"))
    ssh_config.write_text(f"Host *\n  IdentityAgent {agent}\n")
    assert list(connect(server).hosts) == ["n1"]
    ssh_config.write_text(
        f"Host *\n  IdentityAgent {agent}\n  IdentitiesOnly yes\n  IdentityFile {server.key}\n"
    )
    assert list(connect(server, key=None).hosts) == ["n1"]


def test_missing_identity_files_are_ignored(server: Sshd, connect: Connect, ssh_config: Path) -> None:
    """As OpenSSH does; the one that exists logs in."""
    ssh_config.write_text(f"Host *\n  IdentityFile /no/such\n  IdentityFile {server.key}\n")
    assert list(connect(server, key=None).hosts) == ["n1"]


def test_key_of_the_inventory_must_exist(server: Sshd, connect: Connect, tmp_path: Path) -> None:
    """A key named in the inventory that is not there is an error, not a fall-back."""
    with pytest.raises(LoginFailed, match="cannot be read: No such file"):
        connect(server, key=tmp_path / "nope")


def test_file_that_is_no_key(server: Sshd, connect: Connect, tmp_path: Path) -> None:
    """Said plainly."""
    (tmp_path / "text").write_text("hello")
    with pytest.raises(LoginFailed, match="no private key we can read"):
        connect(server, key=tmp_path / "text")


def test_refused_key_is_named(server: Sshd, connect: Connect, tmp_path: Path) -> None:
    """The error has the fingerprint that was tried, the user, and the command to try by hand."""
    key = make_key(tmp_path / "other")
    with pytest.raises(LoginFailed) as caught:
        connect(server, key=key)
    assert fingerprint(key) in caught.value.message
    by_hand = f"`ssh -p {server.port} -i {key} -o UserKnownHostsFile={server.known_hosts} "
    assert by_hand in caught.value.hint


def test_certificate_beside_the_key(server: Sshd, connect: Connect, tmp_path: Path) -> None:
    """A user certificate `<key>-cert.pub` logs in where only its CA is trusted."""
    ca, key = make_key(tmp_path / "ca"), make_key(tmp_path / "key")
    subprocess.run(
        ["ssh-keygen", "-q", "-s", str(ca), "-I", "x", "-n", server.ssh().user or "", str(key)], check=True
    )
    (server.folder / "authorized_keys").write_text(f"cert-authority {public(ca)}\n")
    assert connect(server, key=key).hosts["n1"].run(HELLO).text == "hello\n"


def test_ssh_config_gives_user_port_and_name(server: Sshd, connect: Connect, ssh_config: Path) -> None:
    """A name of the operator's own configuration is enough."""
    user = server.ssh().user
    ssh_config.write_text(
        f"Host 127.0.0.1\n  Port {server.port}\n  User {user}\n  IdentityFile {server.key}\n"
        f"  UserKnownHostsFile {server.known_hosts}\n"
    )
    fleet = connect(server, user=None, port=None, key=None, known_hosts=None)
    assert fleet.hosts["n1"].run(HELLO).text == "hello\n"


def test_inventory_wins_over_the_ssh_config(server: Sshd, connect: Connect, ssh_config: Path) -> None:
    """User, port, key and known_hosts of the inventory beat those of the configuration."""
    ssh_config.write_text(
        "Host *\n  Port 1\n  User nobody\n  IdentityFile /no/such\n  UserKnownHostsFile /dev/null\n"
    )
    assert list(connect(server).hosts) == ["n1"]


def test_broken_ssh_config_is_quoted(server: Sshd, connect: Connect, ssh_config: Path) -> None:
    """OpenSSH's own message is shown."""
    ssh_config.write_text("Port twenty\n")
    with pytest.raises(UsageError, match=r"ssh -G could not read the OpenSSH configuration: .*line 1"):
        connect(server)


def test_without_an_openssh_client(server: Sshd, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inventory alone is enough where there is no ssh program."""
    monkeypatch.setenv("PATH", "/no/where")
    assert list(connect(server).hosts) == ["n1"]
