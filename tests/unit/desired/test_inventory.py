"""The inventory: what it means, and every mistake in it, each with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdctl_remote.desired import inventory
from etcdctl_remote.desired.model import ClusterSpec, Version
from etcdctl_remote.errors import UsageError

HEAD = 'cluster: demo\nversion: "3.6.14"\n'
NODES = "nodes: {n1: 10.0.0.1, n2: 10.0.0.2, n3: 10.0.0.3}\n"


def parse(text: str) -> ClusterSpec:
    return inventory.parse(text, Path("/somewhere/inventory.yaml"))


def mistakes(text: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        inventory.parse(text, Path("inv.yaml"))
    return caught.value.message.splitlines()


def test_the_smallest_inventory() -> None:
    """Name, release and addresses are enough; everything else has a default."""
    found = parse(HEAD + "ssh: {user: ops}\n" + NODES)
    assert found.version == Version(3, 6, 14)
    assert [(node.name, node.address, node.host, node.ssh.user) for node in found.nodes] == [
        ("n1", "10.0.0.1", "10.0.0.1", "ops"),
        ("n2", "10.0.0.2", "10.0.0.2", "ops"),
        ("n3", "10.0.0.3", "10.0.0.3", "ops"),
    ]
    assert found.warnings == ()
    assert found.source == Path("/somewhere/inventory.yaml")


def test_ssh_of_a_node_wins_key_by_key() -> None:
    """A node changes what it names, an empty list included, and keeps the rest."""
    found = parse(
        HEAD
        + "ssh: {user: ops, port: 22, jump: [a, b], timeout: 3}\n"
        + "nodes: {n1: {address: 10.0.0.1, ssh: {port: 2222, jump: []}}}\n"
    )
    ssh = found.nodes[0].ssh
    assert (ssh.user, ssh.port, ssh.jump, ssh.timeout) == ("ops", 2222, (), 3.0)


@pytest.mark.parametrize(
    ("written", "hops"),
    [("bastion", ("bastion",)), ("[a, ops@b:22]", ("a", "ops@b:22")), ("'a,b'", ("a", "b")), ("none", ())],
)
def test_jump_is_a_hop_or_a_list(written: str, hops: tuple[str, ...]) -> None:
    """OpenSSH's own spelling is understood: one hop, several with commas, none."""
    assert parse(HEAD + f"ssh: {{jump: {written}}}\n" + NODES).nodes[0].ssh.jump == hops


def test_local_paths_start_at_the_inventory(monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the operator's home; other relative paths start beside the inventory."""
    monkeypatch.setenv("HOME", "/home/me")
    found = parse(
        HEAD
        + "ssh: {key: ~/.ssh/id, known_hosts: state/known_hosts}\n"
        + "release: {archive: 'releases/etcd-v{version}-linux-{arch}.tar.gz'}\n"
        + NODES
    )
    assert found.nodes[0].ssh.key == Path("/home/me/.ssh/id")
    assert found.nodes[0].ssh.known_hosts == Path("/somewhere/state/known_hosts")
    assert found.release.archive == "/somewhere/releases/etcd-v{version}-linux-{arch}.tar.gz"


def test_ipv6_is_normalised() -> None:
    """IPv6 is accepted in any spelling and written in one."""
    found = parse(HEAD + 'nodes: {n1: "FD00:0::0001"}\n')
    assert found.nodes[0].address == "fd00::1"
    assert found.peer_url(found.nodes[0]) == "https://[fd00::1]:2380"


def test_an_interface_leaves_the_address_open() -> None:
    """The address comes from the host later; SSH has a host to dial."""
    node = parse(HEAD + "nodes: {n1: {interface: wg0, host: n1.example}}\n").nodes[0]
    assert (node.address, node.interface, node.host) == (None, "wg0", "n1.example")


def test_nat_may_repeat_private_addresses() -> None:
    """Two sites may bind the same private address, as long as what others dial differs."""
    found = parse(
        HEAD
        + "nodes:\n  n1: {address: 10.0.0.1, advertise: 203.0.113.1, host: a}\n"
        + "  n2: {address: 10.0.0.1, advertise: n2.example.org, host: b}\n"
        + "  n3: {address: 10.0.0.1, advertise: 203.0.113.3, host: c}\n"
    )
    assert [node.advertised for node in found.nodes] == ["203.0.113.1", "n2.example.org", "203.0.113.3"]


def test_settings_of_a_node_over_the_cluster_over_ours() -> None:
    """Three layers, later ones win, feature gates one by one, null gives etcd's own default back."""
    found = parse(
        HEAD
        + "settings: {log-level: debug, snapshot-count: 5000, pre-vote: null,"
        + " feature-gates: {SetMemberLocalAddr: true}}\n"
        + "nodes: {n1: {address: 10.0.0.1, settings: {log-level: info,"
        + " feature-gates: CompactHashCheck=false}}}\n"
    )
    got = found.nodes[0].settings
    assert got["log-level"] == "info"
    assert got["snapshot-count"] == "5000"
    assert "pre-vote" not in got
    assert got["feature-gates"] == "CompactHashCheck=false,InitialCorruptCheck=true,SetMemberLocalAddr=true"


def test_service_options_are_merged() -> None:
    """A key replaces the default, null removes it, a list repeats it."""
    found = parse(HEAD + "service: {Nice: null, LimitNOFILE: 9, Environment: [A=1, B=2]}\n" + NODES)
    assert "Nice" not in found.service
    assert found.service["LimitNOFILE"] == ("9",)
    assert found.service["Environment"] == ("A=1", "B=2")
    assert found.service["UMask"] == ("0077",)


def test_sections_with_everything_commented_out() -> None:
    """`ssh:` with nothing below it is an empty section, not a mistake."""
    assert parse(HEAD + "ssh:\nsettings:\nservice:\nports:\n" + NODES).nodes[0].ssh.user is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("version: 3.10\n", '1:10: `version` is 3.10; expected text: write it in quotes, "3.10"'),
        ('version: "3.6"\n', "1:10: '3.6' is a line, not a release; expected for example \"3.6.14\""),
        ('version: "3.8.0"\n', "1:10: etcd 3.8 is not known; expected one of"),
        ("cluster: de/mo\n", "1:10: 'de/mo' is not a name; expected 1 to 63 letters"),
        ("clutser: demo\n", "1:1: unknown key `clutser`; did you mean `cluster`?"),
        ("port: 22\n", "1:1: unknown key `port`; expected it under `ssh`"),
        (
            "nodes: {n1: {address: 10.0.0.1, user: etcd}}\n",
            "1:33: unknown key `user`; expected it at the top",
        ),
        ("nodes: {}\n", "1:8: `nodes` is a map; expected at least one"),
        (
            f"nodes: {{{', '.join(f'n{n}: 10.0.1.{n}' for n in range(1, 52))}}}\n",
            "1:8: `nodes` is a map; expected at most 50",
        ),
        ("nodes:\n", "1:7: `nodes` is empty; expected a map"),
        (
            "nodes: {n1: host1}\n",
            "1:13: 'host1' is not an IP address; expected IPv4 or IPv6; a name goes under",
        ),
        ("nodes: {n1: 0.0.0.0}\n", "1:13: 0.0.0.0 is not the address of one host"),
        ("nodes: {n1: 'fe80::1'}\n", "1:13: fe80::1 is link-local"),
        ("nodes: {n1: 10.0.0.256}\n", "1:13: '10.0.0.256' is not an IP address; expected IPv4 or IPv6"),
        ("nodes: {n1: {}}\n", "1:9: node `n1` has no address; expected `address` or `interface`"),
        ("nodes: {n1: }\n", "1:9: node `n1` has no address; expected an IPv4 or IPv6 address"),
        ("nodes: {n1: 7}\n", '1:13: `n1` is 7; expected text: write it in quotes, "7"'),
        ("nodes: {'a b': 10.0.0.1}\n", "1:9: 'a b' is not a name"),
        ("nodes: {1: 10.0.0.1}\n", '1:9: the key 1 is not text in YAML; expected it in quotes: "1"'),
        (
            "nodes: {n1: {interface: wg0}}\n",
            "1:14: with `interface` there is nothing SSH could dial; expected `host`",
        ),
        (
            "nodes: {n1: {interface: wg0, address: 10.0.0.1, host: a}}\n",
            "1:14: both `address` and `interface`; expected one of them",
        ),
        (
            "nodes: {a: 10.0.0.1, a: 10.0.0.2}\n",
            "1:22: `a` is given twice, first in line 1; expected it once",
        ),
        ("nodes: {a: 10.0.0.1, A: 10.0.0.2}\n", "1:22: name A is already node `a`'s; expected its own"),
        (
            "nodes: {a: 10.0.0.1, b: 10.0.0.1}\n",
            "1:25: address 10.0.0.1 is already node `a`'s; expected its own",
        ),
        ("nodes: {a: 'fd00::1', b: 'fd00:0::1'}\n", "1:26: address fd00::1 is already node `a`'s"),
        (
            "nodes: {a: {address: 10.0.0.1, host: h}, b: {address: 10.0.0.2, host: h}}\n",
            "1:71: host h is already node `a`'s; expected its own",
        ),
        (
            "nodes: {a: 127.0.0.1, b: 10.0.0.2}\n",
            "1:12: 127.0.0.1 is this host itself, the others cannot dial it",
        ),
        ("nodes: {a: {address: 10.0.0.1, names: [x, 5]}}\n", "1:43: item 2 of `names` is 5; expected text"),
        (
            "nodes: {a: {address: 10.0.0.1, host: ops@h}}\n",
            "1:38: 'ops@h' holds a user; expected the host only",
        ),
        ("ssh: {port: '22'}\n", "1:13: `port` is the text '22'; expected a whole number"),
        ("ssh: {port: 70000}\n", "1:13: `port` is 70000; expected at most 65535"),
        ("ssh: {host_keys: off}\n", "1:18: `host_keys` is off; expected strict or accept-new"),
        ("ssh: {jump: 'a b'}\n", "1:13: 'a b' is not a jump host; expected [user@]host[:port]"),
        ("ports: {peer: 2379}\n", "1:15: port 2379 is both `client` and `peer`; expected different ports"),
        (
            "paths: {data: /var/lib}\n",
            "1:15: /var/lib belongs to the system; expected a directory of etcd's own",
        ),
        (
            "paths: {config: /etc/ssl}\n",
            "1:17: /etc/ssl belongs to the system; expected a directory of etcd's",
        ),
        (
            "paths: {config: /run/etcd}\n",
            "1:17: /run/etcd does not outlive a reboot; expected a directory on",
        ),
        ("paths: {data: /dev/shm/etcd}\n", "1:15: /dev/shm/etcd does not outlive a reboot"),
        ("paths: {wal: /var/run}\n", "1:14: /var/run does not outlive a reboot"),
        ("paths: {bin: /sys/bin}\n", "1:14: /sys/bin does not outlive a reboot"),
        ("paths: {bin: /home/ops/bin}\n", "1:14: the unit hides /home/ (ProtectHome); expected another"),
        ("paths: {config: /root/etcd}\n", "1:17: the unit hides /root/ (ProtectHome); expected another"),
        (
            "paths: {data: var/lib/etcd}\n",
            "1:15: 'var/lib/etcd' is not usable as a path; expected an absolute path",
        ),
        (
            "paths: {wal: /var/lib/etcd/wal}\n",
            "1:14: /var/lib/etcd/wal is inside `data`; expected a directory of",
        ),
        (
            "paths: {data: /home/etcd/x}\n",
            "1:15: the unit hides /home/ (ProtectHome); expected another directory",
        ),
        (
            "settings: {enable-v2: true}\n",
            "1:12: `enable-v2` was removed in etcd 3.6; expected it to be left out",
        ),
        (
            "settings: {hartbeat-interval: 1}\n",
            "1:12: unknown etcd setting `hartbeat-interval`; did you mean `heart",
        ),
        ("settings: {cert-file: a}\n", "1:12: `cert-file` is set by this tool; expected it under `pki`"),
        (
            "settings: {heartbeat-interval: 500}\n",
            "1:12: `election-timeout` 1000 is less than 5 heartbeats of 500; expected at least 2500",
        ),
        (
            "settings: {auto-compaction-mode: revision}\n",
            "1:12: revision goes with a number of revisions; expected one as `auto-compaction-retention`, not 1h",
        ),
        ("service: {ExecStart: x}\n", "1:11: `ExecStart` is set by this tool; expected `paths.bin`"),
        ("service: {After: x}\n", "1:11: `After` belongs to [Unit], not [Service]; expected it in a drop-in"),
        ("service: {Environment: ETCD_NAME=x}\n", "1:11: ETCD_… variables clash with flags"),
        ("service: {Nice: {a: 1}}\n", "1:11: `Nice` is a map or a nested list"),
        ("pki: {leaf_days: 9999}\n", "1:18: a certificate outlives its CA; expected at most `ca_days`"),
        ("pki: {key: rsa}\n", "1:12: `key` is the text 'rsa'; expected ecdsa-p256, ecdsa-p384"),
        (
            "release: {url: 'http://mirror/etcd'}\n",
            "1:16: plain http can be forged; expected https, or the archive's",
        ),
        ("release: {sha256: {a: abc}}\n", "1:23: 'abc' is not a SHA-256 sum; expected 64 hexadecimal digits"),
        (
            "release: {archive: 'x-{v}'}\n",
            "1:20: 'x-{v}' cannot be filled in; expected only {version} and {arch}",
        ),
        ("user: Etcd\n", "1:7: 'Etcd' is not a system user"),
    ],
)
def test_a_mistake_has_a_place_and_a_way_out(text: str, line: str) -> None:
    """Each mistake is one line: file, line, column, what is wrong, what was expected."""
    rest = {
        "cluster": "cluster: demo\n",
        "version": 'version: "3.6.14"\n',
        "nodes": "nodes: {n9: 10.9.9.9}\n",
    }
    whole = text + "".join(value for key, value in rest.items() if not text.startswith(key))
    found = mistakes(whole)
    assert any(one.startswith(f"inv.yaml:{line}") for one in found), "\n".join(found)


def test_all_mistakes_at_once_in_the_order_of_the_file() -> None:
    """Syntax of keys, schema, checks across nodes and etcd's flags speak in one breath."""
    found = mistakes(
        'cluster: "a b"\nversion: "3.6.14"\nshh: {}\nnodes:\n  n1: 10.0.0.1\n  n1: 10.0.0.9\n  n2: 10.0.0.1\n'
        "settings:\n  debug: true\nservice:\n  ExecReload: x\nports: {client: x}\n"
    )
    assert [line.split(":")[1] for line in found] == ["1", "3", "6", "7", "9", "11", "12"]


def test_missing_keys_are_named() -> None:
    """An empty map lacks three keys, and says what each is."""
    found = mistakes("{}")
    assert found == [
        "inv.yaml:1:1: `cluster` is missing; expected the cluster's name: certificates, journal, token",
        'inv.yaml:1:1: `version` is missing; expected etcd release, in quotes: "3.6.14"',
        "inv.yaml:1:1: `nodes` is missing; expected members by their etcd name: an address, or a map",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "1:1: not an inventory"),
        ("- a\n", "1:1: not an inventory"),
        ("just text", "1:1: not an inventory"),
        ("cluster: [a\n", "2:1: not YAML: "),
        ("cluster: x\n\tversion: y\n", "2:1: not YAML: "),
        ("a: &a [*a]\n", "1:1: the aliases (`*name`) unfold to far too much"),
        ("[" * 5000, "1:1: nested more than 30 levels deep"),
        ("a: b\n---\nc: d\n", "2:1: not YAML: "),
        ("x" * (1 << 21), "1:1: the file is larger than 1 MiB"),
        ("? [a]\n: 1\n", "1:3: a list or map as a key"),
        ("a: 'x\0'\n", "1:1: not YAML"),
    ],
)
def test_what_is_not_an_inventory_at_all(text: str, line: str) -> None:
    """Broken, foreign and hostile files end in one plain line."""
    assert any(found.startswith(f"inv.yaml:{line}") for found in mistakes(text))


def test_a_billion_laughs_is_cut_short() -> None:
    """Aliases that unfold to a billion nodes are refused at once."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    assert "unfold to far too much" in mistakes("\n".join(lines))[0]


def test_aliases_and_merge_keys_work() -> None:
    """Nodes may share a block; a key of their own wins."""
    found = parse(
        HEAD
        + "nodes:\n  n1: &n1 {address: 10.0.0.1, ssh: {port: 2222}}\n"
        + "  n2: {<<: *n1, address: 10.0.0.2}\n  n3: {<<: [*n1], address: 10.0.0.3}\n"
    )
    assert [(node.address, node.ssh.port) for node in found.nodes][1:] == [
        ("10.0.0.2", 2222),
        ("10.0.0.3", 2222),
    ]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("nodes: {a: 10.0.0.1, b: 10.0.0.2}\n", "2 members tolerate no more losses than 1"),
        ("user: root\n", "etcd needs no root"),
        ("settings: {unsafe-no-fsync: true}\n", "`unsafe-no-fsync: true` loses data"),
        (
            "settings: {experimental-corrupt-check-time: 1m}\n",
            "is deprecated, etcd 3.7 no longer has it; write `corr",
        ),
        ("service: {LimitNOFLE: 4}\n", "`LimitNOFLE` is unusual; did you mean `LimitNOFILE`?"),
        ('version: "3.6.9"\n', "has known security holes; use 3.6.14 or newer"),
        ('version: "3.4.45"\n', "etcd 3.4 gets no more fixes"),
        (
            "nodes: {a: {address: 10.0.0.1, settings: {election-timeout: 5000}}, b: 10.0.0.2, c: 10.0.0.3}\n",
            "`election-timeout` differs between nodes",
        ),
    ],
)
def test_what_is_allowed_but_unwise_is_a_warning(text: str, warning: str) -> None:
    """Warnings have a place too, and stop nothing."""
    rest = {"cluster": "cluster: demo\n", "version": 'version: "3.6.14"\n', "nodes": NODES}
    whole = text + "".join(value for key, value in rest.items() if not text.startswith(key))
    found = parse(whole).warnings
    assert any(warning in line and line.startswith("/somewhere/inventory.yaml:1:") for line in found), found


def test_loading_a_file(tmp_path: Path) -> None:
    """A missing or unreadable file is a usage error with the way out."""
    good = tmp_path / "inventory.yaml"
    good.write_text(HEAD + NODES, "utf-8")
    assert inventory.load(good).name == "demo"
    with pytest.raises(UsageError, match="there is no such inventory"):
        inventory.load(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        inventory.load(tmp_path)
    good.write_bytes(b"cluster: \xff\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        inventory.load(good)
