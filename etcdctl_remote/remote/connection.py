"""Open SSH connections: the only module that knows fabric, and with `remote.login` paramiko.

fabric accepts every host key, reads ssh_config half-way, reverses jump hosts and can wait for
an hour on a frozen peer. So everything is given to it explicitly: a socket that is already
connected, a login of our own, a policy of our own, and a watchdog.
"""

from __future__ import annotations

import errno
import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import paramiko
from fabric import Config, Connection

from ..errors import ConnectionLost, Unreachable
from .host_keys import OfferedKey, known_kinds, verify
from .login import Keyring, Login, unlock
from .ssh_config import Endpoint
from .wire import Patience, Pulse, dial, mute, not_connected

logging.getLogger("paramiko").addHandler(logging.NullHandler())

ATTEMPTS = 4
"""Tries to connect while sshd drops connections at random (MaxStartups)."""
SESSION_WAIT = 30.0
"""Seconds to wait while a server has as many sessions open as it allows (MaxSessions)."""
UNTOLD = "Unable to open channel."
"""What paramiko says of a channel that was refused, where another thread has taken the reason: a
transport keeps one at a time (`Transport.get_exception`). Trying again gives a reason of its own."""
KEX_FIRST = ("curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")
CIPHERS_FIRST = ("aes256-gcm@openssh.com", "aes128-gcm@openssh.com")
"""Authenticated, and with AES-NI the cheapest in CPU of all that OpenSSH offers by default."""
WEAK = ("-cbc", "hmac-md5", "hmac-sha1")


class Policy(paramiko.MissingHostKeyPolicy):
    """Let `host_keys` decide about every key: paramiko is given no known keys of its own."""

    def __init__(self, server: Endpoint, host: str) -> None:
        self.server, self.host = server, host

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        verify(self.server, OfferedKey(key.get_name(), key.asbytes()), self.host)


@dataclass
class Link:
    """One open SSH connection, watched."""

    host: str
    server: Endpoint
    patience: Patience
    connection: Connection
    pulse: Pulse
    lost: str = ""
    forwards: dict[int, Callable[[paramiko.Channel], None]] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _global: threading.Lock = field(default_factory=threading.Lock)

    @property
    def transport(self) -> paramiko.Transport:
        return self.connection.transport  # type: ignore[no-any-return]

    @property
    def alive(self) -> bool:
        return bool(self.transport.is_active())

    def watch(self) -> None:
        """Close the transport once the peer is silent: this unblocks whatever waits on it.

        paramiko's own keepalive never looks for an answer. Silence is summed up tick by tick,
        so that a laptop that slept does not count its sleep against the peer.
        """
        tick = min(1.0, self.patience.ask_after / 3)
        silent, seen = 0.0, self.pulse.seen
        asking: threading.Thread | None = None
        while not self._over.wait(tick) and self.alive:
            silent, seen = (0.0 if self.pulse.seen != seen else silent + tick), self.pulse.seen
            if silent >= self.patience.lost_after:
                self.lost = f"no sign of life for {self.patience.lost_after:g} s"
                self.transport.close()
            elif silent >= self.patience.ask_after and not (asking and asking.is_alive()):
                asking = threading.Thread(target=self.ask, daemon=True, name=f"ssh-ask-{self.host}")
                asking.start()

    def ask(self) -> None:
        """Send a request that every server must answer, if only with a refusal."""
        with suppress(OSError, EOFError, paramiko.SSHException):
            self.global_request("keepalive@openssh.com")

    def global_request(self, kind: str, data: tuple[Any, ...] | None = None) -> paramiko.Message | None:
        """One at a time: the answers carry no number."""
        with self._global:
            return self.transport.global_request(kind, data, wait=True)

    def session(self, line: str) -> paramiko.Channel:
        """Start a command line in the login shell.

        A server allows about ten sessions on a connection, and counts one that we closed until
        it has noticed; so a refusal is waited out for a while.
        """
        end = time.monotonic() + SESSION_WAIT
        while True:
            try:
                channel = self.transport.open_session(timeout=self.patience.connect)
                channel.exec_command(line)
                return channel
            except paramiko.ChannelException as error:
                if time.monotonic() > end or error.code == 1:
                    raise Unreachable(
                        f"{self.host}: {self.server} opens no more sessions: {error.text}",
                        "see MaxSessions in its sshd_config",
                    ) from error
            except (OSError, EOFError, paramiko.SSHException) as error:
                if str(error) != UNTOLD or not self.alive or time.monotonic() > end:
                    raise self.broken(str(error)) from error
            pause(0.05)

    def dial(self, address: str, port: int, timeout: float) -> paramiko.Channel:
        """Connect from the host to an address; OSError if that fails, ConnectionLost if the link does."""
        end = time.monotonic() + timeout
        while True:
            try:
                return self._dial(address, port, timeout)
            except TimeoutError as error:
                if UNTOLD not in str(error) or time.monotonic() > end:
                    raise
            pause(0.05)

    def _dial(self, address: str, port: int, timeout: float) -> paramiko.Channel:
        try:
            return self.transport.open_channel(
                "direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=timeout
            )
        except paramiko.ChannelException as error:
            where = f"{self.host}: to {address} port {port}"
            if error.code == 1:
                raise PermissionError(
                    errno.EPERM, f"{where}: sshd forbids forwarding (AllowTcpForwarding or PermitOpen)"
                ) from error
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"{where}: {error.text}") from error
        except (OSError, EOFError, paramiko.SSHException) as error:
            if not self.alive:
                raise self.broken(str(error)) from error
            raise TimeoutError(errno.ETIMEDOUT, f"{self.host}: to {address} port {port}: {error}") from error

    def listen(self, address: str, handler: Callable[[paramiko.Channel], None]) -> int:
        """Have the host listen for us; the port it chose."""
        try:
            answer = self.global_request("tcpip-forward", (address, 0))
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self.broken(str(error)) from error
        if answer is None:
            if not self.alive:
                raise self.broken("")
            raise PermissionError(
                errno.EPERM, f"{self.host}: sshd forbids remote forwarding (AllowTcpForwarding)"
            )
        port = int(answer.get_int())
        self.forwards[port] = handler
        self.transport._tcp_handler = self._arrived  # type: ignore[attr-defined]
        return port

    def _arrived(self, channel: paramiko.Channel, origin: tuple[str, int], server: tuple[str, int]) -> None:
        handler = self.forwards.get(server[1])
        if handler is None:
            channel.close()
        else:
            handler(channel)

    def unlisten(self, address: str, port: int) -> None:
        """Stop listening; harmless on a dead link."""
        self.forwards.pop(port, None)
        with suppress(OSError, EOFError, paramiko.SSHException):
            if self.alive:
                self.global_request("cancel-tcpip-forward", (address, port))

    def broken(self, seen: str) -> ConnectionLost:
        """The error for whatever was under way."""
        reason = self.lost or seen.strip(" .") or "the connection was closed"
        return ConnectionLost(
            f"{self.host}: lost the SSH connection to {self.server}: {reason}",
            "see that the host and the network are up, then run the same task again: it continues",
        )

    def close(self) -> None:
        """Close everything; safe to call twice and from any thread."""
        self._over.set()
        with suppress(Exception):  # closing has nothing left to save
            self.connection.client.close()
        with suppress(Exception):
            self.pulse.close()


def open_link(
    server: Endpoint, host: str, keyring: Keyring, patience: Patience, via: Link | None = None
) -> Link:
    """Connect and log in. Unreachable, HostKeyRefused or LoginFailed say what was seen.

    The connect phase alone is tried again: sshd drops connections at random when many begin
    at once, and that must not fail a deploy.
    """
    unlock(server, keyring, host)
    for attempt in range(ATTEMPTS):
        try:
            return _open(server, host, keyring, patience, via)
        except (ConnectionResetError, BrokenPipeError, EOFError) as error:
            seen: Exception = error
        except paramiko.AuthenticationException as error:
            raise Unreachable(f"{host}: {server}: the login broke off: {error}", "run again") from error
        except paramiko.SSHException as error:
            seen = error
            if "banner" not in str(error):
                break
        except OSError as error:
            seen = error
            break
        pause(random.uniform(0.05, 0.25) * 2**attempt)  # noqa: S311 (jitter, no secret)
    raise not_connected(seen, server, host) from seen


def pause(seconds: float) -> None:
    """Wait before the next try."""
    threading.Event().wait(seconds)


def _open(server: Endpoint, host: str, keyring: Keyring, patience: Patience, via: Link | None) -> Link:
    """One attempt."""
    pulse = Pulse(via.dial(server.host, server.port, patience.connect) if via else dial(server, patience))
    connection = Connection(
        server.host,
        user=server.user,
        port=server.port,
        config=Config(overrides={"load_ssh_configs": False}, lazy=True),
        connect_timeout=max(1, round(patience.connect)),
        connect_kwargs={
            "sock": pulse,
            "banner_timeout": patience.connect,
            "auth_timeout": patience.connect,
            "channel_timeout": patience.connect,
            "auth_strategy": Login(server, host, keyring),
            "transport_factory": lambda sock, **options: transport(sock, server, patience, options),
        },
    )
    connection.client.set_missing_host_key_policy(Policy(server, host))
    began = time.monotonic()
    try:
        connection.open()
    except BaseException as error:
        connection.client.close()
        pulse.close()
        waited = time.monotonic() - began > 0.9 * patience.connect
        if waited and isinstance(error, paramiko.SSHException):
            raise mute(server, host, patience, greeted=pulse.seen > 0) from error
        raise
    link = Link(host, server, patience, connection, pulse)
    threading.Thread(target=link.watch, daemon=True, name=f"ssh-watch-{host}").start()
    return link


def transport(sock: Any, server: Endpoint, patience: Patience, options: dict[str, Any]) -> paramiko.Transport:
    """Prefer what is quick and safe, and the kind of host key we can verify."""
    made = paramiko.Transport(sock, **options)
    made.handshake_timeout = patience.connect
    choice = made.get_security_options()
    choice.kex = ordered(choice.kex, KEX_FIRST)
    choice.ciphers = ordered(choice.ciphers, CIPHERS_FIRST)
    choice.digests = ordered(choice.digests, ())
    choice.key_types = ordered(choice.key_types, host_key_types(server))
    return made


def ordered(offered: Any, first: tuple[str, ...]) -> tuple[str, ...]:
    """Put the preferred first and leave the weak out."""
    strong = [name for name in offered if not any(weak in name for weak in WEAK)]
    return tuple([name for name in first if name in strong] + [name for name in strong if name not in first])


def host_key_types(server: Endpoint) -> tuple[str, ...]:
    """Signature algorithms for the kinds of key that known_hosts has for the server."""
    signed_by = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
    return tuple(name for kind in known_kinds(server) for name in signed_by.get(kind, (kind,)))
