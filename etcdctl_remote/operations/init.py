"""Write an inventory, never over a file that is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..desired.init import json_schema, new_inventory
from ..errors import UsageError


def init(path: str, *, cluster: str, nodes: Sequence[str], version: str, user: str) -> Path:
    """Write the inventory and return its path."""
    target = Path(path or "inventory.yaml").expanduser()
    options = {key: value for key, value in (("version", version), ("user", user)) if value}
    text = new_inventory(cluster, nodes, **options)
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UsageError(
            f"{target} is there already; nothing was written", "choose another --inventory"
        ) from error
    return target


__all__ = ["init", "json_schema"]
