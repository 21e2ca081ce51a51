"""Write an inventory, never over a file that is there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from ..desired.init import json_schema, new_inventory
from ..errors import UsageError


def init(path: str, *, cluster: str, nodes: Sequence[str], version: str, user: str) -> Path:
    """Write the inventory and return its path."""
    target = Path(path or "inventory.yaml").expanduser()
    options = {key: value for key, value in (("version", version), ("user", user)) if value}
    text = new_inventory(cluster, nodes, **options)
    try:
        with target.open("x", encoding="utf-8") as file:
            _fill(file, text, target)
    except FileExistsError as error:
        raise UsageError(
            f"{target} is there already; nothing was written", "choose another --inventory"
        ) from error
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}", _way_out(target)) from error
    return target


def _fill(file: TextIO, text: str, target: Path) -> None:
    """Write it all, or leave nothing: half an inventory would stand in the way of the next `init`."""
    try:
        file.write(text)
        file.flush()
    except OSError:
        with suppress(OSError):
            target.unlink()
        raise


def _way_out(target: Path) -> str:
    if target.parent.exists():
        return "choose another --inventory, in a folder you may write to"
    return f"make its folder first: mkdir -p {shlex.quote(str(target.parent))}"


__all__ = ["init", "json_schema"]
