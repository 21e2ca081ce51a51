"""YAML read into plain data, with the line and column of every key and value.

YAML 1.1 has traps that an inventory must not fall into: a repeated key silently wins, 3.10 is
the number 3.1, 0755 is 493, 12:30 is 750. Here repeated keys are reported, numbers are only
what looks like a decimal number, and the text as written stays at hand for the message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

LIMIT_BYTES = 1 << 20
LIMIT_DEPTH = 30
LIMIT_NODES = 50_000
"""Bounds after aliases are followed: a file of one screen can name a billion nodes."""

Path = tuple[str | int, ...]
INT = re.compile(r"[+-]?(0|[1-9][0-9]*)")
FLOAT = re.compile(r"[+-]?[0-9]+\.[0-9]*")


@dataclass(frozen=True)
class Mistake:
    """One thing wrong with the file: where (counted from 1) and what."""

    line: int
    column: int
    text: str


@dataclass
class Tree:
    """The data of a document and where each part of it was written."""

    data: Any = None
    mistakes: list[Mistake] = field(default_factory=list)
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    written: dict[Path, str] = field(default_factory=dict)
    """Scalars that are not text, as the file spells them."""
    seen: int = 0

    def at(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Return line and column of the value (or its key), or of what encloses it."""
        if key and path in self.keys:
            return self.keys[path]
        while path not in self.values and path:
            path = path[:-1]
        return self.values.get(path, (1, 1))

    def mistake(self, path: Path, text: str, *, key: bool = False) -> Mistake:
        """Build a mistake at this place."""
        return Mistake(*self.at(path, key=key), text)


class TooMuch(Exception):
    """The document is deeper or larger than any inventory."""


def parse(text: str) -> Tree:
    """Read one YAML document; what is wrong lands in `mistakes`, nothing is raised."""
    import yaml

    tree = Tree()
    if len(text.encode("utf-8", "replace")) > LIMIT_BYTES:
        tree.mistakes.append(Mistake(1, 1, "the file is larger than 1 MiB; expected an inventory"))
        return tree
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _bound(yaml.parse(text, Loader=loader))
        root = yaml.compose(text, Loader=loader)
        tree.data = _walk(root, (), tree) if root is not None else None
    except yaml.MarkedYAMLError as error:
        tree.mistakes.append(_syntax(error, text))
    except yaml.YAMLError as error:
        tree.mistakes.append(Mistake(1, 1, f"not YAML: {' '.join(str(error).split())}"))
    except TooMuch as error:
        tree.mistakes.append(Mistake(1, 1, str(error)))
    return tree


def _bound(events: Any) -> None:
    """Refuse deep nesting before the recursive composer meets it."""
    depth = 0
    for event in events:
        name = type(event).__name__
        depth += name.endswith("StartEvent") - name.endswith("EndEvent")
        if depth > LIMIT_DEPTH:
            raise TooMuch(f"nested more than {LIMIT_DEPTH} levels deep; expected an inventory")


def _syntax(error: yaml.MarkedYAMLError, text: str) -> Mistake:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    what = ", ".join(part for part in (error.context, error.problem) if part)
    tab = "\t" in "".join(text.splitlines()[line - 1 : line])
    hint = "; expected spaces for indentation, not tabs" if tab else ""
    return Mistake(line, column, f"not YAML: {what}{hint}")


def _walk(node: Any, path: Path, tree: Tree) -> Any:
    tree.seen += 1
    if len(path) > LIMIT_DEPTH or tree.seen > LIMIT_NODES:
        raise TooMuch("the aliases (`*name`) unfold to far too much; expected an inventory")
    tree.values[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
    if node.id == "mapping":
        return _mapping(node, path, tree)
    if node.id == "sequence":
        return [_walk(item, (*path, index), tree) for index, item in enumerate(node.value)]
    return _scalar(node, path, tree)


def _mapping(node: Any, path: Path, tree: Tree) -> dict[str, Any]:
    found: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    for key, value in node.value:
        place = (key.start_mark.line + 1, key.start_mark.column + 1)
        if key.tag == "tag:yaml.org,2002:merge":
            merged |= _merge(value, path, tree)
        elif key.id != "scalar":
            tree.mistakes.append(Mistake(*place, "a list or map as a key; expected a word"))
        elif key.value in found:
            first = tree.keys[(*path, key.value)][0]
            text = f"`{key.value}` is given twice, first in line {first}; expected it once"
            tree.mistakes.append(Mistake(*place, text))
        else:
            if key.tag != "tag:yaml.org,2002:str":
                text = f'the key {key.value} is not text in YAML; expected it in quotes: "{key.value}"'
                tree.mistakes.append(Mistake(*place, text))
            tree.keys[(*path, key.value)] = place
            found[key.value] = _walk(value, (*path, key.value), tree)
    return merged | found


def _merge(node: Any, path: Path, tree: Tree) -> dict[str, Any]:
    """Follow a merge key `<<`: one map or a list of maps, earlier ones winning."""
    sources = node.value if node.id == "sequence" else [node]
    found: dict[str, Any] = {}
    for source in reversed(sources):
        if source.id == "mapping":
            found |= _walk(source, path, tree)
        else:
            place = (source.start_mark.line + 1, source.start_mark.column + 1)
            tree.mistakes.append(Mistake(*place, "`<<` merges something else than a map; expected a map"))
    return found


def _scalar(node: Any, path: Path, tree: Tree) -> Any:
    kind, text = node.tag.rpartition(":")[2], node.value
    if kind == "str":
        return text
    tree.written[path] = text
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in ("true", "yes", "on")
    if kind == "int" and INT.fullmatch(text) and len(text) < 20:
        return int(text)
    if kind == "float" and FLOAT.fullmatch(text) and len(text) < 20:
        return float(text)
    return text
