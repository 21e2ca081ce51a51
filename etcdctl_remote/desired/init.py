"""A first inventory from a few words, and the JSON schema that editors use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import errors
from . import settings, versions, words
from .owned import OWNED

TEXT = """\
# {count} etcd {member}; `check` looks at the hosts, `deploy` makes the cluster.
# Every key there is: inventory.yaml in the sources of etcdctl-remote.
cluster: {cluster}
version: "{version}"
{ssh}
nodes:
{nodes}

# settings:                         # etcd flags, checked against {version} before a host is touched
#   quota-backend-bytes: 8589934592
# release:                          # without a way to the internet: an archive on this computer
#   archive: releases/etcd-v{{version}}-linux-{{arch}}.tar.gz
"""
NO_USER = """\
# ssh:                              # what is not said here comes from your OpenSSH configuration
#   user: ops
"""
SCHEMA = "http://json-schema.org/draft-07/schema#"


def new_inventory(
    cluster: str, nodes: Sequence[str], version: str | None = None, user: str | None = None
) -> str:
    """Write an inventory for nodes given as `name=address`; UsageError lists every mistake."""
    mistakes: list[str] = []
    release = version or str(versions.newest())
    _try(versions.wanted, release, "--version", mistakes)
    pairs = [_pair(node, mistakes) for node in nodes]
    _try(words.name, cluster, "--cluster", mistakes)
    if user is not None:
        _try(words.login, user, "--user", mistakes)
    for what, values in (
        ("name", [name.casefold() for name, _ in pairs]),
        ("address", [a for _, a in pairs]),
    ):
        mistakes += [f"--node: {what} {value} is given twice" for value in _repeated(values)]
    if not nodes:
        mistakes.append("no nodes; expected --node NAME=ADDRESS, once for each")
    if mistakes:
        raise errors.UsageError("\n".join(mistakes), _ways_out(mistakes))
    return TEXT.format(
        count=len(pairs),
        member="member" if len(pairs) == 1 else "members",
        cluster=_quoted(cluster),
        version=release.removeprefix("v"),
        ssh=f"ssh:\n  user: {_quoted(user)}\n" if user else NO_USER,
        nodes="\n".join(f"  {_quoted(name)}: {_quoted(address)}" for name, address in pairs),
    )


def json_schema() -> dict[str, Any]:
    """Describe the inventory for editors (`# yaml-language-server: $schema=…`)."""
    from . import schema

    found = schema.Inventory.model_json_schema()
    flags = {"enum": sorted(set(settings.flags()) - set(OWNED))}
    for holder in (found, found["$defs"]["Node"]):
        holder["properties"]["settings"]["propertyNames"] = flags
    return {"$schema": SCHEMA, **found}


def _ways_out(mistakes: Sequence[str]) -> str:
    """Say how it is written, of those flags alone that were wrong."""
    release = [mistake for mistake in mistakes if mistake.startswith("--version: ")]
    known = (
        f"--version: X.Y.Z of a line that is known ({', '.join(versions.lines())}); without it, the newest"
    )
    ways = [known] if release else []
    if len(mistakes) > len(release):
        ways.append("for example: --cluster demo --node n1=10.0.0.11")
    return "; ".join(ways)


def _pair(text: str, mistakes: list[str]) -> tuple[str, str]:
    name, equals, address = text.partition("=")
    if not equals:
        mistakes.append(f"--node {text}: expected NAME=ADDRESS")
        return text, text
    where = f"--node {text}"
    return _try(words.name, name.strip(), where, mistakes), _try(
        words.address, address.strip().strip("[]"), where, mistakes
    )


def _try(check: Any, text: str, where: str, mistakes: list[str]) -> str:
    try:
        return str(check(text))
    except ValueError as error:
        mistakes.append(f"{where}: {error}")
        return text


def _repeated(values: Sequence[str]) -> list[str]:
    return sorted({value for value in values if values.count(value) > 1})


def _quoted(text: str) -> str:
    """Put quotes where YAML 1.1 might see a number, a truth or a time in a plain word."""
    import yaml

    plain = text[:1].isalpha() or text.count(".") == 3
    safe = plain and ":" not in text and isinstance(yaml.safe_load(text), str)
    return text if safe else f'"{text}"'
