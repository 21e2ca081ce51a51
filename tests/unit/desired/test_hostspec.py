"""What lands on a host, and what makes a running etcd restart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from etcdctl_remote.desired.hostspec import Membership, Pki, generation, host_spec
from etcdctl_remote.desired.model import ClusterSpec
from etcdctl_remote.desired.spec import FileSpec, HostSpec
from etcdctl_remote.secret import Secret
from tests.unit.desired.wishes import pki, wish

UNIT = "/etc/systemd/system/etcd.service"


def spec(cluster: ClusterSpec | None = None, files: Pki | None = None, **changed: str) -> HostSpec:
    """Say what the first node should look like."""
    cluster = cluster or wish()
    return host_spec(
        cluster,
        cluster.nodes[0],
        Membership(
            changed.get("token", "t"),
            "existing" if changed.get("state") == "existing" else "new",
            changed["member"].encode() if "member" in changed else None,
        ),
        files or pki(),
        dropins=changed.get("dropins", ""),
    )


def file(found: HostSpec, path: str) -> FileSpec:
    return {one.path: one for one in found.files}[path]


def test_modes_and_owners() -> None:
    """Keys and the environment for etcd's group only, data for etcd alone, no one else's to write."""
    found = spec(wish(extra="paths: {wal: /wal}\n"), member="{}")
    assert [(d.path, oct(d.mode), d.owner, d.group) for d in found.dirs] == [
        ("/opt/etcd", "0o755", "root", "root"),
        ("/etc/etcd", "0o750", "root", "etcd"),
        ("/etc/etcd/pki", "0o750", "root", "etcd"),
        (f"/etc/etcd/pki/{generation(pki())}", "0o750", "root", "etcd"),
        ("/var/lib/etcd", "0o700", "etcd", "etcd"),
        ("/wal", "0o700", "etcd", "etcd"),
    ]
    modes = {f.path.rpartition("/")[2]: (oct(f.mode), f.owner, f.group) for f in found.files}
    assert modes == {
        "etcd.service": ("0o644", "root", "root"),
        "etcdctl.env": ("0o640", "root", "etcd"),
        "etcdctl.sh": ("0o755", "root", "root"),
        "identity": ("0o644", "root", "root"),
        **{name: ("0o644", "root", "root") for name in pki() if name.endswith(".crt")},
        **{name: ("0o640", "root", "etcd") for name in pki() if name.endswith(".key")},
    }


def test_keys_stay_secret() -> None:
    """A private key is a secret in the spec too: never shown in a diff or a log."""
    found = spec()
    assert {f.path.rpartition("/")[2] for f in found.files if f.secret} == {
        "server.key",
        "peer.key",
        "etcdctl.key",
    }
    assert "key server.key" not in repr(found)


def test_a_generation_is_its_content() -> None:
    """Same files, same directory; one changed byte, another one. The link is relative, swapped at once."""
    assert generation(pki()) == generation(dict(reversed(list(pki().items()))))
    assert generation(pki()) != generation(pki(peer_key=b"other"))
    assert len(generation(pki())) == 16
    link = {one.path: one.target for one in spec().links}["/etc/etcd/pki/current"]
    assert link == generation(pki())


def test_programs_are_links_into_the_release() -> None:
    """Rollback is a symlink; 3.4 has no etcdutl."""
    links = {one.path: one.target for one in spec().links}
    assert links["/usr/local/bin/etcdutl"] == "/opt/etcd/v3.6.14/etcdutl"
    old = {one.path for one in spec(wish(version="3.4.45")).links}
    assert "/usr/local/bin/etcdctl" in old
    assert "/usr/local/bin/etcdutl" not in old


def test_no_bin_directory_changes_its_mode() -> None:
    """Others live there too: /var/tmp would lose its sticky bit; where it is missing its links make it."""
    for place in ("/usr/local/bin", "/opt/bin", "/var/tmp"):
        made = spec(wish(extra=f"paths: {{bin: {place}}}\n"))
        assert place not in {d.path for d in made.dirs}
        assert f"{place}/etcd" in {link.path for link in made.links}


def test_the_marker_lies_outside_the_data() -> None:
    """Who the member is lies ready before the start; the link that says it lived comes after."""
    born, lived = spec(member="{}"), spec(member="{}", state="existing")
    assert file(born, "/etc/etcd/identity").data == b"{}"
    assert "/etc/etcd/member" not in {link.path for link in born.links}
    assert {link.path: link.target for link in lived.links}["/etc/etcd/member"] == "identity"
    assert "/etc/etcd/identity" not in {f.path for f in spec().files}


def test_paths_and_user_are_followed_everywhere() -> None:
    """No default path is left when all of them are changed."""
    where = "paths: {bin: /b/bin, config: /b/conf, data: /b/data, wal: /b/wal}\nuser: kv\n"
    found = spec(wish(extra=where), member="{}")
    text = "".join(f.data.decode() for f in found.files)
    everything = text + repr(found.dirs) + repr(found.links)
    for default in ("/usr/local/bin", "/etc/etcd/", "/var/lib/etcd"):
        assert default not in everything
    assert "User=kv\nGroup=kv\n" in text
    assert "'etcd'" not in everything


def test_the_same_wish_is_the_same_bytes() -> None:
    """Nothing random, no clock: the second deploy finds nothing to change."""
    assert spec() == spec()


def test_the_unit_carries_the_digest() -> None:
    """The running process's environment tells what it was started with."""
    found = spec()
    assert f"\nEnvironment=ETCDCTL_REMOTE_DIGEST={found.digest}\n" in file(found, UNIT).data.decode()
    assert len(found.digest) == 64


@pytest.mark.parametrize(
    "changed",
    [
        {"state": "existing"},
        {"token": "other"},
        {"member": "{}"},
    ],
)
def test_what_only_a_bootstrap_reads_restarts_nobody(changed: dict[str, str]) -> None:
    """initial-cluster-state and its kin change when a cluster has formed; a running etcd does not read them."""
    assert spec(None, None, **changed).digest == spec().digest


@pytest.mark.parametrize("leaf", ["server_crt", "server_key", "peer_crt", "peer_key", "etcdctl_crt"])
def test_leaf_certificates_restart_nobody(leaf: str) -> None:
    """etcd reads them at every handshake."""
    assert spec(files=pki(**{leaf: b"renewed"})).digest == spec().digest


@pytest.mark.parametrize("bundle", ["ca_crt", "peer_ca_crt"])
def test_a_ca_bundle_restarts(bundle: str) -> None:
    """etcd reads trusted CAs once, at start."""
    assert spec(files=pki(**{bundle: b"old and new"})).digest != spec().digest


@pytest.mark.parametrize(
    "extra",
    [
        "settings: {snapshot-count: 5000}\n",
        "service: {LimitNOFILE: 1024}\n",
        "service: {Nice: null}\n",
        "service: {Environment: GOGC=50}\n",
        "paths: {data: /data/etcd}\n",
        "paths: {wal: /wal}\n",
        "paths: {config: /etc/kv}\n",
        "paths: {bin: /opt/bin}\n",
        "ports: {metrics: 2381}\n",
        "ports: {client: 4001}\n",
        "user: kv\n",
    ],
)
def test_what_is_read_at_start_restarts(extra: str) -> None:
    """Settings, unit options, paths, ports and user are in the digest."""
    assert spec(wish(extra=extra)).digest != spec().digest


def test_a_release_or_a_drop_in_restarts() -> None:
    """So do another release and a change of the operator's own drop-ins."""
    cluster = wish()
    newer = replace(cluster, version=replace(cluster.version, patch=15))
    assert spec(newer).digest != spec().digest
    assert spec(dropins="abc").digest != spec().digest


def test_how_hosts_are_reached_restarts_nobody() -> None:
    """SSH, the release's address, lifetimes: none of etcd's business; nor is the order of nodes."""
    extra = "ssh: {user: ops, port: 2222}\nrelease: {url: 'https://mirror/etcd'}\npki: {leaf_days: 30}\n"
    assert spec(wish(extra=extra)).digest == spec().digest
    cluster = wish()
    turned = replace(cluster, nodes=tuple(reversed(cluster.nodes)))
    same = host_spec(turned, turned.node("n1"), Membership("t", "new"), pki())
    assert same == spec()


def test_another_node_changes_only_bootstrap_settings() -> None:
    """A scale-out rewrites the unit of the others, and restarts none of them."""
    cluster = wish()
    grown = replace(
        cluster, nodes=(*cluster.nodes, replace(cluster.nodes[0], name="n4", address="10.0.0.14"))
    )
    assert spec(grown).digest == spec().digest
    assert file(spec(grown), UNIT) != file(spec(), UNIT)


def test_secrets_and_plain_bytes_hash_alike() -> None:
    """Whether a file is marked secret does not name another generation."""
    assert generation({"a.key": Secret(b"x")}) == generation({"a.key": b"x"})
