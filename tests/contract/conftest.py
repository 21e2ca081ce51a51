"""Fixtures for tests against a real sshd: a server, a fleet, and an OpenSSH without the tester's own config."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from etcdctl_remote.remote.fleet import Fleet
from etcdctl_remote.remote.ssh_host import SshHost
from etcdctl_remote.remote.wire import Patience
from etcdctl_remote.secret import Secret

from .sshd import SSHD, Sshd, running

QUICK = Patience(connect=5.0, ask_after=0.5, lost_after=2.0)

Start = Callable[..., Sshd]
Connect = Callable[..., Fleet]


class Asked:
    """Answers prompts, and remembers them."""

    def __init__(self, answer: str) -> None:
        self.answer, self.prompts = answer, list[str]()

    def __call__(self, prompt: str) -> Secret:
        self.prompts.append(prompt)
        return Secret(self.answer.encode())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start an sshd, and skip them where there is none."""
    for item in items:
        if "start" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.contract)
            if not SSHD:
                item.add_marker(
                    pytest.mark.skip(reason="there is no sshd here: apt-get install openssh-server")
                )


@pytest.fixture(autouse=True)
def ssh_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """OpenSSH's client reads this file instead of the tester's own; it is empty unless a test fills it."""
    config = tmp_path / "ssh_config"
    config.touch()
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return config


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers: `start("name", "Option value")`."""
    with ExitStack() as stack:

        def begin(name: str = "sshd", *options: str) -> Sshd:
            server: AbstractContextManager[Sshd] = running(tmp_path / name, *options)
            return stack.enter_context(server)

        yield begin


@pytest.fixture
def server(start: Start) -> Sshd:
    """One server."""
    return start()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect to all nodes of a server's cluster; closed after the test."""
    fleets: list[Fleet] = []

    def begin(server: Sshd, *names: str, **wish: object) -> Fleet:
        options = {name: wish.pop(name) for name in ("read_only", "password", "patience") if name in wish}
        options.setdefault("patience", QUICK)
        fleet, _ = Fleet.connect(server.cluster(*names, **wish), **options)  # type: ignore[arg-type]
        fleets.append(fleet)
        return fleet

    yield begin
    for fleet in fleets:
        fleet.close()


@pytest.fixture
def host(server: Sshd, connect: Connect) -> SshHost:
    """One connected host."""
    found = connect(server).hosts["n1"]
    assert isinstance(found, SshHost)
    found.sudo = False
    return found
