"""A CA key that lies encrypted on the disk: opened only when something has to be signed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..secret import Secret

Opener = Callable[[bytes, str], Secret]
"""Opens the content of an age file; the path is for messages and questions."""


@dataclass(frozen=True)
class Sealed:
    """The content of a `.key.age` file, and what opens it."""

    content: bytes = field(repr=False)
    place: str
    opener: Opener = field(repr=False, compare=False)

    def open(self) -> Secret:
        """Decrypt it; UsageError if the passphrase is wrong."""
        return self.opener(self.content, self.place)
