"""Decide whether a server's host key may be trusted, as OpenSSH would.

known_hosts files are read line by line: a line that cannot be read is skipped, never
fatal, because the file is the operator's and other programs write to it too.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
import re
import shlex
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import HostKeyRefused
from .ssh_config import Endpoint

_appending = threading.Lock()


@dataclass(frozen=True)
class KnownKey:
    """One usable line of a known_hosts file."""

    names: str
    kind: str
    blob: bytes
    revoked: bool
    file: Path
    line: int

    def covers(self, name: str) -> bool:
        """Whether the line speaks about `name`, by pattern or by hash."""
        if self.names.startswith("|1|"):
            return matches_hash(self.names, name)
        patterns = self.names.lower().split(",")
        if any(matches(pattern[1:], name) for pattern in patterns if pattern.startswith("!")):
            return False
        return any(matches(pattern, name) for pattern in patterns if not pattern.startswith("!"))


@dataclass(frozen=True)
class OfferedKey:
    """The key a server proved to hold."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """The key as `ssh-keygen -l` shows it."""
        return fingerprint(self.blob)


def fingerprint(blob: bytes) -> str:
    """SHA256 fingerprint in OpenSSH's form."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def matches(pattern: str, name: str) -> bool:
    """Match with `*` and `?` only: brackets are literal in `[host]:port`."""
    expression = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch(expression, name) is not None


def matches_hash(hashed: str, name: str) -> bool:
    """Match a hashed name, `|1|salt|HMAC-SHA1`."""
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in hashed[3:].split("|"))
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest)


def read(file: Path) -> Iterator[KnownKey]:
    """Yield the usable lines of one file; a file that is not there has none."""
    try:
        text = file.read_text("utf-8", "replace")
    except OSError:
        return
    for number, line in enumerate(text.splitlines(), 1):
        key = parse(line, file, number)
        if key is not None:
            yield key


def parse(line: str, file: Path, number: int) -> KnownKey | None:
    """Read one line; None for comments, certificate authorities and garbage."""
    fields = line.split()
    if not fields or fields[0].startswith("#") or fields[0] == "@cert-authority":
        return None
    revoked = fields[0] == "@revoked"
    if len(fields) < 3 + revoked or (fields[0].startswith("@") and not revoked):
        return None
    names, *rest = fields[revoked:]
    try:
        blob = base64.b64decode(rest[1], validate=True)
    except (ValueError, binascii.Error):
        return None
    return KnownKey(names, rest[0], blob, revoked, file, number) if whole(rest[0], blob) else None


def whole(kind: str, blob: bytes) -> bool:
    """Whether a key blob names its own kind, and its fields fill it exactly."""
    fields = []
    while blob:
        size = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + size:
            return False
        fields.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    return len(fields) > 1 and fields[0] == kind.encode()


def known_keys(server: Endpoint) -> list[KnownKey]:
    """Everything the files say about a server, in their order."""
    found = [key for file in server.known_hosts for key in read(file) if key.covers(server.key_name)]
    return found + [key for key in server.remembered or () if key.names == server.key_name]


def known_kinds(server: Endpoint) -> tuple[str, ...]:
    """The kinds of key to ask the server for first: those we could verify."""
    return tuple(dict.fromkeys(key.kind for key in known_keys(server) if not key.revoked))


def verify(server: Endpoint, offered: OfferedKey, host: str) -> None:
    """Return if the key is known; add it if new ones are accepted; else HostKeyRefused.

    `host` is the node the operator knows, which differs from the server on a jump host.
    """
    with _appending:
        known = known_keys(server)
        refuse_revoked(known, offered, server, host)
        if any(key.blob == offered.blob and not key.revoked for key in known):
            return
        current = [key for key in known if not key.revoked]
        if current:
            raise changed(current, offered, server, host)
        if known_without_port(server, offered):
            return
        if not server.accept_new:
            raise unknown(offered, server, host)
        if server.remembered is None:
            append(server, offered, host)
        else:
            seen = KnownKey(server.key_name, offered.kind, offered.blob, False, Path("(seen just now)"), 0)
            server.remembered.append(seen)


def refuse_revoked(known: Iterable[KnownKey], offered: OfferedKey, server: Endpoint, host: str) -> None:
    """Refuse a key that a `@revoked` line names."""
    for key in known:
        if key.revoked and key.blob == offered.blob:
            raise HostKeyRefused(
                f"{host}: {server} shows a host key marked as revoked, {offered.kind} {offered.fingerprint} "
                f"({key.file}:{key.line})",
                "do not connect: whoever holds this key may not be the host; give the host a new key",
            )


def known_without_port(server: Endpoint, offered: OfferedKey) -> bool:
    """OpenSSH takes a key filed under the plain name for any port, if it is the same."""
    if server.alias or server.port == 22:
        return False
    name = server.host.lower()
    lines = [key for file in server.known_hosts for key in read(file) if key.covers(name)]
    same = [key for key in lines if key.blob == offered.blob]
    return bool(same) and not any(key.revoked for key in same)


def append(server: Endpoint, offered: OfferedKey, host: str) -> None:
    """Add one line to the first file, under a lock other processes honour too."""
    file = server.known_hosts[0]
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        raise HostKeyRefused(
            f"{host}: cannot note the new host key of {server} in {file}: {error.strerror}",
            f"make {file} writable, or name another file with `ssh.known_hosts`",
        ) from error
    with os.fdopen(handle, "ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        since = [key for key in read(file) if key.covers(server.key_name)]
        if since and all(key.blob != offered.blob for key in since):
            raise changed(since, offered, server, host)
        if not since:
            stream.write(line_for(file, server, offered))
            stream.flush()
            if file.is_file():
                os.fsync(stream.fileno())


def line_for(file: Path, server: Endpoint, offered: OfferedKey) -> bytes:
    """The line to add, after a newline where the last line lacks its own."""
    with file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END) if file.is_file() else 0
        stream.seek(max(0, size - 1))
        gap = b"\n" if size and stream.read(1) != b"\n" else b""
    key = base64.b64encode(offered.blob).decode()
    return gap + f"{server.key_name} {offered.kind} {key}\n".encode()


def unknown(offered: OfferedKey, server: Endpoint, host: str) -> HostKeyRefused:
    """Say what was offered, where we looked, and the ways to trust it."""
    files = ", ".join(str(file) for file in server.known_hosts)
    folder = server.known_hosts[0].parent
    make = "" if folder.is_dir() else f"mkdir -p -m 700 {shlex.quote(str(folder))} && "
    return HostKeyRefused(
        f"{host}: the host key of {server} is unknown: it offers {offered.kind} {offered.fingerprint}; "
        f"{server.key_name} is not in {files}",
        "compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host's own console, then "
        f"`{make}ssh-keyscan -p {server.port} {server.host} >> {shlex.quote(str(server.known_hosts[0]))}` "
        f"or log in once with `{server.by_hand}`; "
        "or let new keys be noted at first sight: `ssh: {host_keys: accept-new}`",
    )


def changed(known: list[KnownKey], offered: OfferedKey, server: Endpoint, host: str) -> HostKeyRefused:
    """Show both fingerprints, the place of the old one, and the way out."""
    old = next((key for key in known if key.kind == offered.kind), known[0])
    return HostKeyRefused(
        f"{host}: the host key of {server} has changed: known is {old.kind} {fingerprint(old.blob)} "
        f"({old.file}:{old.line}), offered is {offered.kind} {offered.fingerprint}",
        "someone may be between you and the host. If it was reinstalled, compare the offered fingerprint on "
        f"its own console, then `ssh-keygen -R '{server.key_name}' -f {old.file}` and run again",
    )
