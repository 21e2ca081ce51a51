"""What is said of a way to a host that gave no connection."""

from __future__ import annotations

import pytest

from etcdctl_remote.remote.ssh_config import Endpoint
from etcdctl_remote.remote.wire import not_connected


def server(proxy: str | None = None) -> Endpoint:
    return Endpoint("10.0.0.1", 22, "ops", proxy_command=proxy)


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(104, "Connection reset by peer")])
def test_a_proxy_command_that_ends_is_no_sshd(error: Exception) -> None:
    """Its own line is named to try by hand; without one it is sshd that closed."""
    told = not_connected(error, server("nc -x gate %h %p"), "n1")
    assert "ProxyCommand gave no connection" in told.message
    assert told.hint == "try it by hand: `nc -x gate %h %p`"
    assert "closed before sshd greets" in not_connected(error, server(), "n1").message
