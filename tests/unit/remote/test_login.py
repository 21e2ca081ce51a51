"""Logging in by key: what a host says of a key, and what is no word about it."""

from __future__ import annotations

from typing import Any

import paramiko
import pytest

from etcdctl_remote.remote.login import Login
from etcdctl_remote.remote.ssh_config import Endpoint


class Answering:
    """A transport whose host answers every key with this."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def auth_publickey(self, user: str, key: paramiko.PKey) -> list[str]:
        raise self.error

    def is_active(self) -> bool:
        return True


def offered(error: Exception) -> bool:
    """Offer one key; whether it was taken."""
    transport: Any = Answering(error)
    login = Login(Endpoint("10.0.0.1", 22, "ops"), "n1", None)  # type: ignore[arg-type]
    return login.try_key(transport, paramiko.ECDSAKey.generate(), [])


def test_a_refused_key_makes_way_for_the_next() -> None:
    """The host has spoken."""
    assert not offered(paramiko.AuthenticationException("Authentication failed."))


def test_a_host_that_does_not_answer_has_refused_nothing() -> None:
    """Its login hangs: that is told as a mute host, not as a wrong key."""
    with pytest.raises(paramiko.SSHException, match="timeout") as caught:
        offered(paramiko.AuthenticationException("Authentication timeout."))
    assert not isinstance(caught.value, paramiko.AuthenticationException)
