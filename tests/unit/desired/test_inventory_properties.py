"""Whatever is written, the answer is a ClusterSpec or a UsageError; what is valid comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from etcdctl_remote.desired import inventory, settings, versions
from etcdctl_remote.desired.model import ClusterSpec
from etcdctl_remote.desired.owned import OWNED
from etcdctl_remote.errors import UsageError

PATH = Path("/x/inventory.yaml")
NAMES = st.from_regex(r"[a-z][a-z0-9.-]{0,20}[a-z0-9]", fullmatch=True)
HOST_NAMES = st.from_regex(
    r"[a-z]([a-z0-9-]{0,9}[a-z0-9])?([.][a-z]([a-z0-9-]{0,9}[a-z0-9])?)?", fullmatch=True
)
ADDRESSES = st.ip_addresses().filter(
    lambda a: (
        not (a.is_multicast or a.is_link_local or a.is_loopback)
        and (int(a) > 1 if a.version == 6 else 1 << 24 < int(a) < 224 << 24)
    )
)
LAST = versions.newest("3.6")
FREE = sorted(
    name
    for name in settings.known(LAST)
    if name not in OWNED and settings.flags()[name].kind == "uint" and "experimental" not in name
)
WORDS = """
    cluster version nodes ssh release settings service paths ports user pki address interface host
    advertise names key jump timeout n1 data wal client peer metrics feature-gates Nice <<
"""
KEYS = st.sampled_from(WORDS.split())
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | ADDRESSES.map(str) | KEYS
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=8) | SCALARS, inner, max_size=6)
    ),
    max_leaves=25,
)


def verdict(text: str) -> ClusterSpec | list[str]:
    """Return the cluster, or the lines of the refusal; any other exception is the test's failure."""
    try:
        return inventory.parse(text, PATH)
    except UsageError as error:
        return error.message.splitlines()


def placed(answer: ClusterSpec | list[str]) -> bool:
    """Whether each line of a refusal begins with the place."""
    return isinstance(answer, list) and bool(answer) and all(line.startswith(f"{PATH}:") for line in answer)


def understood(answer: ClusterSpec | list[str]) -> bool:
    """Whether a cluster came out, with a member at least."""
    return isinstance(answer, ClusterSpec) and bool(answer.nodes)


@given(st.text(max_size=300))
def test_any_text(text: str) -> None:
    """Random text is refused with a place, never with another exception."""
    answer = verdict(text)
    assert placed(answer), answer


@given(TREES)
def test_any_tree(tree: Any) -> None:
    """Random YAML made of our own words is refused or understood, nothing else."""
    answer = verdict(yaml.safe_dump(tree, allow_unicode=True))
    assert placed(answer) or understood(answer), answer


@given(st.data())
def test_any_damage_to_a_good_inventory(data: st.DataObject) -> None:
    """The full example with any part replaced by anything is refused or understood."""
    tree = yaml.safe_load((Path(__file__).parents[3] / "inventory.yaml").read_text("utf-8"))
    place = tree
    for _ in range(data.draw(st.integers(0, 3))):
        inner = [value for value in place.values() if isinstance(value, dict)]
        if inner:
            place = data.draw(st.sampled_from(inner))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(TREES)
    answer = verdict(yaml.safe_dump(tree))
    assert placed(answer) or understood(answer), answer


@st.composite
def inventories(draw: st.DrawFn) -> dict[str, Any]:
    """Build a valid inventory as plain data."""
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    addresses = draw(st.lists(ADDRESSES, min_size=len(names), max_size=len(names), unique=True))
    nodes: dict[str, Any] = {}
    for name, address in zip(names, addresses, strict=True):
        long = {"address": str(address), "names": draw(st.lists(HOST_NAMES, max_size=2))}
        nodes[name] = draw(st.sampled_from([str(address), long]))
    ports = draw(st.lists(st.integers(1, 65535), min_size=3, max_size=3, unique=True))
    flags = draw(st.dictionaries(st.sampled_from(FREE), st.integers(5000, 6000), max_size=4))
    flags.pop("heartbeat-interval", None)
    return {
        "cluster": draw(NAMES),
        "version": str(LAST),
        "nodes": nodes,
        "ports": dict(zip(("client", "peer", "metrics"), ports, strict=True)),
        "settings": flags,
        "ssh": {"user": "ops", "timeout": draw(st.integers(1, 600))},
    }


@given(inventories())
def test_a_valid_inventory_comes_back(wish: dict[str, Any]) -> None:
    """Everything written is found again, in the model, as it was meant."""
    found = inventory.parse(yaml.safe_dump(wish), PATH)
    assert found.name == wish["cluster"]
    assert {node.name for node in found.nodes} == set(wish["nodes"])
    for node in found.nodes:
        written = wish["nodes"][node.name]
        address = written if isinstance(written, str) else written["address"]
        assert node.address == node.host == address
        assert node.names == (() if isinstance(written, str) else tuple(written["names"]))
        assert all(node.settings[flag] == str(value) for flag, value in wish["settings"].items())
    assert (found.ports.client, found.ports.peer, found.ports.metrics) == tuple(wish["ports"].values())


@given(inventories(), st.randoms(use_true_random=False))
def test_the_order_of_nodes_means_nothing(wish: dict[str, Any], random: Any) -> None:
    """Reordering the inventory changes neither the initial cluster nor any node."""
    one = inventory.parse(yaml.safe_dump(wish, sort_keys=False), PATH)
    items = list(wish["nodes"].items())
    random.shuffle(items)
    other = inventory.parse(yaml.safe_dump(wish | {"nodes": dict(items)}, sort_keys=False), PATH)
    assert one.initial_cluster == other.initial_cluster
    assert {node.name: node for node in one.nodes} == {node.name: node for node in other.nodes}
