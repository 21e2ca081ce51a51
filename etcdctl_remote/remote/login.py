"""Log in with a key: the one the inventory names, the agent's, or those that OpenSSH would try.

With `remote.connection` the only module that knows paramiko.
"""

from __future__ import annotations

import shlex
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_identity

from ..errors import LoginFailed, Problem
from ..secret import Secret
from .host_keys import OfferedKey
from .keys import is_public, public_blob
from .ssh_config import Endpoint


def no_passphrase(path: Path) -> Secret:
    """Refuse to ask: there is nobody to answer."""
    raise LoginFailed(
        f"the key {path} has a passphrase and nobody can be asked",
        f"add it to the agent: ssh-add {shlex.quote(str(path))}",
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
        if is_public(path):
            raise _public_half(path) from error
        raise LoginFailed(
            f"{path} is no private key we can read: {error}", "name another with `ssh.key`"
        ) from error


def _public_half(path: Path) -> LoginFailed:
    """Say that the other half is wanted, and which file that is."""
    private = path.with_suffix("") if path.suffix == ".pub" else None
    return LoginFailed(
        f"{path} is the public half of a key, and the private one is needed",
        f"`ssh.key: {private}`" if private else "name the private key with `ssh.key`",
    )


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
            if "timeout" in str(error):  # the host did not answer: this is no word about the key
                raise paramiko.SSHException(str(error)) from error
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
            f"try `{self.server.by_hand}`; name user and key with "
            "`ssh: {user: …, key: …}`, or put the key on the host with ssh-copy-id",
        )


def unlock(server: Endpoint, keyring: Keyring, host: str) -> None:
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
