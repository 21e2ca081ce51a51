"""A first inventory that works, an example that is complete, a schema for editors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from etcdctl_remote.desired import init, inventory, schema
from etcdctl_remote.errors import UsageError

EXAMPLE = Path(__file__).parents[3] / "inventory.yaml"


def test_the_example_loads() -> None:
    """The commented example is a valid inventory, without a warning."""
    assert inventory.load(EXAMPLE).warnings == ()


def _instead() -> str:
    """The example with what it shows as alternatives: lines of keys behind a `#`."""
    return re.sub(r"^#( +[a-z_]+:)", r"\1", EXAMPLE.read_text("utf-8"), flags=re.M)


@pytest.mark.parametrize(
    "without",
    [
        r"^ +(recipients|identity|external|trust|peer_trust|folder|command|peer_command):.*\n",
        r"^ +(ca_key|protect|recipients|identity|passphrase|folder):.*\n",
        r"^ +(ca_key|protect|recipients|identity|passphrase|command|peer_command):.*\n",
    ],
)
def test_its_alternatives_load(without: str) -> None:
    """What the example shows instead of something is valid once that is taken out."""
    text = re.sub(without, "", _instead().replace("protect: age", "protect: passphrase"), flags=re.M)
    assert inventory.parse(text, EXAMPLE).warnings == ()


def _every_key(model: Any, where: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        found.append(f"{where}{name}")
        inner = inventory._submodel(field.annotation)
        if inner:
            found += _every_key(inner, f"{where}{name}.")
    return found


def _written(tree: Any, where: str = "") -> set[str]:
    if not isinstance(tree, dict):
        return set()
    found = set()
    for key, value in tree.items():
        found |= {f"{where}{key}"} | _written(value, f"{where}{key}.")
    return found


def test_the_example_shows_every_key() -> None:
    """Every key of the schema stands in the example; `ssh` of a node shares the cluster's keys."""
    tree = yaml.safe_load(_instead())
    written = _written(tree).union(*(_written(node, "nodes.") for node in tree["nodes"].values()))
    keys = {key for key in _every_key(schema.Inventory) if not key.startswith("nodes.ssh.")}
    assert len(keys) > 35
    assert keys - written == set()


def test_init_writes_what_parse_reads() -> None:
    """Names that look like numbers and IPv6 addresses are quoted; the rest reads as typed."""
    text = init.new_inventory("demo", ["n1=10.0.0.11", "2=10.0.0.12", "on=fd00::3"], user="ops")
    found = inventory.parse(text, Path("inventory.yaml"))
    assert [(node.name, node.address) for node in found.nodes] == [
        ("n1", "10.0.0.11"),
        ("2", "10.0.0.12"),
        ("on", "fd00::3"),
    ]
    assert found.nodes[0].ssh.user == "ops"
    assert found.warnings == ()
    assert "n1: 10.0.0.11" in text


def test_init_takes_a_release() -> None:
    """The wanted release is checked as in an inventory."""
    text = init.new_inventory("demo", ["n1=10.0.0.11"], version="v3.5.33")
    assert str(inventory.parse(text, Path("inventory.yaml")).version) == "3.5.33"


def test_init_lists_every_mistake() -> None:
    """A wrong name, address, release and repeated nodes are named at once."""
    with pytest.raises(UsageError) as caught:
        init.new_inventory("de mo", ["n1", "n2=host", "N3=10.0.0.1", "n3=10.0.0.1"], version="3.9.0")
    assert caught.value.message.splitlines() == [
        "--version: etcd 3.9 is not known; expected one of 3.4.45, 3.5.33, 3.6.14, 3.7.1",
        "--node n1: expected NAME=ADDRESS",
        "--node n2=host: 'host' is not an IP address; expected IPv4 or IPv6; a name goes under `host` or `advertise`",
        "--cluster: 'de mo' is not a name; expected 1 to 63 letters, digits, `.`, `_` or `-`",
        "--node: name n3 is given twice",
        "--node: address 10.0.0.1 is given twice",
    ]
    with pytest.raises(UsageError, match="no nodes"):
        init.new_inventory("demo", [])


KNOWN = "--version: X.Y.Z of a line that is known (3.4, 3.5, 3.6, 3.7); without it, the newest"
EXAMPLE_FLAGS = "for example: --cluster demo --node n1=10.0.0.11"


@pytest.mark.parametrize(
    ("cluster", "node", "version", "hint"),
    [
        ("demo", "n1=10.0.0.11", "3.9.9", KNOWN),
        ("demo", "n1=10.0.0.11", "newest", KNOWN),
        ("demo", "n1", "3.6.14", EXAMPLE_FLAGS),
        ("", "n1=10.0.0.11", "3.6.14", EXAMPLE_FLAGS),
        ("demo", "n1", "3.9.9", f"{KNOWN}; {EXAMPLE_FLAGS}"),
    ],
)
def test_init_helps_with_what_was_wrong(cluster: str, node: str, version: str, hint: str) -> None:
    """A wrong release is not mended by another --node."""
    with pytest.raises(UsageError) as caught:
        init.new_inventory(cluster, [node], version=version)
    assert caught.value.hint == hint


def test_the_json_schema_knows_keys_and_flags() -> None:
    """Editors get every key with its sentence, no others, and the names of all flags."""
    found = init.json_schema()
    assert found["$schema"].endswith("draft-07/schema#")
    assert found["additionalProperties"] is False
    assert set(found["properties"]) == set(schema.Inventory.model_fields)
    names = found["properties"]["settings"]["propertyNames"]["enum"]
    assert "heartbeat-interval" in names
    assert "cert-file" not in names
    (member,) = found["properties"]["nodes"]["patternProperties"].values()
    assert {"type": "string"} in member["anyOf"]
