"""Open SSH connections: the only module that knows fabric and paramiko.

fabric accepts every host key, reads ssh_config half-way, reverses jump hosts and can wait for
an hour on a frozen peer. So everything is given to it explicitly: a socket that is already
connected, a login of our own, a policy of our own, and a watchdog.
"""

from __future__ import annotations

import errno
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_identity
from fabric import Config, Connection

from ..errors import ConnectionLost, LoginFailed, Problem, Unreachable
from ..secret import Secret
from .host_keys import OfferedKey, known_kinds, verify
from .keys import public_blob
from .ssh_config import Endpoint
from .wire import Patience, Pulse, dial, not_connected

logging.getLogger("paramiko").addHandler(logging.NullHandler())

ATTEMPTS = 4
"""Tries to connect while sshd drops connections at random (MaxStartups)."""
SESSION_WAIT = 30.0
"""Seconds to wait while a server has as many sessions open as it allows (MaxSessions)."""
KEX_FIRST = ("curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")
CIPHERS_FIRST = ("aes256-gcm@openssh.com", "aes128-gcm@openssh.com")
"""Authenticated, and with AES-NI the cheapest in CPU of all that OpenSSH offers by default."""
WEAK = ("-cbc", "hmac-md5", "hmac-sha1")


def no_passphrase(path: Path) -> Secret:
    """Refuse to ask: there is nobody to answer."""
    raise LoginFailed(
        f"the key {path} has a passphrase and nobody can be asked", "add it to the agent: ssh-add"
    )


@dataclass
class Keyring:
    """Private keys, each read and unlocked once for all hosts."""

    passphrase: Callable[[Path], Secret] = no_passphrase
    _loaded: dict[Path, paramiko.PKey | Problem] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self, path: Path) -> paramiko.PKey:
        """Read a key file, asking for its passphrase if it has one."""
        with self._lock:
            if path not in self._loaded:
                try:
                    self._loaded[path] = self._read(path)
                except Problem as problem:
                    self._loaded[path] = problem
            found = self._loaded[path]
        if isinstance(found, Problem):
            raise found
        return found

    def _read(self, path: Path) -> paramiko.PKey:
        try:
            return read_key(path, None)
        except TypeError:
            return self._unlock(path)

    def _unlock(self, path: Path) -> paramiko.PKey:
        secret = self.passphrase(path)
        try:
            return read_key(path, secret.reveal)
        except LoginFailed as problem:
            raise LoginFailed(
                f"the passphrase does not open the key {path}", "run again and retype it"
            ) from problem

    def candidates(self, server: Endpoint, agent: tuple[paramiko.AgentKey, ...]) -> Iterator[paramiko.PKey]:
        """Yield keys in OpenSSH's order: agent's copies of named keys, other agent keys, files.

        A key the inventory names comes before everything: it is the one that works.
        """
        held = {key.asbytes(): key for key in agent}
        waiting: list[Path] = []
        for path in server.identities:
            blob = public_blob(path)
            if blob in held:
                yield held.pop(blob)
            elif path == server.required:
                yield certified(self.load(path), server)
            else:
                waiting.append(path)
        if not server.identities_only:
            yield from held.values()
        for path in waiting:
            if path.is_file():
                yield certified(self.load(path), server)


def read_key(path: Path, password: bytes | None) -> paramiko.PKey:
    """Read one key file; TypeError if it has a passphrase and none was given."""
    try:
        return paramiko.PKey.from_path(path, password)  # type: ignore[arg-type]
    except TypeError:
        if password is None:
            raise
        return paramiko.PKey.from_path(path, None)
    except OSError as error:
        raise LoginFailed(f"the key {path} cannot be read: {error.strerror}", "mend `ssh.key`") from error
    except (ValueError, UnsupportedAlgorithm, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as error:
        raise LoginFailed(
            f"{path} is no private key we can read: {error}", "name another with `ssh.key`"
        ) from error


def certified(key: paramiko.PKey, server: Endpoint) -> paramiko.PKey:
    """Attach the CertificateFile that belongs to the key, if there is one."""
    for path in server.certificates:
        with suppress(OSError, ValueError, UnsupportedAlgorithm, paramiko.SSHException):
            public: Any = load_ssh_public_identity(path.read_bytes())
            own: Any = load_ssh_public_identity(f"{key.get_name()} {key.get_base64()}".encode())
            if public.public_key() == own:
                key.load_certificate(str(path))
    return key


class SocketAgent(paramiko.agent.AgentSSH):
    """The agent behind a given socket: paramiko itself knows only SSH_AUTH_SOCK."""

    def __init__(self, path: str | None) -> None:
        super().__init__()
        if path:
            with suppress(OSError, paramiko.SSHException):
                dialled = socket.socket(socket.AF_UNIX)
                dialled.settimeout(120)  # a person may have to touch a token
                dialled.connect(path)
                self._connect(dialled)  # type: ignore[attr-defined]

    def close(self) -> None:
        self._close()  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Login:
    """Public key login with the fewest tries: a server hangs up after about six."""

    server: Endpoint
    host: str
    keyring: Keyring

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Called by paramiko once the host key is trusted."""
        agent = SocketAgent(self.server.agent)
        tried: list[str] = []
        try:
            for key in self.keyring.candidates(self.server, agent.get_keys()):
                if self.try_key(transport, key, tried):
                    return
        finally:
            agent.close()
        raise self.refused(tried)

    def try_key(self, transport: paramiko.Transport, key: paramiko.PKey, tried: list[str]) -> bool:
        """Offer one key; remember it if it was refused."""
        tried.append(f"{key.get_name()} {OfferedKey('', key.asbytes()).fingerprint}")
        try:
            more = transport.auth_publickey(self.server.user, key)
        except paramiko.BadAuthenticationType as error:
            raise self.wants(error.allowed_types) from error
        except paramiko.AuthenticationException as error:
            if not transport.is_active():
                raise self.refused(tried) from error
            return False
        if more:
            raise self.wants(more)
        return True

    def wants(self, methods: list[str]) -> LoginFailed:
        return LoginFailed(
            f"{self.host}: {self.server} wants {', '.join(methods)} to log in, and we have only keys",
            "allow public key login on the host: ssh-copy-id",
        )

    def refused(self, tried: list[str]) -> LoginFailed:
        seen = f"refused {', '.join(tried)}" if tried else "could not be offered any key: there is none"
        files = ", ".join(str(path) for path in self.server.identities) or "no key file"
        files += " and the agent" if self.server.agent else ""
        return LoginFailed(
            f"{self.host}: {self.server} {seen} (from {files})",
            f"try `ssh -p {self.server.port} {self.server.user}@{self.server.host}`; name user and key with "
            "`ssh: {user: …, key: …}`, or put the key on the host with ssh-copy-id",
        )


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
                raise self.broken(str(error)) from error
            pause(0.05)

    def dial(self, address: str, port: int, timeout: float) -> paramiko.Channel:
        """Connect from the host to an address; OSError if that fails, ConnectionLost if the link does."""
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
    if server.required is not None:
        keyring_check(server, keyring, host)
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


def keyring_check(server: Endpoint, keyring: Keyring, host: str) -> None:
    """Unlock the key the inventory names before dialling: sshd hangs up on slow typists."""
    path = server.required
    if path is None:
        return
    blob = public_blob(path)
    agent = SocketAgent(server.agent) if blob and server.agent else None
    held = {key.asbytes() for key in agent.get_keys()} if agent else set()
    if agent:
        agent.close()
    if blob not in held:
        try:
            keyring.load(path)
        except LoginFailed as problem:
            raise LoginFailed(f"{host}: {problem.message}", problem.hint) from problem


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
    try:
        connection.open()
    except BaseException:
        connection.client.close()
        pulse.close()
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
