"""What the parts of an inventory must be to each other.

These look at the plain data, whatever its shape, so that they can speak in the same breath as
the schema: all mistakes at once. A part of the wrong type is the schema's to report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from . import service, signers, versions, words
from .model import Version
from .relations import relations
from .settings import Complaint, check, resolve
from .yamltree import Mistake, Path, Tree

Found = tuple[Path, bool, str]
"""Where, whether the key is meant, what."""


def mistakes(tree: Tree) -> tuple[list[Mistake], list[Mistake]]:
    """List errors and warnings across keys, sections and nodes."""
    data = tree.data
    errors = [tree.mistake(path, text, key=key) for path, key, text in _errors(data)]
    said = list(_settings(data)) + [
        (("service", item.flag), item) for item in service.check(_map(data, "service"))
    ]
    errors += [tree.mistake(path, item.text, key=True) for path, item in said if not item.warning]
    warnings = [tree.mistake(path, item.text, key=True) for path, item in said if item.warning]
    warnings += [tree.mistake(path, text, key=key) for path, key, text in _warnings(data)]
    return errors, warnings


def _errors(data: object) -> Iterator[Found]:
    nodes = _map(data, "nodes")
    for name, node in nodes.items():
        yield from _one_node(("nodes", name), node)
    yield from _twice(nodes)
    yield from _loopback(nodes)
    yield from _ports(_map(data, "ports"))
    yield from _paths(data)
    yield from _release(data)
    pki = _map(data, "pki")
    if _whole(pki.get("leaf_days", 365)) > _whole(pki.get("ca_days", 3650)) > 0:
        yield ("pki", "leaf_days"), False, "a certificate outlives its CA; expected at most `ca_days`"
    yield from signers.errors(pki)


def _one_node(path: Path, node: object) -> Iterator[Found]:
    if isinstance(node, Mapping):
        address, interface = node.get("address"), node.get("interface")
        if address is not None and interface is not None:
            yield (*path, "interface"), True, "both `address` and `interface`; expected one of them"
        elif address is None and interface is None:
            yield path, True, f"node `{path[-1]}` has no address; expected `address` or `interface`"
        elif interface is not None and node.get("host") is None:
            text = "with `interface` there is nothing SSH could dial; expected `host` beside it"
            yield (*path, "interface"), True, text
    elif node is None:
        yield path, True, f"node `{path[-1]}` has no address; expected an IPv4 or IPv6 address"


def _twice(nodes: Mapping[str, object]) -> Iterator[Found]:
    """Members must differ in name, in what others dial, and in what SSH dials."""
    seen: dict[tuple[str, str], str] = {}
    for name, node in nodes.items():
        for what, value, path in _identities(name, node):
            first = seen.setdefault((what, value.casefold()), name)
            if first != name:
                yield path, what == "name", f"{what} {value} is already node `{first}`'s; expected its own"


def _identities(name: str, node: object) -> Iterator[tuple[str, str, Path]]:
    path: Path = ("nodes", name)
    yield "name", name, path
    parts = node if isinstance(node, Mapping) else {"address": node}
    dialled = parts.get("advertise") or parts.get("address")
    key = "advertise" if parts.get("advertise") else "address"
    if isinstance(dialled, str):
        yield "address", _plain(dialled), (*path, key)
    host = parts.get("host")
    if isinstance(host, str):
        port = _map(parts, "ssh").get("port")
        yield "host", host + (f" port {port}" if port else ""), (*path, "host")


def _loopback(nodes: Mapping[str, object]) -> Iterator[Found]:
    for name, node in nodes.items():
        parts = node if isinstance(node, Mapping) else {"address": node}
        address = parts.get("address")
        if len(nodes) > 1 and isinstance(address, str) and words.is_loopback(address):
            text = f"{address} is this host itself, the others cannot dial it; expected a routable address"
            yield ("nodes", name, "address"), False, text


def _ports(ports: Mapping[str, object]) -> Iterator[Found]:
    taken = {"client": 2379, "peer": 2380} | {key: port for key, port in ports.items() if port is not None}
    for key, port in taken.items():
        other = next(other for other, same in taken.items() if same == port)
        if other != key:
            path = ("ports", key if key in ports else other)
            yield path, False, f"port {port} is both `{other}` and `{key}`; expected different ports"


def _paths(data: object) -> Iterator[Found]:
    paths = _map(data, "paths")
    given = {"config": "/etc/etcd", "data": "/var/lib/etcd"} | {
        key: value.rstrip("/") for key, value in paths.items() if isinstance(value, str)
    }
    for key, path in given.items():
        for other, outer in given.items():
            inside = path.startswith(outer + "/") and "bin" not in (key, other)
            if key in paths and (inside or (key > other and path == outer)):
                where = "the same as" if path == outer else "inside"
                yield ("paths", key), False, f"{path} is {where} `{other}`; expected a directory of its own"
    for prefix, option in (("/home/", "ProtectHome"), ("/root/", "ProtectHome"), ("/tmp/", "PrivateTmp")):  # noqa: S108
        for key, path in given.items():
            hidden = f"{path}/".startswith(prefix) and option not in _map(data, "service")
            if hidden:
                text = f"the unit hides {prefix} ({option}); expected another directory, or {option} changed"
                yield ("paths", key), False, text + " under `service`"


def _release(data: object) -> Iterator[Found]:
    release, version = _map(data, "release"), _version(data)
    url, sums = release.get("url"), _map(release, "sha256")
    plain = isinstance(url, str) and url.startswith("http://") and not release.get("archive")
    pinned = any(version and name.startswith(f"etcd-v{version}-linux-") for name in sums)
    if plain and not pinned:
        text = "plain http can be forged; expected https, or the archive's sum under `release.sha256`"
        yield ("release", "url"), False, text


def _settings(data: object) -> Iterator[tuple[Path, Complaint]]:
    version, common = _version(data), _map(data, "settings")
    if version is None:
        return
    for item in check(common, version):
        yield ("settings", item.flag), item
    for name, node in _map(data, "nodes").items():
        own = _map(node, "settings")
        for item in check(own, version):
            yield ("nodes", name, "settings", item.flag), item
        for item in relations(resolve(version, common, own)):
            path: Path = ("nodes", name, "settings") if item.flag in own else ("settings",)
            yield (*path, item.flag), item


def _warnings(data: object) -> Iterator[Found]:
    nodes, version = _map(data, "nodes"), _version(data)
    if len(nodes) > 1 and len(nodes) % 2 == 0:
        text = f"{len(nodes)} members tolerate no more losses than {len(nodes) - 1}; expected an odd count"
        yield ("nodes",), True, text
    if len(nodes) > 7:
        yield ("nodes",), True, f"{len(nodes)} members make every write slow; expected at most 7"
    for advice in versions.advice(version) if version else ():
        yield ("version",), False, advice
    for flag in ("heartbeat-interval", "election-timeout"):
        if len({str(_map(node, "settings").get(flag)) for node in nodes.values()}) > 1:
            yield ("nodes",), True, f"`{flag}` differs between nodes; expected the same on all"
    if isinstance(data, Mapping) and data.get("user") == "root":
        yield ("user",), False, "etcd needs no root; expected a system user such as etcd"


def _version(data: object) -> Version | None:
    text = data.get("version") if isinstance(data, Mapping) else None
    try:
        return versions.wanted(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _map(data: object, key: str) -> Mapping[str, object]:
    value = data.get(key) if isinstance(data, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _plain(address: str) -> str:
    try:
        return words.address(address)
    except ValueError:
        return address


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
