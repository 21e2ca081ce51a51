"""Becoming root by sudo: with and without a password, and every way it can say no.

The sudo here is a stand-in on our fixed PATH, because a real one cannot be made to refuse on
the tester's own machine; real sudo, with its real users, is tested on the lab's nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from etcdctl_remote.errors import LoginFailed, Unreachable
from etcdctl_remote.remote import privilege
from etcdctl_remote.remote.fleet import Fleet
from etcdctl_remote.remote.host import Command, Host
from etcdctl_remote.remote.ssh_host import SshHost

from .conftest import Asked, Connect
from .sshd import Sshd

SUDO = r"""#!/bin/sh
# sudo as far as we use it: -n, -S, -p PROMPT, --
echo "$*" >>{folder}/calls
ask= prompt=Password:
while :; do
  case $1 in
    -n) shift ;;
    -S) ask=yes; shift ;;
    -p) prompt=$2; shift 2 ;;
    --) shift; break ;;
  esac
done
case $(cat {folder}/mode) in
  free) exec env http_proxy=kept "$@" ;;
  tty) echo "sudo: sorry, you must have a tty to run sudo" >&2; exit 1 ;;
  denied) echo "user is not in the sudoers file." >&2; exit 1 ;;
  broken) echo "env: 'timeout': No such file or directory" >&2; exit 127 ;;
esac
[ -n "$ask" ] || {{ echo "sudo: a password is required" >&2; exit 1; }}
echo "We trust you have received the usual lecture." >&2
for try in 1 2 3; do
  printf %s "$prompt" >&2
  IFS= read -r given || exit 1
  echo "try" >>{folder}/tries
  [ "$given" != "pa ss'w\"ord" ] || exec "$@"
  echo "Das hat nicht funktioniert." >&2
done
exit 1
"""

PASSWORD = "pa ss'w\"ord"
Prepare = Callable[..., list[Host]]


@pytest.fixture
def prepare(server: Sshd, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Hosts that need sudo, whose sudo behaves as told."""
    (tmp_path / "bin" / "sudo").write_text(SUDO.format(folder=tmp_path))
    (tmp_path / "bin" / "sudo").chmod(0o755)
    monkeypatch.setattr(
        privilege, "ENVIRONMENT", f"/usr/bin/env -i PATH={tmp_path}/bin:{privilege.PATH} LC_ALL=C"
    )

    def begin(mode: str, *names: str, password: object = None) -> list[Host]:
        (tmp_path / "mode").write_text(mode)
        wish = {"password": password} if password else {}
        hosts = list(connect(server, *(names or ("n1",)), **wish).hosts.values())
        for host in hosts:
            assert isinstance(host, SshHost)
            host.sudo = True
        return hosts

    return begin


def tries(tmp_path: Path) -> int:
    """How many passwords sudo was given."""
    file = tmp_path / "tries"
    return len(file.read_text().splitlines()) if file.exists() else 0


CAT = Command("cat; env", about="the step")


def test_free_sudo_asks_nobody_and_is_probed_by_the_first_command(prepare: Prepare, tmp_path: Path) -> None:
    """Without a password every command is one sudo call, the first too; proxies sudo keeps are dropped."""
    (host,) = prepare("free")
    for _ in range(3):
        result = host.run(CAT, b"data\n")
        assert result.text.startswith("data\n")
        assert "proxy" not in result.text
    assert len((tmp_path / "calls").read_text().splitlines()) == 3


def test_password_is_asked_once_for_all_hosts(prepare: Prepare, tmp_path: Path) -> None:
    """Three hosts, several commands each: one question; payloads arrive without the password in them."""
    asked = Asked(PASSWORD)
    hosts = prepare("password", "n1", "n2", "n3", password=asked)
    data = bytes(range(256)) * 4000
    for host in hosts:
        for _ in range(2):
            result = host.run(Command("cat"), data)
            assert result.stdout == data
            assert result.stderr == b""
    assert asked.prompts == ["sudo password"]


def test_password_is_in_no_argument_and_no_environment(prepare: Prepare, tmp_path: Path) -> None:
    """It is typed on standard input only."""
    (host,) = prepare("password", password=Asked(PASSWORD))
    text = host.run(Command("env; tr '\\0' ' ' </proc/$PPID/cmdline; tr '\\0' ' ' </proc/$$/cmdline")).text
    assert "ss'w" not in text + (tmp_path / "calls").read_text()


def test_wrong_password_is_tried_once_in_all(prepare: Prepare, tmp_path: Path) -> None:
    """A mistyped password is one failed login, not three on each host, and is known without English."""
    from concurrent.futures import ThreadPoolExecutor

    asked = Asked("wrong")
    hosts = prepare("password", "n1", "n2", "n3", password=asked)

    def attempt(host: Host) -> str:
        with pytest.raises(LoginFailed) as caught:
            host.run(CAT, b"data")
        return str(caught.value)

    with ThreadPoolExecutor(3) as pool:
        messages = list(pool.map(attempt, hosts))
    assert all("sudo does not take the password" in message for message in messages)
    assert tries(tmp_path) == 1
    assert len(asked.prompts) == 1


def test_a_wrong_password_is_told_host_by_host(prepare: Prepare, tmp_path: Path) -> None:
    """Each line names its own host first, one says where it was tried, and what to do is said once."""
    hosts = {host.name: host for host in prepare("password", "n1", "n2", "n3", password=Asked("wrong"))}
    with pytest.raises(Unreachable) as caught:
        Fleet(hosts).each(lambda host: host.run(CAT))
    told = sorted(caught.value.hosts.values())
    assert len(told) == 3
    assert tries(tmp_path) == 1
    (tried,) = (host for host, seen in caught.value.hosts.items() if "not tried here" not in seen)
    assert told[1:] == [f"{told[0]} on {tried}, so it was not tried here"] * 2
    assert not any(seen.startswith(("n1:", "n2:", "n3:")) for seen in told)
    assert caught.value.hint == privilege.RETYPE


def test_password_wanted_and_nobody_to_ask(prepare: Prepare, tmp_path: Path) -> None:
    """Without a terminal: a plain error, and nothing was typed."""
    (host,) = prepare("password")
    with pytest.raises(LoginFailed, match="n1: sudo asks for a password and nobody can be asked"):
        host.run(CAT)
    assert tries(tmp_path) == 0


@pytest.mark.parametrize(
    ("mode", "seen"),
    [
        ("tty", "must have a tty"),
        ("denied", "not in the sudoers file"),
        ("broken", "sudo does not let .* run commands as root: env: 'timeout'"),
    ],
)
def test_sudo_that_refuses_is_quoted_with_the_fix(prepare: Prepare, mode: str, seen: str) -> None:
    """requiretty, missing rights, a host that lacks what we run: sudo's own words, and the sudoers line that mends it."""
    (host,) = prepare(mode, password=Asked(PASSWORD))
    with pytest.raises(LoginFailed, match=seen) as caught:
        host.run(CAT)
    assert "NOPASSWD: ALL" in caught.value.hint
    assert "!requiretty" in caught.value.hint


def test_no_sudo_at_all(prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without sudo is told from one that refuses."""
    (host,) = prepare("free")
    (tmp_path / "bin" / "sudo").unlink()
    for name in ("sh", "timeout", "dd"):
        (tmp_path / "bin" / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setattr(privilege, "ENVIRONMENT", f"/usr/bin/env -i PATH={tmp_path}/bin LC_ALL=C")
    with pytest.raises(LoginFailed, match="there is no sudo"):
        host.run(CAT)


def test_sudo_taken_away_in_the_middle(prepare: Prepare, tmp_path: Path) -> None:
    """sudo worked and then does not: nothing runs, and the error says so."""
    (host,) = prepare("free")
    host.run(CAT)
    (tmp_path / "mode").write_text("denied")
    with pytest.raises(LoginFailed, match="not in the sudoers file"):
        host.run(CAT, b"data")


def test_commands_that_need_no_root_need_no_sudo(prepare: Prepare, tmp_path: Path) -> None:
    """`root=False` never calls sudo."""
    (host,) = prepare("denied")
    assert host.run(Command("echo on", root=False)).text == "on\n"
    assert not (tmp_path / "calls").exists()


def test_streams_and_held_commands_become_root_too(prepare: Prepare) -> None:
    """With a password as well."""
    (host,) = prepare("password", password=Asked(PASSWORD))
    assert list(host.lines(Command("echo one; echo two"))) == ["one", "two"]
    held = host.hold(Command("echo held; cat >/dev/null"))
    assert held.first_line == "held"
    assert held.alive()
    held.close()
    assert not held.alive()
