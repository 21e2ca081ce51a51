"""Jump hosts: OpenSSH's order, one login for all nodes, host keys checked on each hop."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdctl_remote.errors import ConnectionLost, HostKeyRefused, Unreachable
from etcdctl_remote.remote.host import Command

from .conftest import Connect, Start
from .sshd import USER, Sshd, make_key, public

WHO = Command('echo "$1"', ("here",), writes=False, root=False)


def share(*servers: Sshd) -> None:
    """Let one key in everywhere, and let the client know all the servers."""
    keys = "".join(public(server.key) + "\n" for server in servers)
    known = "".join(server.known_hosts.read_text() for server in servers)
    for server in servers:
        (server.folder / "authorized_keys").write_text(keys)
        server.known_hosts.write_text(known)


def hop(server: Sshd) -> str:
    return f"{USER}@127.0.0.1:{server.port}"


def only_to(server: Sshd) -> str:
    """An sshd option: forward nowhere but there."""
    return f"PermitOpen 127.0.0.1:{server.port}"


@pytest.fixture
def chain(start: Start) -> tuple[Sshd, Sshd, Sshd]:
    """first → second → target: each hop can reach only the next, so no other order works."""
    target = start("target")
    second = start("second", only_to(target))
    first = start("first", only_to(second))
    share(first, second, target)
    return first, second, target


def test_two_hops_in_openssh_order(chain: tuple[Sshd, Sshd, Sshd], connect: Connect) -> None:
    """`jump: [first, second]` dials first, through it second, through that the node."""
    first, second, target = chain
    fleet = connect(target, jump=(hop(first), hop(second)))
    assert fleet.hosts["n1"].run(WHO).text == "here\n"


def test_the_reverse_order_fails(chain: tuple[Sshd, Sshd, Sshd], connect: Connect) -> None:
    """The order is proven by its reverse not working; the error names the jump host."""
    first, second, target = chain
    with pytest.raises(Unreachable, match="jump host"):
        connect(target, jump=(hop(second), hop(first)))


def test_proxy_jump_of_the_ssh_config(
    chain: tuple[Sshd, Sshd, Sshd], connect: Connect, ssh_config: Path
) -> None:
    """The operator's own ProxyJump is honoured, the hops' aliases too."""
    first, second, target = chain
    ssh_config.write_text(
        f"Host bastion\n  HostName 127.0.0.1\n  Port {first.port}\n  User {USER}\n"
        f"Host 127.0.0.1\n  ProxyJump bastion,{hop(second)}\n"
    )
    fleet = connect(target)
    assert fleet.hosts["n1"].run(WHO).text == "here\n"


def test_one_login_on_the_jump_host_for_all_nodes(chain: tuple[Sshd, Sshd, Sshd], connect: Connect) -> None:
    """Six nodes behind a bastion cost it one session."""
    _, second, target = chain
    fleet = connect(target, *(f"n{number}" for number in range(6)), jump=(hop(second),))
    assert len(fleet.each(lambda host: host.run(WHO).text)) == 6
    assert len(second.sessions()) == 1
    assert len(target.sessions()) == 6


def test_changed_key_on_the_jump_host_is_refused(
    chain: tuple[Sshd, Sshd, Sshd], connect: Connect, tmp_path: Path
) -> None:
    """A hop gets no more trust than a target, and nothing goes through it."""
    _, second, target = chain
    known = target.known_hosts.read_text().replace(
        public(second.host_key), public(make_key(tmp_path / "evil"))
    )
    target.known_hosts.write_text(known)
    with pytest.raises(HostKeyRefused, match=f"{second.port} has changed"):
        connect(target, jump=(hop(second),), host_keys="accept-new")
    assert target.sessions() == []


def test_unknown_key_on_the_jump_host_is_refused(chain: tuple[Sshd, Sshd, Sshd], connect: Connect) -> None:
    """Strict is strict on hops."""
    _, second, target = chain
    target.known_hosts.write_text(f"{target.name} {public(target.host_key)}\n")
    with pytest.raises(HostKeyRefused, match=f"{second.port} is unknown"):
        connect(target, jump=(hop(second),))


def test_jump_host_that_does_not_forward(start: Start, connect: Connect) -> None:
    """A bastion with forwarding off is named as the cause."""
    target = start("target")
    bastion = start("bastion", "AllowTcpForwarding no")
    share(bastion, target)
    with pytest.raises(Unreachable, match="sshd forbids forwarding"):
        connect(target, jump=(hop(bastion),))


def test_target_frozen_behind_a_living_jump_host(chain: tuple[Sshd, Sshd, Sshd], connect: Connect) -> None:
    """The bastion's answers do not count as the target's."""
    import os
    import signal

    _, second, target = chain
    fleet = connect(target, jump=(hop(second),))
    (session,) = target.sessions()
    os.kill(session, signal.SIGSTOP)
    with pytest.raises(ConnectionLost, match="n1"):
        fleet.hosts["n1"].run(WHO)


def test_proxy_command_of_the_ssh_config(server: Sshd, connect: Connect, ssh_config: Path) -> None:
    """ProxyCommand is run as OpenSSH runs it, with its own %h and %p."""
    script = (
        "import socket,sys,threading,os\n"
        "s=socket.create_connection((sys.argv[1],int(sys.argv[2])))\n"
        "def pump(read,write):\n"
        "    while d:=read(65536): write(d)\n"
        "threading.Thread(target=pump,args=(lambda n:os.read(0,n),s.sendall),daemon=True).start()\n"
        "pump(s.recv,lambda d:os.write(1,d))\n"
    )
    relay = server.folder / "relay.py"
    relay.write_text(script)
    ssh_config.write_text(f"Host *\n  ProxyCommand python3 {relay} %h %p\n")
    assert connect(server).hosts["n1"].run(WHO).text == "here\n"
