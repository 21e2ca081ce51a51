"""A first deploy on real nodes: every etcd line, two systems, one, three and five nodes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as ser

from etcdctl_remote.desired.identity import cluster_id, member_id
from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, Node, Shape

from . import drive

pytestmark = pytest.mark.cluster

UNIT = "/etc/systemd/system/etcd.service"
NOT_WRITTEN_YET = ("failed to update storage version", "missing term information")
"""A member of 3.6 that is so new that no entry was committed to its disk calls that an error, and tries
again 5 s later (server/storage/schema/schema.go, `UnsafeDetectSchemaVersion`)."""
HEALTHY = r"https://{address}:2379 is healthy: successfully committed proposal: took = [0-9.]+(µs|ms|s)"
TOP = {"cluster", "cluster_id", "version", "leader", "tolerates", "members"}
MEMBER = {
    "node",
    "id",
    "role",
    "version",
    "db_size",
    "db_in_use",
    "raft_term",
    "raft_index",
    "alarms",
    "cert_days",
}


@dataclass(frozen=True)
class Kind:
    """What is deployed onto what."""

    os: str
    version: str
    nodes: int = 3

    def __str__(self) -> str:
        return f"{self.os}-{self.version}-{self.nodes}"


KINDS = (
    Kind("debian12", "3.6.14"),
    Kind("debian12", "3.5.33"),
    Kind("debian12", "3.7.1"),
    Kind("debian12", "3.4.23"),
    Kind("debian13", "3.6.14"),
    Kind("debian13", "3.5.33"),
    Kind("debian13", "3.7.1"),
    Kind("debian13", "3.4.23", 1),
    Kind("debian12", "3.6.14", 5),
)


@dataclass(frozen=True)
class Cluster:
    """A cluster that has just been deployed, and what was seen before."""

    lab: Lab
    kind: Kind
    done: drive.Done


@pytest.fixture(scope="module", params=KINDS, ids=str)
def fresh(request: pytest.FixtureRequest, lab_for_module: Callable[[Shape, str], Lab]) -> Cluster:
    """Deploy once for all tests of this module that only look."""
    kind: Kind = request.param
    lab = lab_for_module(Shape(kind.nodes, kind.os), kind.version)
    return Cluster(lab, kind, drive.deploy(lab))


@pytest.fixture
def cluster(fresh: Cluster, release: Callable[[str], Path]) -> Cluster:
    """The deployed cluster; the test counts for the etcd version it is of."""
    release(fresh.kind.version)
    return fresh


def test_a_key_put_on_one_node_is_read_on_every_other(cluster: Cluster) -> None:
    """One cluster, not several that each answer for themselves."""
    for number, node in enumerate(cluster.lab.nodes):
        drive.put(node, f"from-{node.name}", str(number))
    for node in cluster.lab.nodes:
        for number, writer in enumerate(cluster.lab.nodes):
            assert drive.get(node, f"from-{writer.name}") == str(number)


def test_health_speaks_as_etcdctl_does(cluster: Cluster) -> None:
    """One line an endpoint on standard output, in the inventory's order; exit 0."""
    done = drive.must(cluster.lab, "health")
    lines = done.out.splitlines()
    assert len(lines) == cluster.kind.nodes
    for line, node in zip(lines, cluster.lab.nodes, strict=True):
        assert re.fullmatch(HEALTHY.format(address=re.escape(node.address)), line), line


def test_health_as_json(cluster: Cluster) -> None:
    """The fields that scripts rely on."""
    found = drive.document(cluster.lab, "health")
    assert found.keys() == {"cluster", "healthy", "endpoints"}
    assert found["cluster"] == cluster.lab.name
    assert found["healthy"] is True
    for endpoint, node in zip(found["endpoints"], cluster.lab.nodes, strict=True):
        assert endpoint.keys() == {"node", "endpoint", "healthy", "took_ms", "error"}
        assert (endpoint["node"], endpoint["endpoint"]) == (node.name, f"https://{node.address}:2379")
        assert endpoint["healthy"] is True
        assert 0 < endpoint["took_ms"] < 5000
        assert not endpoint["error"]


def test_status_as_json(cluster: Cluster) -> None:
    """Ids are hex strings, one leader, and the sum of what may be lost is right."""
    found = drive.document(cluster.lab, "status")
    assert found.keys() >= TOP
    assert found["version"] == cluster.kind.version
    assert found["tolerates"] == (cluster.kind.nodes - 1) // 2
    assert re.fullmatch("[0-9a-f]{1,16}", found["cluster_id"])
    members = {member["node"]: member for member in found["members"]}
    assert list(members) == [node.name for node in cluster.lab.nodes]
    assert [name for name, m in members.items() if m["role"] == "leader"] == [found["leader"]]
    assert {m["role"] for m in members.values()} <= {"leader", "voter"}
    for member in members.values():
        assert member.keys() >= MEMBER
        assert re.fullmatch("[0-9a-f]{1,16}", member["id"])
        assert member["version"] == cluster.kind.version
        assert 0 < member["db_in_use"] <= member["db_size"]
        assert member["raft_index"] > 0
        assert member["raft_term"] > 1
        assert member["alarms"] == []
        assert 360 <= member["cert_days"] <= 365


def test_status_as_text(cluster: Cluster) -> None:
    """A table of all nodes, and how many more may be lost."""
    text = drive.must(cluster.lab, "status").out
    spare = (cluster.kind.nodes - 1) // 2
    assert f"tolerates the loss of {spare} more" in text
    for node in cluster.lab.nodes:
        assert any(line.split()[:1] == [node.name] for line in text.splitlines()), text


def test_the_ids_are_those_that_were_computed_beforehand(cluster: Cluster) -> None:
    """The marker is written from them before etcd runs, so they must be etcd's own."""
    token = _flag(cluster.lab.nodes[0], "initial-cluster-token")
    wanted = {node.name: member_id([f"https://{node.address}:2380"], token) for node in cluster.lab.nodes}
    listed = json.loads(execute(cluster.lab.nodes[0], "etcdctl.sh member list -w json"))
    assert {member["name"]: member["ID"] for member in listed["members"]} == wanted
    assert listed["header"]["cluster_id"] == cluster_id(list(wanted.values()))
    status = drive.document(cluster.lab, "status")
    assert status["cluster_id"] == f"{listed['header']['cluster_id']:x}"
    for node in cluster.lab.nodes:
        marker = json.loads(execute(node, "cat /etc/etcd/member"))
        assert marker == {
            "cluster": cluster.lab.name,
            "cluster_id": status["cluster_id"],
            "member_id": f"{wanted[node.name]:x}",
            "name": node.name,
        }


def test_the_unit_is_that_of_a_member_for_good(cluster: Cluster) -> None:
    """It says existing, passes systemd's linter, is enabled, and runs as the user etcd."""
    for node in cluster.lab.nodes:
        assert _flag(node, "initial-cluster-state") == "existing"
        assert execute(node, 'systemd-analyze verify --man=no "$1" 2>&1', UNIT) == ""
        assert execute(node, "systemctl is-enabled etcd").strip() == "enabled"
        assert execute(node, 'ps -o user= -p "$(systemctl show -P MainPID etcd)"').strip() == "etcd"
        assert execute(node, "systemctl show -P NeedDaemonReload etcd").strip() == "no"
        flags = re.findall(r"^  --([a-z0-9-]+)=", execute(node, 'cat "$1"', UNIT), re.MULTILINE)
        assert flags == sorted(set(flags))


def test_etcd_knows_everything_we_tell_it(cluster: Cluster) -> None:
    """No unrecognised variable, no deprecated or unknown flag, nothing worse than a warning at rest."""
    for node in cluster.lab.nodes:
        journal = execute(node, "journalctl -q -u etcd -o cat --no-pager")
        assert "initial-cluster-state" in journal
        assert "unrecognized environment" not in journal.lower()
        assert "is deprecated" not in journal, journal
        assert '"level":"info"' in journal, "the words below are how it says it"
        grave = re.findall(r'.*"level":"(?:error|dpanic|panic|fatal)".*', journal)
        assert [line for line in grave if not all(word in line for word in NOT_WRITTEN_YET)] == []


def test_rights_on_the_node(cluster: Cluster) -> None:
    """Keys are for root and etcd, data for etcd alone, and the way to them is closed to others."""
    kept = {
        "/etc/etcd": "750 root:etcd",
        "/etc/etcd/pki": "750 root:etcd",
        "/var/lib/etcd": "700 etcd:etcd",
        "/var/lib/etcd/member": "700 etcd:etcd",
        UNIT: "644 root:root",
        "/etc/etcd/etcdctl.env": "640 root:etcd",
        "/usr/local/bin/etcdctl.sh": "755 root:root",
        **{f"{drive.PKI}/{leaf}.key": "640 root:etcd" for leaf in drive.LEAVES},
        **{f"{drive.PKI}/{leaf}.crt": "644 root:root" for leaf in drive.LEAVES},
    }
    for node in cluster.lab.nodes:
        seen = execute(node, 'stat -Lc "%n %a %U:%G" "$@"', *kept)
        assert dict(line.split(" ", 1) for line in seen.splitlines()) == kept
        keys = execute(node, "find /etc /opt /var /usr/local -name '*.key' -path '*etcd*' -perm /007")
        assert keys == ""
        version = cluster.kind.version
        assert execute(node, "readlink /usr/local/bin/etcd").strip() == f"/opt/etcd/v{version}/etcd"


def test_no_ca_key_ever_reaches_a_node(cluster: Cluster) -> None:
    """Neither the files nor the bytes of one lie anywhere below /etc, /opt, /var, /usr/local, /run or /tmp."""
    keys = sorted(cluster.lab.state.glob("certs/*/ca/*/*.key"))
    assert len(keys) == 2, "a CA for servers and clients, another for peers"
    assert all(key.stat().st_mode & 0o077 == 0 for key in keys)
    needles = "\n".join(needle for key in keys for needle in _needles(key))
    script = 'grep -rlF -e "$1" /etc /opt /var /usr/local /run /tmp /root /home 2>/dev/null; true'
    own = execute(cluster.lab.nodes[0], 'sed -n 2p "$1"', f"{drive.PKI}/server.key").strip()
    assert execute(cluster.lab.nodes[0], script, own), "the search finds what is there"
    for node in cluster.lab.nodes:
        assert execute(node, script, needles) == ""


def test_a_person_on_the_node_just_types_it(cluster: Cluster) -> None:
    """The wrapper works for root and by sudo; who may not read the key is told what to do."""
    node = cluster.lab.nodes[-1]
    assert "is healthy" in execute(node, "etcdctl.sh endpoint health 2>&1")
    assert "is healthy" in execute(
        node, "runuser -u ops -- sudo /usr/local/bin/etcdctl.sh endpoint health 2>&1"
    )
    told = execute(node, "runuser -u ops -- /usr/local/bin/etcdctl.sh endpoint health 2>&1 || true")
    assert "sudo" in told


def test_a_second_deploy_has_nothing_to_do(cluster: Cluster) -> None:
    """Same processes, same certificates, and it says so."""
    before = drive.pids(cluster.lab), drive.certificates(cluster.lab)
    done = drive.deploy(cluster.lab)
    assert "nothing to do" in done.out
    assert (drive.pids(cluster.lab), drive.certificates(cluster.lab)) == before
    drive.settle_nothing(cluster.lab)


def test_nothing_temporary_is_left(cluster: Cluster) -> None:
    """No archive, no half release, no hidden directory."""
    assert drive.leftovers(cluster.lab) == []


def _flag(node: Node, name: str) -> str:
    found = re.search(rf"--{name}=(\S+)", execute(node, 'cat "$1"', UNIT))
    assert found, name
    return found[1]


def _needles(key: Path) -> list[str]:
    """Return what of a private key would show in a file: its base64 lines, whatever the wrapping."""
    text = key.read_text(encoding="ascii")
    lines = [line for line in text.splitlines() if line and not line.startswith("-----")]
    assert ser.load_pem_private_key(text.encode(), None) is not None
    return [line[-40:] for line in lines]
