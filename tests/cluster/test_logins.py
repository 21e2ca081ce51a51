"""Every kind of login that operators have, on real nodes: shells, users, passwords, agents, limits."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from etcdctl_remote.lab import image, variants
from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, Node, each
from tests.conftest import LabFactory

from . import drive, terminal

pytestmark = pytest.mark.cluster

JOURNAL = "journalctl --sync; journalctl -q -o cat"
"""All that was logged by now, as it was told."""
PASSPHRASE = "correct horse"
PROXIES = ("http_proxy", "HTTPS_PROXY", "ALL_PROXY")
NOISE = "echo 'Welcome to this host!'; echo 'mind the gap' >&2\n"
MODES = {
    "/opt/etcd": "755 root:root",
    "/etc/etcd": "750 root:etcd",
    "/etc/etcd/etcdctl.env": "640 root:etcd",
    "/etc/systemd/system/etcd.service": "644 root:root",
    "/usr/local/bin/etcdctl.sh": "755 root:root",
    "/var/lib/etcd": "700 etcd:etcd",
}


def test_odd_logins(lab_factory: LabFactory) -> None:
    """tcsh, dash, a chatty bash; umask 077, German, proxies everywhere, no sftp, two sessions at most."""
    lab = lab_factory(os="debian13")
    tcsh, dash, chatty = lab.nodes
    variants.login_shell(tcsh, "/bin/tcsh")
    variants.login_shell(dash, "/bin/dash")
    execute(chatty, 'printf "%s" "$1" | tee -a /home/ops/.bashrc /etc/profile >/etc/bash.bashrc', NOISE)
    with _proxies_of_systemd(lab):
        each(lab.nodes, _odd)
        drive.deploy(lab)
        drive.settle_nothing(lab)
        assert drive.must(lab, "health").out.count("is healthy") == 3
        for node in lab.nodes:
            seen = execute(node, 'stat -c "%n %a %U:%G" "$@"', *MODES)
            assert dict(line.split(" ", 1) for line in seen.splitlines()) == MODES
            assert execute(node, "find /opt/etcd ! -perm -444 ! -type l") == ""
            environ = execute(node, "tr '\\0' '\\n' <\"/proc/$(systemctl show -P MainPID etcd)/environ\"")
            assert "ETCDCTL_REMOTE_DIGEST=" in environ
            assert "proxy" not in environ.lower()
        assert drive.leftovers(lab) == []


def _odd(node: Node) -> None:
    variants.umask_077(node)
    variants.foreign_locale(node)
    variants.proxies(node)
    execute(node, 'printf "MaxSessions 2\\n" >/etc/ssh/sshd_config.d/few.conf')
    variants.no_sftp(node)


@contextmanager
def _proxies_of_systemd(lab: Lab) -> Iterator[None]:
    """Give proxies to every service, as `DefaultEnvironment=` does; nothing listens there."""
    given = [f"{name}=http://127.0.0.1:9" for name in PROXIES]
    each(lab.nodes, lambda node: execute(node, 'systemctl set-environment "$@"', *given))
    try:
        yield
    finally:
        each(lab.nodes, lambda node: execute(node, 'systemctl unset-environment "$@"', *PROXIES))


def test_root_with_a_key_in_an_agent(lab3: Lab, tmp_path: Path) -> None:
    """A key with a passphrase works through the agent; without one, and nobody to ask, it says how."""
    key = _encrypted(lab3)
    _login(lab3, "root", key)
    done = drive.fails(lab3, 3, "passphrase", "ssh-add")
    assert str(key) in done.err
    with _agent(key, tmp_path) as socket:
        done = drive.finish(drive.start(lab3, "deploy", "-y", env={"SSH_AUTH_SOCK": socket}))
        assert done.code == 0, str(done)
    assert drive.started(lab3) == {"n1": 1, "n2": 1, "n3": 1}
    for node in lab3.nodes:
        assert execute(node, f"{JOURNAL} _COMM=sudo || true") == "", "root needs no sudo"


def _encrypted(lab: Lab) -> Path:
    key = lab.state / "id_encrypted"
    key.write_bytes(lab.key.read_bytes())
    key.chmod(0o600)
    given = ["-P", "", "-N", PASSPHRASE]
    subprocess.run(["ssh-keygen", "-q", "-p", "-f", str(key), *given], check=True, stdout=subprocess.DEVNULL)
    return key


@contextmanager
def _agent(key: Path, folder: Path) -> Iterator[str]:
    """Run an agent that holds a key with a passphrase."""
    socket, asker = folder / "agent", folder / "ask"
    asker.write_text(f"#!/bin/sh\necho '{PASSPHRASE}'\n")
    asker.chmod(0o700)
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            time.sleep(0.01)
        env = {"SSH_AUTH_SOCK": str(socket), "SSH_ASKPASS": str(asker), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(
            ["ssh-add", "-q", str(key)], env={**env, "PATH": "/usr/bin:/bin", "DISPLAY": ":0"}, check=True
        )
        yield str(socket)
    finally:
        agent.terminate()
        agent.wait(timeout=10)


def test_passwords_on_a_terminal(lab3: Lab) -> None:
    """Each is asked for once for all hosts, a wrong one is tried once in all, and none is ever shown or kept."""
    _login(lab3, "admin", _encrypted(lab3))
    drive.fails(lab3, 3, "passphrase", "ssh-add")
    ask_key, ask_sudo = r"passphrase of \S+: ", r"sudo password[^:\n]*: "
    no_agent = {"SSH_AUTH_SOCK": ""}

    wrong = [(ask_key, PASSPHRASE), (ask_sudo, "not this one")]
    done = terminal.run(lab3, "deploy", answers=wrong, env=no_agent)
    assert done.code == 3, str(done)
    assert "retype it" in done.out
    tries = each(lab3.nodes, lambda node: execute(node, f"{JOURNAL} -g 'auth.*failure' || true"))
    assert sum("authentication failure" in line for text in tries for line in text.splitlines()) == 1

    right = [
        (ask_key, PASSPHRASE),
        (ask_sudo, image.ADMIN_PASSWORD),
        (r"Carry out these \d+ steps\? \[y/N\]: ", "y"),
    ]
    done = terminal.run(lab3, "deploy", answers=right, env=no_agent)
    assert done.code == 0, str(done)
    assert done.out.count("passphrase of") == 1
    assert done.out.count("sudo password") == 1
    drive.put(lab3.nodes[0], "deployed", "by password")
    kept = [path for path in lab3.state.rglob("*") if path.is_file() and path.suffix in (".jsonl", ".json")]
    assert kept
    for secret in (PASSPHRASE, image.ADMIN_PASSWORD, "not this one"):
        assert secret not in done.out
        assert not [path for path in kept if secret in path.read_text()]
        for node in lab3.nodes:
            assert execute(node, f'{JOURNAL} | grep -cF -e "$1" || true', secret).strip() == "0"


def _login(lab: Lab, user: str, key: Path) -> None:
    drive.edit(lab, ssh=f"{{user: {user}, key: {key}, known_hosts: {lab.known_hosts}}}")
