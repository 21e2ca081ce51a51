"""From the text of `inventory.yaml` to a `ClusterSpec`, or to all of its mistakes at once.

Three readers look at the same tree and none stops the others: YAML itself, the schema (types,
names, addresses), and the checks across keys. Every mistake keeps its line and column.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import errors
from . import checks, service, settings, versions, yamltree
from .model import (
    CaKeySpec,
    ClusterSpec,
    ExternalSpec,
    NodeSpec,
    PathsSpec,
    PkiSpec,
    PortsSpec,
    ReleaseSpec,
    SshSpec,
)
from .suggest import meant
from .yamltree import Mistake, Tree

if TYPE_CHECKING:
    from . import schema

HINT = "`init` writes an inventory to start from; the README has every key"


def load(path: Path) -> ClusterSpec:
    """Read an inventory file; UsageError lists everything wrong with it."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        hint = "write one with `init`, or name it with `--inventory`"
        raise errors.UsageError(f"{path}: there is no such inventory", hint) from error
    except UnicodeDecodeError as error:
        raise errors.UsageError(f"{path}:1:1: not UTF-8 text (byte {error.start}); expected YAML") from error
    except OSError as error:
        raise errors.UsageError(f"{path}: cannot be read: {error.strerror}") from error
    return parse(text, path)


def parse(text: str, path: Path) -> ClusterSpec:
    """Read the text of an inventory; `path` names it in messages and anchors relative paths."""
    tree = yamltree.parse(text)
    if tree.data is None or not isinstance(tree.data, Mapping):
        if not tree.mistakes:
            tree.mistakes.append(Mistake(1, 1, "not an inventory; expected `cluster`, `version` and `nodes`"))
        raise _usage(path, tree.mistakes)
    model, wrong = _validate(tree)
    across, warnings = checks.mistakes(tree)
    found = tree.mistakes + wrong + across
    if found or model is None:
        raise _usage(path, found)
    return _cluster(model, path, tuple(_lines(path, warnings)))


def _usage(path: Path, mistakes: Iterable[Mistake]) -> errors.UsageError:
    lines = list(_lines(path, mistakes))
    return errors.UsageError("\n".join(lines), HINT)


def _lines(path: Path, mistakes: Iterable[Mistake]) -> Iterable[str]:
    ordered = sorted(mistakes, key=lambda mistake: (mistake.line, mistake.column))
    return dict.fromkeys(f"{path}:{found.line}:{found.column}: {_printable(found.text)}" for found in ordered)


def _printable(text: str) -> str:
    """Spell out control characters: what is quoted from a file must not steer a terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _validate(tree: Tree) -> tuple[schema.Inventory | None, list[Mistake]]:
    import pydantic

    from . import schema

    try:
        return schema.Inventory.model_validate(tree.data), []
    except pydantic.ValidationError as error:
        return None, [_mistake(tree, found, schema.Inventory) for found in error.errors()]


def _mistake(tree: Tree, found: Any, model: type[schema.Inventory]) -> Mistake:
    """Turn one of pydantic's errors into a sentence: what is wrong; what was expected."""
    loc = _place(tree, tuple(found["loc"]))
    kind, key = found["type"], str(loc[-1]) if loc else ""
    if kind == "extra_forbidden":
        known = _keys(model, loc[:-1])
        elsewhere = _home(model, key, loc)
        hint = elsewhere or meant(key, known, f"one of {', '.join(known)}")
        return tree.mistake(loc, f"unknown key `{key}`; {hint}", key=True)
    if kind == "missing":
        return tree.mistake(loc[:-1], f"`{key}` is missing; expected {_described(model, loc)}")
    if kind == "value_error":
        return tree.mistake(loc, str(found["ctx"]["error"]), key="[key]" in found["loc"])
    while loc and loc not in tree.values:
        loc = loc[:-1]
    return tree.mistake(loc, f"{_seen(tree, loc)}; expected {_expected(found, tree.written.get(loc, ''))}")


def _place(tree: Tree, loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Drop what pydantic adds to a path: the names of union branches and the word for keys."""
    path: tuple[str | int, ...] = ()
    for part in loc:
        if part == "[key]":
            continue
        inside = (*path, part) in tree.values or path in ((), *_SECTIONS) or part == loc[-1]
        scalar_branch = part in _BRANCHES or str(part).startswith(("list[", "dict[", "function-"))
        if inside and not scalar_branch:
            path = (*path, part)
    return path


_SECTIONS = tuple((name,) for name in ("nodes", "ssh", "release", "paths", "ports", "pki"))
_BRANCHES = frozenset({"str", "int", "float", "bool", "none"})


def _seen(tree: Tree, path: tuple[str | int, ...]) -> str:
    """Say what stands there, as the file spells it."""
    value: Any = tree.data
    for part in path:
        value = value[part]
    name = f"`{path[-1]}`" if path else "the file"
    if path and isinstance(path[-1], int):
        name = f"item {path[-1] + 1} of `{path[-2]}`"
    kinds = {dict: "a map", list: "a list", str: f"the text {value!r}", type(None): "empty"}
    return f"{name} is {kinds.get(type(value)) or tree.written.get(path, value)}"


def _expected(found: Any, seen: str) -> str:
    kind, context = found["type"], found.get("ctx", {})
    if kind == "string_type":
        value = found["input"]
        return f'text: write it in quotes, "{seen}"' if isinstance(value, int | float) else "text"
    words = {
        "int_type": "a whole number",
        "float_type": "a number",
        "bool_type": "true or false",
        "list_type": "a list: [a, b]",
        "dict_type": "a map",
        "model_type": "a map",
        "too_short": "at least one",
    }
    if kind in words:
        return words[kind]
    if kind == "literal_error":
        return str(context["expected"]).replace("'", "")
    bounds = {
        "greater_than_equal": "ge",
        "less_than_equal": "le",
        "greater_than": "gt",
        "too_long": "max_length",
    }
    signs = {"ge": "at least", "le": "at most", "gt": "more than", "max_length": "at most"}
    if kind in bounds:
        return f"{signs[bounds[kind]]} {context[bounds[kind]]}"
    return str(found["msg"]).removeprefix("Input should be ")


def _keys(model: type[Any], path: tuple[str | int, ...]) -> list[str]:
    """List the keys that exist at this place."""
    fields = model.model_fields
    if not path:
        return list(fields)
    inner = _submodel(fields[str(path[0])].annotation) if path[0] in fields else None
    rest = path[2:] if path[0] == "nodes" else path[1:]
    return _keys(inner, rest) if inner else []


def _submodel(annotation: Any) -> type[Any] | None:
    """Find the model inside `Node`, `dict[Name, Member]` and the like."""
    if hasattr(annotation, "model_fields"):
        return annotation  # type: ignore[no-any-return]
    inner = [_submodel(part) for part in getattr(annotation, "__args__", ())]
    return next((found for found in inner if found), None)


def _home(model: type[Any], key: str, loc: tuple[str | int, ...]) -> str:
    """Say where a misplaced key belongs, if exactly one other section has it."""
    homes = [section for section in model.model_fields if key in _keys(model, (section,))]
    if len(loc) == 1 and len(homes) == 1:
        return f"expected it under `{homes[0]}`"
    return "expected it at the top level" if len(loc) > 1 and key in model.model_fields else ""


def _described(model: type[Any], loc: tuple[str | int, ...]) -> str:
    fields = model.model_fields if len(loc) == 1 else {}
    found = fields.get(str(loc[-1]))
    return str(found.description) if found else "it here"


def _cluster(model: schema.Inventory, path: Path, warnings: tuple[str, ...]) -> ClusterSpec:
    version = versions.wanted(model.version)
    home = path.absolute().parent
    archive = _local(model.release.archive, home)
    return ClusterSpec(
        name=model.cluster,
        version=version,
        nodes=tuple(_node(model, name, home) for name in model.nodes),
        source=path,
        release=ReleaseSpec(model.release.url, str(archive) if archive else None, model.release.sha256),
        service=service.resolve(model.service),
        paths=PathsSpec(**model.paths.model_dump()),
        ports=PortsSpec(**model.ports.model_dump()),
        user=model.user,
        pki=_pki(model.pki, model.cluster, home),
        warnings=warnings,
    )


def _pki(model: schema.Pki, cluster: str, home: Path) -> PkiSpec:
    key = model.ca_key
    sealing = CaKeySpec(key.protect, key.passphrase, tuple(key.recipients), _local(key.identity, home))
    plain = model.model_dump(exclude={"names", "ca_key", "external"})
    external = _external(model.external, cluster, home) if model.external else None
    return PkiSpec(**plain, names=tuple(model.names), ca_key=sealing, external=external)


def _external(model: schema.External, cluster: str, home: Path) -> ExternalSpec:
    folder = model.folder or (None if model.command else f"certs/{cluster}/requests")
    return ExternalSpec(
        trust=_anchored(model.trust, home),
        peer_trust=_local(model.peer_trust, home),
        folder=_local(folder, home),
        command=tuple(model.command or ()),
        peer_command=tuple(model.peer_command or ()),
    )


def _node(model: schema.Inventory, name: str, home: Path) -> NodeSpec:
    node = model.nodes[name]
    return NodeSpec(
        name=name,
        host=node.host or node.address or "",
        address=node.address,
        interface=node.interface,
        advertise=node.advertise,
        names=tuple(node.names),
        settings=settings.resolve(versions.wanted(model.version), model.settings, node.settings),
        ssh=_ssh(model.ssh, node.ssh, home),
    )


def _ssh(common: schema.Ssh, own: schema.Ssh, home: Path) -> SshSpec:
    """Merge the node's keys over the cluster's: what is written wins, even if it is empty."""
    merged = common.model_dump(exclude_unset=True) | own.model_dump(exclude_unset=True)
    merged["jump"] = tuple(merged.get("jump") or ())
    for key in ("key", "known_hosts"):
        merged[key] = _local(merged.get(key), home)
    return SshSpec(**merged)


def _local(text: str | None, home: Path) -> Path | None:
    """Expand `~`, and anchor a relative path at the inventory."""
    return None if text is None else _anchored(text, home)


def _anchored(text: str, home: Path) -> Path:
    return Path(os.path.normpath(home / Path(text).expanduser()))
