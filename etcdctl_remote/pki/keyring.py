"""Open and seal CA keys: age files, opened by a passphrase or by an identity.

What was typed or opened is kept in memory until the run ends, so it is asked for once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..desired.model import CaKeySpec
from ..errors import UsageError
from ..secret import Secret

Ask = Callable[[str], Secret]

HEADER = b"age-encryption.org/v1\n"
_SCRYPT = b"-> scrypt "
_WAYS = "run it from a terminal, or say where it comes from: env:NAME or fd:NUMBER"


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
        return Passphrase(self.source, self.ask).get(what) if self.source == "ask" else self.get(what)

    def _read(self, what: str, *, new: bool) -> Secret:
        kind, _, place = self.source.partition(":")
        if kind == "env":
            if place not in os.environ:
                raise UsageError(f"the passphrase {what} should be in ${place}, which is not set")
            return Secret(os.environ[place].encode())
        if kind == "fd":
            return _from_descriptor(int(place), what)
        if self.ask is None:
            raise UsageError(f"the passphrase {what} is needed, and there is nobody to ask", _WAYS)
        typed = self.ask(f"{'New passphrase' if new else 'Passphrase'} {what}")
        if new and self.ask(f"Again: new passphrase {what}") != typed:
            raise UsageError("the two passphrases differ; nothing was changed", "run it again")
        return typed


def _from_descriptor(number: int, what: str) -> Secret:
    try:
        with os.fdopen(number, "rb", closefd=False) as stream:
            content = stream.read()
    except OSError as error:
        raise UsageError(
            f"the passphrase {what} should come from file descriptor {number}: {error.strerror}",
            f"for example: … {number}< FILE",
        ) from error
    return Secret(content.removesuffix(b"\n").removesuffix(b"\r"))


@dataclass
class Keyring:
    """What opens and seals the CA keys of one cluster, as its inventory says."""

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
        raise UsageError(
            f"{text!r} is no recipient that can be used: {error}", "see `age-keygen -y`"
        ) from error


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
