"""Open and seal CA keys: age files, opened by a passphrase or by an identity.

What was typed or opened is kept in memory until the run ends, so it is asked for once.
"""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..desired.model import CaKeySpec
from ..errors import UsageError
from ..secret import Secret

Ask = Callable[[str], Secret]

HEADER = b"age-encryption.org/v1\n"
_SCRYPT = b"-> scrypt "
_INVENTORY = "`pki.ca_key.passphrase`"


def by_passphrase(content: bytes) -> bool:
    """Whether an age file is opened by a passphrase: then that is its one stanza."""
    return content.startswith(HEADER + _SCRYPT)


def refuse_other_file(content: bytes, place: str) -> None:
    """Refuse what age did not write, before anybody is asked for what opens it."""
    if not content.startswith(HEADER):
        raise UsageError(f"{place} is no age file", "put it back from a backup, or name the right one")


@dataclass
class Passphrase:
    """A passphrase from where the operator says: asked, in the environment, on a file descriptor."""

    source: str = "ask"
    ask: Ask | None = None
    known: Secret | None = None
    by: str = _INVENTORY
    """What says where it comes from: the inventory, or a flag."""
    lacks: str = field(init=False)
    """Why nothing can come from its descriptor. Seen early: later the number may be a file of our own."""

    def __post_init__(self) -> None:
        kind, _, place = self.source.partition(":")
        self.lacks = _unusable(int(place)) if kind == "fd" else ""

    def get(self, what: str, *, new: bool = False) -> Secret:
        """Read it once in a run; a new one that is typed is typed twice."""
        if self.known is None:
            self.known = self._read(what, new=new)
        if not self.known.reveal.strip():
            self.known = None
            raise UsageError(f"the passphrase {what} is empty; nothing was changed", "give one that is not")
        return self.known

    def of_each(self, what: str) -> Secret:
        """Ask for every file anew: each may have its own. From elsewhere there is one for all."""
        return replace(self, known=None).get(what) if self.source == "ask" else self.get(what)

    def _read(self, what: str, *, new: bool) -> Secret:
        kind, _, place = self.source.partition(":")
        if kind == "env":
            if place not in os.environ:
                raise UsageError(
                    f"the passphrase {what} should be in ${place}, which is not set",
                    f"set it, or say by {self.by} where else it comes from: ask, env:NAME or fd:NUMBER",
                )
            return Secret(os.environ[place].encode())
        if kind == "fd":
            return self._from_descriptor(int(place), what)
        if self.ask is None:
            raise UsageError(f"the passphrase {what} is needed, and there is nobody to ask", self._ways())
        typed = self.ask(f"{'New passphrase' if new else 'Passphrase'} {what}")
        if new and self.ask(f"Again: new passphrase {what}") != typed:
            raise UsageError("the two passphrases differ; nothing was changed", "run it again")
        return typed

    def _ways(self) -> str:
        return f"run it from a terminal, or say by {self.by} where it comes from: env:NAME or fd:NUMBER"

    def _from_descriptor(self, number: int, what: str) -> Secret:
        content, lacks = b"", self.lacks
        if not lacks:
            try:
                with os.fdopen(number, "rb", closefd=False) as stream:
                    content = stream.read() or b""
            except OSError as error:
                lacks = os.strerror(error.errno or 0)
        if lacks:
            raise UsageError(
                f"the passphrase {what} should come from file descriptor {number}: {lacks}",
                f"for example: … {number}< FILE",
            )
        return Secret(content.removesuffix(b"\n").removesuffix(b"\r"))


def _unusable(number: int) -> str:
    """Say why a descriptor cannot be read; nothing is read from it."""
    try:
        mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "it is open for writing only" if mode == os.O_WRONLY else ""


@dataclass
class Keyring:
    """What opens and seals the CA keys of one cluster, as its inventory says; made before anything is opened."""

    spec: CaKeySpec = field(default_factory=CaKeySpec)
    ask: Ask | None = None
    opened: dict[bytes, Secret] = field(default_factory=dict)
    passphrase: Passphrase = field(init=False)

    def __post_init__(self) -> None:
        self.passphrase = Passphrase(self.spec.passphrase, self.ask)

    def open(self, content: bytes, place: str) -> Secret:
        """Decrypt a key file, once in a run; UsageError if what was given does not open it."""
        if content not in self.opened:
            self.opened[content] = self._open(content, place)
        return self.opened[content]

    def seal(self, key: Secret, what: str) -> bytes:
        """Encrypt a key as the inventory says. For recipients it is opened again: that is cheap to prove."""
        if self.spec.protect == "passphrase":
            sealed = encrypt(key, self.passphrase.get(what, new=True))
        else:
            sealed = encrypt(key, self.spec.recipients)
            self.prove(sealed, key, what)
        self.opened[sealed] = key
        return sealed

    def prove(self, sealed: bytes, key: Secret, what: str) -> None:
        """Open what was sealed; UsageError if that is not the key."""
        if self._open(sealed, what) != key:
            raise UsageError(f"{what}: what was sealed did not open again; nothing was changed")

    def _open(self, content: bytes, place: str) -> Secret:
        refuse_other_file(content, place)
        if by_passphrase(content):
            return decrypt(content, place, self.passphrase.get(f"of {place}"))
        if self.spec.identity is None:
            raise UsageError(
                f"{place} is encrypted for an age identity, and none is named",
                "name its file under `pki.ca_key.identity` (for a backup also --identity)",
            )
        return decrypt(content, place, self.spec.identity)


def encrypt(content: Secret, to: Secret | Sequence[str]) -> bytes:
    """Encrypt for a passphrase (age's scrypt, about a second of work) or for recipients."""
    import pyrage

    if isinstance(to, Secret):
        return bytes(pyrage.passphrase.encrypt(content.reveal, _text(to)))
    return bytes(pyrage.encrypt(content.reveal, [_recipient(one) for one in to]))


def decrypt(content: bytes, place: str, by: Secret | Path) -> Secret:
    """Decrypt with a passphrase or an identity file; UsageError says which of the two did not fit."""
    import pyrage

    refuse_other_file(content, place)
    try:
        if isinstance(by, Secret):
            return Secret(pyrage.passphrase.decrypt(content, _text(by)))
        return Secret(pyrage.decrypt(content, _identities(by)))
    except pyrage.DecryptError as error:
        how = "the passphrase" if isinstance(by, Secret) else f"the identity {by}"
        raise UsageError(
            f"{place} does not open: {how} is wrong, or the file is damaged ({error}); nothing was changed",
            "run it again with the right one",
        ) from error


def _text(passphrase: Secret) -> str:
    try:
        return passphrase.reveal.decode()
    except UnicodeDecodeError:
        raise UsageError("the passphrase is not UTF-8 text; nothing was changed") from None


def _recipient(text: str) -> object:
    import pyrage

    kind = pyrage.x25519.Recipient if text.startswith("age1") else pyrage.ssh.Recipient
    try:
        return kind.from_str(text)
    except pyrage.RecipientError as error:
        raise UsageError(f"{text!r} is no recipient that can be used: {error}", _wanted(text)) from error


def _wanted(text: str) -> str:
    """Say what a recipient is; of a file its content is."""
    if Path(text).expanduser().is_file():
        return f'the content of the file is wanted, not its name: "$(cat {shlex.quote(text)})"'
    return "an age recipient (age1…, `age-keygen -y` prints it), or an SSH public key: ssh-ed25519 AAAA… or ssh-rsa AAAA…"


def _identities(path: Path) -> list[object]:
    """Read a file as `age-keygen` writes it, or an SSH private key without a passphrase."""
    import pyrage

    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the identity {path} cannot be read: {error.strerror}") from error
    lines = content.decode("utf-8", "replace").splitlines()
    keys = [line.strip() for line in lines if line.strip().startswith("AGE-SECRET-KEY-")]
    try:
        if keys:
            return [pyrage.x25519.Identity.from_str(key) for key in keys]
        return [pyrage.ssh.Identity.from_buffer(content)]
    except pyrage.IdentityError as error:
        raise UsageError(
            f"{path} holds no identity that can be used: {error}",
            "an age identity file, or an SSH private key (ed25519, RSA) without a passphrase",
        ) from error
