"""The lab's nodes are what they say they are: whole hosts, each its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from etcdctl_remote.errors import Failed, Refused, UsageError
from etcdctl_remote.lab import faults, image, nodes, variants
from etcdctl_remote.lab.hosts import execute, write

pytestmark = pytest.mark.cluster

LabOf = Callable[..., nodes.Lab]


def ssh(
    lab: nodes.Lab, node: nodes.Node, command: str, user: str = "ops", stdin: str = "", *more: str
) -> subprocess.CompletedProcess[str]:
    options = [*more, "-i", str(lab.key), "-F", "none", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes"]
    options += [f"-oUserKnownHostsFile={lab.known_hosts}", "-oConnectTimeout=20"]
    argv = ["ssh", *options, f"{user}@{node.address}", command]
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def reaches(one: nodes.Node, other: str, within: int = 20) -> bool:
    """Whether a TCP connection from one node to another's sshd opens, by bash's own /dev/tcp."""
    script = 'timeout "$2" bash -c "exec 3<>/dev/tcp/$1/22" && echo yes || echo no'
    return execute(one, script, other, str(within)).strip() == "yes"


@pytest.mark.parametrize("os_name", list(image.SUITES))
def test_systemd_is_pid_1_and_runs(lab_factory: LabOf, os_name: str) -> None:
    """Each node boots to a running systemd of its own, in the wanted release of Debian."""
    lab = lab_factory(3, os=os_name)
    for node in lab.nodes:
        assert execute(node, "cat /proc/1/comm").strip() == "systemd"
        assert execute(node, "systemctl is-system-running || true").strip() in ("running", "degraded")
        assert f"VERSION_CODENAME={image.SUITES[os_name]}" in execute(node, "cat /etc/os-release")


def test_ops_becomes_root_without_a_password(lab3: nodes.Lab) -> None:
    """`ops` logs in by key, the host key being checked strictly, and sudo asks nothing."""
    for node in lab3.nodes:
        done = ssh(lab3, node, "sudo -n id -u; hostname")
        assert (done.returncode, done.stdout.split()) == (0, ["0", node.name])


def test_admin_becomes_root_with_a_password_only(lab3: nodes.Lab) -> None:
    """`admin`'s sudo refuses without its password, and takes it on standard input."""
    node = lab3.nodes[0]
    assert ssh(lab3, node, "sudo -n id -u", "admin").returncode != 0
    assert ssh(lab3, node, "sudo -S -p '' id -u", "admin", "wrong\n").returncode != 0
    done = ssh(lab3, node, "sudo -S -p '' id -u", "admin", f"{image.ADMIN_PASSWORD}\n")
    assert done.stdout.strip() == "0"


def test_root_logs_in_by_key(lab3: nodes.Lab) -> None:
    """root is let in by key, and by nothing else."""
    assert ssh(lab3, lab3.nodes[0], "id -u", "root").stdout.strip() == "0"
    assert ssh(lab3, lab3.nodes[0], "id -u", "root", "", "-oPubkeyAuthentication=no").returncode == 255


def test_each_node_has_its_own_host_keys_and_machine_id(lab3: nodes.Lab) -> None:
    """Nothing that makes a host itself is shared through the image."""
    keys = {execute(node, "cat /etc/ssh/ssh_host_ed25519_key.pub") for node in lab3.nodes}
    ids = {execute(node, "cat /etc/machine-id") for node in lab3.nodes}
    assert (len(keys), len(ids)) == (3, 3)


def test_a_node_lacks_what_the_product_must_not_need(lab3: nodes.Lab) -> None:
    """No python, curl, wget, openssl command or rsync on a node."""
    absent = "for p in python3 curl wget rsync etcd; do command -v $p; done; true"
    assert execute(lab3.nodes[0], absent) == ""


def test_cut_parts_two_nodes_and_only_those(lab3: nodes.Lab) -> None:
    """A cut drops packets both ways in both families; the third node and the operator still reach both."""
    one, two, three = lab3.nodes
    faults.cut(one, two)
    assert not reaches(one, two.address, within=3)
    assert not reaches(two, one.address, within=3)
    if two.address6:
        assert not reaches(one, two.address6, within=3)
    assert reaches(one, three.address)
    assert reaches(three, two.address)
    assert ssh(lab3, one, "true").returncode == 0
    faults.heal(one, two)
    assert reaches(one, two.address)
    assert reaches(two, one.address)
    if two.address6:
        assert reaches(one, two.address6)


def power_cycle(node: nodes.Node) -> None:
    faults.power_off(node)
    faults.power_on(node)


@pytest.mark.parametrize("how", [faults.reboot, power_cycle])
def test_a_node_comes_back_as_itself(lab3: nodes.Lab, how: Callable[[nodes.Node], None]) -> None:
    """After a reboot or a power cut: the same addresses, host keys and files, and a new boot."""
    node = lab3.nodes[1]
    write(node, "/var/lib/kept", b"kept")
    itself = "ip -o addr show dev eth0 scope global | awk '{print $4}'; cat /etc/machine-id /var/lib/kept"
    before = ssh(lab3, node, itself).stdout
    born = execute(node, "stat -c %y /proc/1")
    how(node)
    assert node.address in before
    assert ssh(lab3, node, itself).stdout == before
    assert execute(node, "stat -c %y /proc/1") != born


def test_a_small_disk_fills_up_and_is_freed(lab_factory: LabOf) -> None:
    """A node with a disk of its own runs out of space when filled, and has it back when freed."""
    node = lab_factory(1, disks={"/var/lib/etcd": 32}).nodes[0]
    spend = "dd if=/dev/zero of=/var/lib/etcd/more bs=1k count=512"
    faults.fill(node, "/var/lib/etcd", leave_kb=100)
    with pytest.raises(Failed, match="No space left"):
        execute(node, spend)
    faults.free(node, "/var/lib/etcd")
    execute(node, spend)


def test_the_machine_itself_is_never_filled(lab3: nodes.Lab) -> None:
    """`fill` refuses a folder that lies on the machine's own disk."""
    with pytest.raises(Failed, match="no small disk"):
        faults.fill(lab3.nodes[0], "/opt")


def test_a_frozen_sshd_accepts_and_says_nothing(lab3: nodes.Lab) -> None:
    """SIGSTOP leaves a port that opens and stays silent, the worst kind of peer."""
    one, two, _ = lab3.nodes
    with faults.frozen(one):
        assert reaches(two, one.address)
        assert "timed out" in ssh(lab3, one, "true", "ops", "", "-oConnectTimeout=1").stderr
    assert ssh(lab3, one, "true").returncode == 0


def test_a_jump_host_reaches_the_nodes(lab_factory: LabOf) -> None:
    """With a jump host, the nodes are logged in to through it, both host keys checked."""
    lab = lab_factory(1, jump=True)
    assert lab.jump is not None
    hop = f"ssh -F none -i {lab.key} -oUserKnownHostsFile={lab.known_hosts} -oBatchMode=yes"
    proxy = f"-oProxyCommand={hop} -W %h:%p ops@{lab.jump.address}"
    done = ssh(lab, lab.nodes[0], "hostname; echo $SSH_CLIENT", "ops", "", proxy)
    assert done.stdout.split()[:2] == [lab.nodes[0].name, lab.jump.address]
    assert f"jump: ops@{lab.jump.address}" in lab.inventory.read_text(encoding="utf-8")


def test_variants_change_the_host_and_reset_undoes_them(lab_factory: LabOf) -> None:
    """Shell, umask, sftp and locale really change for a login; `reset` brings the plain node back."""
    lab = lab_factory(1)
    node = lab.nodes[0]
    variants.login_shell(node, "/bin/tcsh")
    variants.umask_077(node)
    variants.no_sftp(node)
    variants.foreign_locale(node)
    variants.proxies(node)
    assert ssh(lab, node, "echo $shell; umask; /usr/bin/printenv LANG http_proxy").stdout.split() == [
        "/bin/tcsh",
        "77",
        "de_DE.UTF-8",
        "http://127.0.0.1:9",
    ]
    assert "nicht" in ssh(lab, node, "ls /nowhere").stderr
    assert ssh(lab, node, "sudo sh -c umask").stdout.strip() == "0077"
    assert "Subsystem" not in execute(node, "sshd -T | grep -i ^subsystem || true")
    faults.reset(lab)
    plain = ssh(lab, node, 'echo "$SHELL"; umask; printenv LANG; grep ^Subsystem /etc/ssh/sshd_config')
    assert plain.stdout.split()[:3] == ["/bin/bash", "0022", "Subsystem"]


def test_reset_leaves_no_trace_of_a_cluster(lab_factory: LabOf) -> None:
    """Users, units, running programs, files and firewall rules of a test are gone after `reset`."""
    lab = lab_factory(1)
    node = lab.nodes[0]
    fingerprint = "find /etc /opt /usr/local /var/lib -xdev ! -path '/var/lib/systemd/*' -type f -print0"
    fingerprint += " | sort -z | xargs -0 sha256sum; cat /etc/passwd; iptables -S"
    before = execute(node, fingerprint)
    execute(
        node,
        """useradd -r etcd; mkdir -p /etc/etcd/pki /opt/etcd/v1 /var/lib/etcd/member
        cp /bin/sleep /opt/etcd/v1/etcd; ln -s /opt/etcd/v1/etcd /usr/local/bin/etcd
        chown -R etcd /var/lib/etcd; echo changed >>/etc/hosts.allow; rm /etc/sudoers.d/ops
        printf '[Service]\\nUser=etcd\\nExecStart=/usr/local/bin/etcd 1000\\nRestart=always\\n' \
            >/etc/systemd/system/etcd.service
        systemctl daemon-reload; systemctl start etcd; iptables -A INPUT -p tcp --dport 2380 -j DROP""",
    )
    faults.reset(lab)
    assert execute(node, fingerprint) == before
    assert execute(node, "pgrep -x etcd || true; systemctl is-active etcd || true").split() == ["inactive"]


def test_up_is_idempotent_and_refuses_another_shape(
    tmp_path: Path, lab_pool: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second `up` of the same lab gives it back, starts what was off; another shape is refused."""
    name = f"again-{nodes.me().partition(':')[0]}"
    shape = nodes.Shape(nodes=1, owner=nodes.me())
    try:
        first = nodes.up(name, shape, tmp_path)
        faults.power_off(first.nodes[0])
        said: list[str] = []
        assert nodes.up(name, shape, tmp_path, say=said.append) == first
        assert "stands already" in said[-1]
        assert ssh(first, first.nodes[0], "true").returncode == 0
        with pytest.raises(Refused, match="stands already, with 1 debian12 nodes"):
            nodes.up(name, nodes.Shape(nodes=2, owner=nodes.me()), tmp_path)
        assert name in {lab.name for lab in nodes.list_labs()}
    finally:
        assert nodes.down(name)
    assert nodes.find(name) is None
    assert not first.state.exists()
    assert not nodes.down(name)


def test_sweep_removes_only_labs_of_dead_runs(tmp_path: Path, lab_pool: object) -> None:
    """A lab whose test run has died is removed; one of a living run, or of nobody's, stays."""
    mine, dead = (f"{kind}-{nodes.me().partition(':')[0]}" for kind in ("mine", "dead"))
    try:
        nodes.up(mine, nodes.Shape(nodes=1, owner=nodes.me()), tmp_path)
        nodes.up(dead, nodes.Shape(nodes=1, owner="4194303:1"), tmp_path)
        nodes.sweep()
        assert nodes.find(dead) is None
        assert nodes.find(mine) is not None
    finally:
        nodes.down(mine)
        nodes.down(dead)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("Bad Name", nodes.Shape()), ("zero", nodes.Shape(nodes=0)), ("os", nodes.Shape(os="plan9"))],
)
def test_what_cannot_be_a_lab_is_said(tmp_path: Path, name: str, shape: nodes.Shape) -> None:
    """A bad name, count or system is a usage error before anything is started."""
    with pytest.raises(UsageError):
        nodes.up(name, shape, tmp_path)
