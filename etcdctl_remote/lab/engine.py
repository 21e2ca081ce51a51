"""The container engine: the one that answers, else Debian's `docker.io`, installed and started."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Failed
from .machine import Say, need, quiet, sh

if TYPE_CHECKING:
    from docker import DockerClient

LOG = Path("/var/log/etcdctl-remote-engine.log")
START_SECONDS = 60.0


def connect(say: Say = quiet) -> DockerClient:
    """Give a client of a running engine; installs and starts one where none answers."""
    client = answering()
    if client is None:
        start(say)
        client = answering()
    if client is None:
        raise Failed("the container engine stopped answering", f"its log: {LOG}")
    return client


def answering() -> DockerClient | None:
    """Give a client if an engine answers where the environment says (DOCKER_HOST), else None."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    with contextlib.suppress(DockerException, RequestException):
        client = _client()
        client.ping()
        return client
    return None


@cache
def _client() -> DockerClient:
    import docker

    return docker.from_env(timeout=120)


def start(say: Say = quiet) -> None:
    """Start the engine and wait until it answers: by systemd where that runs, else by ourselves."""
    if os.environ.get("DOCKER_HOST"):
        raise Failed(f"no container engine answers at DOCKER_HOST={os.environ['DOCKER_HOST']}")
    if os.geteuid() != 0:
        raise Failed("no container engine answers", "start docker, or run this as root")
    daemon = need("dockerd", "docker.io", "iptables", say=say)
    need("iptables", "iptables", say=say)
    _iptables_work()
    say(f"starting the container engine (log: {LOG})")
    if Path("/run/systemd/system").is_dir():
        sh(["systemctl", "start", "docker"])
        _await(None)
    else:
        _await(_spawn(daemon))


def _iptables_work() -> None:
    """Check that the kernel takes NAT rules: without them the engine dies at its first network."""
    try:
        sh(["iptables", "-t", "nat", "-L", "-n"])
    except Failed as error:
        hint = "the kernel needs nf_tables or ip_tables with NAT; or update-alternatives --config iptables"
        raise Failed(f"no container network without iptables: {error.message}", hint) from error


def _spawn(daemon: str) -> subprocess.Popen[bytes]:
    """Run dockerd in a session of its own: it outlives us, and no Ctrl-C reaches it."""
    with LOG.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - a fixed program
            [daemon], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _await(process: subprocess.Popen[bytes] | None) -> None:
    deadline = time.monotonic() + START_SECONDS
    while answering() is None:
        if process is not None and process.poll() is not None:
            raise Failed(f"dockerd ended with exit {process.returncode}: {_last_error()}", f"its log: {LOG}")
        if time.monotonic() > deadline:
            raise Failed(f"the engine did not answer within {START_SECONDS:.0f} s", f"its log: {LOG}")
        time.sleep(0.3)


def _last_error() -> str:
    lines = LOG.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"
