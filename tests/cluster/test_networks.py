"""Addresses, ways and places that are not the usual ones, on real nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, Node, each
from tests.conftest import LabFactory

from . import drive

pytestmark = pytest.mark.cluster

NOT_THE_JUMP = 'iptables -w -A INPUT -p tcp --dport 22 ! -s "$1" -j REJECT'
NEW_KEYS = """mkdir /root/kept && cp -p /etc/ssh/ssh_host_*_key* /root/kept && rm /etc/ssh/ssh_host_*_key*
ssh-keygen -q -A && systemctl restart ssh"""
OLD_KEYS = "mv -f /root/kept/* /etc/ssh/ && rmdir /root/kept && systemctl restart ssh"


# -- addresses -------------------------------------------------------------------------------


def test_ipv6_only(lab_factory: LabFactory) -> None:
    """Bracketed wherever an address meets a port: URLs, SSH, certificates, wrapper, health."""
    lab = lab_factory(os="debian13")
    for node in lab.nodes:
        if node.address6 is None:
            pytest.skip("this machine's kernel has no IPv6, so the lab's network has none")
        drive.edit_node(lab, node.name, f'"{node.address6}"')
    _deployed(lab)
    health = drive.must(lab, "health").out
    for node in lab.nodes:
        assert f"https://[{node.address6}]:2379 is healthy" in health
        listening = execute(node, "ss -Hltn 'sport = :2379 or sport = :2380'")
        assert f"[{node.address6}]:2380" in listening
        assert node.address not in listening
        assert node.address not in execute(node, "cat /etc/systemd/system/etcd.service /etc/etcd/etcdctl.env")
    listed = drive.must(lab, "etcdctl", "-c", "member list").out
    assert all(f"https://[{node.address6}]:2380" in listed for node in lab.nodes)


def test_an_interface_instead_of_an_address(lab3: Lab) -> None:
    """etcd uses what the interface has, SSH the other way; a name of no interface is told before any change."""
    for node in lab3.nodes:
        drive.edit_node(lab3, node.name, f"{{host: {node.address}, interface: wg0}}")
    done = drive.fails(lab3, 2, "the interface wg0 does not exist")
    for node in lab3.nodes:
        drive.tells(done, f"{node.name}:")
    with _overlay(lab3):
        _deployed(lab3)
        health = drive.must(lab3, "health").out
        for number, node in enumerate(lab3.nodes, 11):
            assert f"https://192.0.2.{number}:2379 is healthy" in health
            assert node.address not in execute(node, "ss -Hltn 'sport = :2379 or sport = :2380'")
            named = execute(node, 'openssl x509 -noout -ext subjectAltName -in "$1/peer.crt"', drive.PKI)
            assert f"IP Address:192.0.2.{number}" in named
            assert node.address not in named


@contextmanager
def _overlay(lab: Lab) -> Iterator[None]:
    """Give each node a wg0 with an address of its own, that the others reach by way of the first interface."""
    own = {node: f"192.0.2.{number}" for number, node in enumerate(lab.nodes, 11)}
    try:
        for node, address in own.items():
            execute(node, 'ip link add wg0 type veth peer name wg0p && ip addr add "$1/32" dev wg0', address)
            execute(node, "ip link set wg0p up && ip link set wg0 up")
            for other, there in own.items():
                if other != node:
                    execute(node, 'ip route add "$1" via "$2" src "$3"', there, other.address, address)
        yield
    finally:
        for node in lab.nodes:
            execute(node, 'for there; do ip route del "$there" 2>/dev/null; done; true', *own.values())
            execute(node, "ip link del wg0 2>/dev/null; true")


def test_behind_nat(lab3: Lab) -> None:
    """What is advertised is dialled and certified; what is bound is the host's own."""
    own = {node: f"198.51.100.{number}" for number, node in enumerate(lab3.nodes, 11)}
    for node, public in own.items():
        drive.edit_node(lab3, node.name, f"{{address: {node.address}, advertise: {public}}}")
    with _nat(own):
        _deployed(lab3)
        first, second, _ = lab3.nodes
        listed = drive.must(lab3, "etcdctl", "-c", "member list").out
        assert all(f"https://{public}:{port}" in listed for public in own.values() for port in (2379, 2380))
        script = 'etcdctl.sh --endpoints="https://$1:2379" get --print-value-only deployed'
        assert execute(first, script, own[second]).strip() == "in the end"


@contextmanager
def _nat(own: dict[Node, str]) -> Iterator[None]:
    """Translate a public address to each node's own, on that node; the others route it there."""
    rule = "-d {} -m comment --comment lab-nat -j DNAT --to-destination {}"
    try:
        for node, public in own.items():
            for chain in ("PREROUTING", "OUTPUT"):
                execute(node, f"iptables -w -t nat -I {chain} {rule.format(public, node.address)}")
            for other in own:
                if other != node:
                    execute(other, 'ip route add "$1" via "$2"', public, node.address)
        yield
    finally:
        undo = "iptables-save -t nat | grep lab-nat | sed 's/^-A/-D/' | while read -r r; do iptables -w -t nat $r; done"
        for node in own:
            execute(node, undo)
            execute(node, 'for there; do ip route del "$there" 2>/dev/null; done; true', *own.values())


# -- ways ------------------------------------------------------------------------------------


def test_through_a_jump_host(lab_factory: LabFactory) -> None:
    """Everything goes by way of it; a jump host that shows another key is refused before anything is sent."""
    lab = lab_factory(jump=True)
    jump = lab.jump
    assert jump
    each(lab.nodes, lambda node: execute(node, NOT_THE_JUMP, jump.address))
    execute(jump, NEW_KEYS)
    try:
        done = drive.fails(lab, 3, "has changed", jump.address, "ssh-keygen -R")
        assert done.err.count("SHA256:") >= 2, str(done)
        assert all(
            "ssh" not in execute(node, "journalctl --sync; journalctl -q -u ssh -g Accepted || true")
            for node in lab.nodes
        )
    finally:
        execute(jump, OLD_KEYS)
    _deployed(lab)
    assert drive.must(lab, "health").out.count("is healthy") == 3
    for node in lab.nodes:
        accepted = execute(node, "journalctl --sync; journalctl -q -u ssh -o cat -g 'Accepted publickey'")
        assert accepted
        assert all(f" from {jump.address} " in line for line in accepted.splitlines())


# -- ports, places, keys ---------------------------------------------------------------------


def test_other_ports_places_and_keys(lab3: Lab) -> None:
    """Every port, every path, the user, one CA for both, P-384; and a log that is gone is told as such."""
    drive.edit(
        lab3,
        ports="{client: 12379, peer: 12380, metrics: 12381}",
        paths="{bin: /usr/local/sbin, config: /etc/kv, data: /srv/kv/data, wal: /mnt/kv/wal}",
        pki="{peer_ca: same, key: ecdsa-p384}",
        user="kvstore",
    )
    _deployed(lab3)
    assert drive.must(lab3, "health").out.count(":12379 is healthy") == 3
    for node in lab3.nodes:
        client, peer = drive.served(node, 12379), drive.served(node, 12380)
        assert client.issuer == peer.issuer
        assert _key(client) == _key(peer) == "secp384r1"
        owned = execute(
            node, "stat -c '%n %a %U' /etc/kv /srv/kv/data /mnt/kv/wal /usr/local/sbin/etcdctl.sh"
        )
        assert owned.splitlines() == [
            "/etc/kv 750 root",
            "/srv/kv/data 700 kvstore",
            "/mnt/kv/wal 700 kvstore",
            "/usr/local/sbin/etcdctl.sh 755 root",
        ]
        assert execute(node, "find / -xdev -path /proc -prune -o -name '*.wal' -print").startswith(
            "/mnt/kv/wal/"
        )
        assert execute(node, "ls -d /etc/etcd /var/lib/etcd /usr/local/bin/etcd* 2>/dev/null; true") == ""
        assert "etcd_server_has_leader 1" in _metrics(node, "-cert $p/etcdctl.crt -key $p/etcdctl.key")
        assert "etcd_server_has_leader" not in _metrics(node, "")
    _wal_gone_and_back(lab3, lab3.node("n2"))


def _wal_gone_and_back(lab: Lab, node: Node) -> None:
    execute(node, "systemctl stop etcd && mv /mnt/kv/wal /mnt/kv/unmounted && systemctl start etcd; true")
    assert execute(node, "systemctl show -P MainPID etcd").strip() == "0"
    with drive.untouched(lab, "/srv/kv/"):
        done = drive.fails(lab, 4, "nothing was changed")
        drive.tells(done, "n2:", "/mnt/kv/wal is absent", "mount it")
    execute(node, "mv /mnt/kv/unmounted /mnt/kv/wal")
    drive.deploy(lab)
    assert drive.get(node, "deployed") == "in the end"


def _metrics(node: Node, certificate: str) -> str:
    script = f"""p=/etc/kv/pki/current
    printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' |
        openssl s_client -quiet -CAfile $p/ca.crt {certificate} -connect "$1:12381" 2>/dev/null; true"""
    return execute(node, script, node.address)


def test_rsa_keys(lab_factory: LabFactory) -> None:
    """Every key is of the wanted kind, the CA's too, and they serve."""
    lab = lab_factory(1)
    drive.edit(lab, pki="{key: rsa-2048}")
    _deployed(lab)
    assert _key(drive.served(lab.nodes[0], 2379)) == "rsa 2048"
    for authority in lab.state.glob("certs/*/ca/*/*.crt"):
        assert _key(x509.load_pem_x509_certificate(authority.read_bytes())) == "rsa 2048"


def _key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, EllipticCurvePublicKey):
        return key.curve.name
    assert isinstance(key, RSAPublicKey)
    return f"rsa {key.key_size}"


# -- what tests share ------------------------------------------------------------------------


def _deployed(lab: Lab) -> None:
    """Deploy; then it holds together, and nothing is left to do."""
    drive.deploy(lab)
    drive.settle_nothing(lab)
    drive.put(lab.nodes[0], "deployed", "in the end")
    assert [drive.get(node, "deployed") for node in lab.nodes] == ["in the end"] * len(lab.nodes)
