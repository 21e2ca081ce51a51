"""Read what can be known of a private key file without its passphrase."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

MAGIC = b"openssh-key-v1\0"


def public_blob(path: Path) -> bytes | None:
    """The public half, from `<path>.pub` or from the OpenSSH file itself; None if neither tells.

    Lets us use the agent's copy of an encrypted key without asking for its passphrase.
    """
    return _from_pub(path.with_name(path.name + ".pub")) or _from_private(path)


def _from_pub(path: Path) -> bytes | None:
    try:
        return base64.b64decode(path.read_text("ascii").split()[1], validate=True)
    except (OSError, ValueError, IndexError, binascii.Error):
        return None


def is_public(path: Path) -> bool:
    """Whether the file is a public key: `<kind> <base64> …`, where the base64 begins with the same kind."""
    blob = _from_pub(path)
    if blob is None:
        return False
    kind = path.read_bytes().split()[0]
    return blob.startswith(len(kind).to_bytes(4, "big") + kind)


def _from_private(path: Path) -> bytes | None:
    try:
        text = path.read_text("ascii")
        body = "".join(line for line in text.splitlines() if line and not line.startswith("-----"))
        data = base64.b64decode(body, validate=True)
    except (OSError, ValueError, binascii.Error):
        return None
    return _first_public(data.removeprefix(MAGIC)) if data.startswith(MAGIC) else None


def _first_public(data: bytes) -> bytes | None:
    """Skip cipher, KDF and its options; after a count comes the public key."""
    for _ in range(3):
        data = data[4 + int.from_bytes(data[:4], "big") :]
    size = int.from_bytes(data[4:8], "big")
    blob = data[8 : 8 + size]
    return blob if size and len(blob) == size else None
