"""Leaves of former generations: replaced, and valid until they end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..secret import Secret
from . import reading
from .authority import Credential
from .inspect import Leaf, read_leaf
from .profiles import Kind


@dataclass(frozen=True)
class Replaced:
    """A leaf that a node had once."""

    node: str
    kind: Kind
    credential: Credential
    leaf: Leaf


def replaced(root: Path, serial: str) -> Replaced | None:
    """Find a leaf by its serial in the generations that are still on disk; None if none has it."""
    for number in reversed(reading.numbered(root / "generations")):
        for kind in Kind:
            for path in sorted((root / "generations" / number).glob(f"*/{kind.stem}.crt")):
                found = _read(path)
                if found and found[1].serial == serial:
                    return Replaced(path.parent.name, kind, *found)
    return None


def _read(path: Path) -> tuple[Credential, Leaf] | None:
    """Read a leaf; None if it is damaged: nobody uses a former generation."""
    try:
        pem, key = path.read_bytes(), Secret(path.with_suffix(".key").read_bytes())
        return Credential(pem, key), read_leaf(pem)
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", "give the store to yourself with chown"
        ) from error
