"""Host keys are checked on every server, and refusals say how to get on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, Version
from etcdctl_remote.errors import HostKeyRefused
from etcdctl_remote.remote.fleet import Fleet

from .conftest import QUICK, Connect, Start
from .sshd import Sshd, fingerprint, make_key, public


def test_known_key_is_accepted(server: Sshd, connect: Connect) -> None:
    """A host whose key is in known_hosts connects."""
    assert list(connect(server).hosts) == ["n1"]


def test_unknown_key_is_refused_with_fingerprint_and_way_out(server: Sshd, connect: Connect) -> None:
    """Nothing known: the offered fingerprint, the file, ssh-keyscan and accept-new are named."""
    server.known_hosts.write_text("")
    with pytest.raises(HostKeyRefused) as caught:
        connect(server)
    text = str(caught.value)
    assert fingerprint(server.host_key) in text
    assert f"ssh-keyscan -p {server.port} 127.0.0.1 >> {server.known_hosts}" in text
    assert "host_keys: accept-new" in text
    assert server.known_hosts.read_text() == ""


@pytest.mark.parametrize("policy", ["strict", "accept-new"])
def test_changed_key_is_refused_with_both_fingerprints(
    server: Sshd, connect: Connect, tmp_path: Path, policy: str
) -> None:
    """A changed key is refused whatever the policy; both keys and the line of the old one are shown."""
    other = make_key(tmp_path / "other")
    server.known_hosts.write_text(f"# mine\n{server.name} {public(other)}\n")
    with pytest.raises(HostKeyRefused) as caught:
        connect(server, host_keys=policy)
    text = str(caught.value)
    assert fingerprint(server.host_key) in text
    assert fingerprint(other) in text
    assert f"{server.known_hosts}:2" in text
    assert f"ssh-keygen -R '{server.name}' -f {server.known_hosts}" in text


def test_another_kind_of_known_key_is_a_changed_key(server: Sshd, connect: Connect, tmp_path: Path) -> None:
    """A host known by its RSA key that offers only Ed25519 is not new."""
    other = make_key(tmp_path / "rsa", kind="rsa")
    server.known_hosts.write_text(f"{server.name} {public(other)}\n")
    with pytest.raises(HostKeyRefused, match="has changed"):
        connect(server, host_keys="accept-new")


def test_the_known_kind_of_key_is_asked_for(start: Start, connect: Connect, tmp_path: Path) -> None:
    """A server with two keys is verified by the one we know, though it would show the other."""
    rsa = make_key(tmp_path / "rsa", kind="rsa")
    server = start("two", f"HostKey {rsa}")
    server.known_hosts.write_text(f"{server.name} {public(rsa)}\n")
    assert list(connect(server).hosts) == ["n1"]


def test_revoked_key_is_refused(server: Sshd, connect: Connect) -> None:
    """A `@revoked` line beats a line that knows the key."""
    with server.known_hosts.open("a") as file:
        file.write(f"@revoked * {public(server.host_key)}\n")
    with pytest.raises(HostKeyRefused, match="revoked"):
        connect(server, host_keys="accept-new")


def test_hashed_names_are_found(server: Sshd, connect: Connect) -> None:
    """`ssh-keygen -H` output works."""
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(server.known_hosts)], check=True, capture_output=True)
    assert server.name not in server.known_hosts.read_text()
    assert list(connect(server).hosts) == ["n1"]


def test_garbage_lines_are_skipped(server: Sshd, connect: Connect) -> None:
    """Truncated keys, authorities, unknown markers and binary noise never stop the reader."""
    noise = (
        b"# comment\n\n@cert-authority *.example.com ssh-ed25519 AAAA\n@strange x ssh-ed25519 AAAA\n"
        b"host ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE\nonly-a-name\n\xff\xfe\x00 ssh-rsa \xff\n"
        b"[127.0.0.1]:* ssh-ed25519 !!!!\nsk ssh-sk@openssh.com AAAA\n|1|bad|worse ssh-rsa AAAA\n"
    )
    server.known_hosts.write_bytes(noise + server.known_hosts.read_bytes())
    assert list(connect(server).hosts) == ["n1"]


@pytest.mark.parametrize(
    ("pattern", "known"),
    [("[127.0.0.*]:*", True), ("[127.0.0.?]:{port}", True), ("*,!{name},!127.*", False), ("127.0.0.1", True)],
)
def test_patterns(server: Sshd, connect: Connect, pattern: str, known: bool) -> None:
    """Wildcards, negation, and a key filed without its port behave as in OpenSSH."""
    names = pattern.format(port=server.port, name=server.name)
    server.known_hosts.write_text(f"{names} {public(server.host_key)}\n")
    if known:
        assert list(connect(server).hosts) == ["n1"]
    else:
        with pytest.raises(HostKeyRefused, match="is unknown"):
            connect(server)


def test_accept_new_from_twenty_hosts_loses_none(server: Sshd) -> None:
    """Twenty hosts noted at once: every line is there, the comments too, and a second run is strict-proof."""
    server.known_hosts.write_text("# mine\nelsewhere ssh-ed25519 AAAA # kept as it is")
    addresses = [f"127.0.0.{number}" for number in range(1, 21)]

    def cluster(policy: str) -> ClusterSpec:
        nodes = tuple(
            NodeSpec(f"n{number}", address, ssh=server.ssh(host_keys=policy))
            for number, address in enumerate(addresses)
        )
        return ClusterSpec("demo", Version(3, 6, 14), nodes, server.folder / "inventory.yaml")

    for policy in ("accept-new", "strict"):
        fleet, _ = Fleet.connect(cluster(policy), patience=QUICK)
        assert len(fleet.hosts) == 20
        fleet.close()
    lines = server.known_hosts.read_text().splitlines()
    assert lines[:2] == ["# mine", "elsewhere ssh-ed25519 AAAA # kept as it is"]
    assert sorted(line.split()[0] for line in lines[2:]) == sorted(f"[{a}]:{server.port}" for a in addresses)


def test_alias_of_the_ssh_config_is_looked_up(server: Sshd, connect: Connect, ssh_config: Path) -> None:
    """HostKeyAlias names the line."""
    ssh_config.write_text("Host 127.0.0.1\n  HostKeyAlias the-node\n")
    server.known_hosts.write_text(f"the-node {public(server.host_key)}\n")
    assert list(connect(server).hosts) == ["n1"]
