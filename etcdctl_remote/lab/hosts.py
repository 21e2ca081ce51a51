"""Containers that are hosts: how they are made, how they boot, how tests reach into them."""

from __future__ import annotations

import hashlib
import io
import ipaddress
import secrets
import struct
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..errors import Failed, TimedOut
from . import image
from .engine import connect
from .machine import open_files
from .model import Node, Shape, each

if TYPE_CHECKING:
    from docker import APIClient, DockerClient
    from docker.models.networks import Network

LABEL = "etcdctl-remote.lab"
BOOT_SECONDS = 60.0
NETWORK_TRIES = 5
CAPABILITIES = ["SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_NICE", "SYS_PTRACE", "IPC_LOCK"]
"""What systemd, iptables and etcd need; no SYS_TIME, for a node's clock is the machine's."""
READY = """n=0
until ss -Hltn 'sport = :22' | grep -q . && test -s /etc/ssh/ssh_host_ed25519_key.pub; do
    n=$((n+1)); test $n -lt 200 || exit 1; sleep 0.1
done
for i in $(seq 200); do
    state=$(systemctl is-system-running 2>/dev/null)
    case $state in running|degraded) cat /etc/ssh/ssh_host_*_key.pub; exit 0;; esac
    sleep 0.1
done
echo "systemd: $state" >&2; exit 1"""


def start_all(name: str, shape: Shape, folder: Path, tag: str) -> None:
    client = connect()
    labels = {LABEL: name, f"{LABEL}.os": shape.os, f"{LABEL}.state": str(folder)}
    labels[f"{LABEL}.disks"] = ",".join(shape.disks)
    if shape.owner:
        labels[f"{LABEL}.owner"] = shape.owner
    network, subnet4, subnet6 = _network(client, name, labels)
    names = [f"n{index}" for index in range(1, shape.nodes + 1)] + (["jump"] if shape.jump else [])
    public = (folder / "id_ed25519.pub").read_text(encoding="ascii")

    def start(index: int) -> None:
        address, address6 = str(subnet4[11 + index]), str(subnet6[0x11 + index]) if subnet6 else ""
        own = {f"{LABEL}.node": names[index], f"{LABEL}.address": address, f"{LABEL}.address6": address6}
        node = client.api.create_container(
            tag,
            name=f"{name}-{names[index]}",
            hostname=names[index],
            labels=labels | own,
            stop_signal="SIGRTMIN+3",
            host_config=_host_config(client, shape),
            networking_config=_endpoint(client, network, address, address6),
        )
        client.api.put_archive(node["Id"], "/", _authorized(public))
        client.api.start(node["Id"])

    each(range(len(names)), start)


def _endpoint(client: DockerClient, network: str, address: str, address6: str) -> Any:
    """Fix a container's addresses: the engine's own choice may change at a reboot."""
    endpoint: Any = client.api.create_endpoint_config(ipv4_address=address, ipv6_address=address6 or None)
    return client.api.create_networking_config({network: endpoint})  # type: ignore[arg-type]


def _host_config(client: DockerClient, shape: Shape) -> dict[str, Any]:
    """The proven recipe for a container that is a host, without --privileged."""
    from docker.types import Ulimit

    tmpfs = {"/run": "", "/run/lock": "", "/tmp": "exec"}  # noqa: S108 - inside the node
    tmpfs |= {path: f"exec,mode=755,size={size}m" for path, size in shape.disks.items()}
    files = open_files()
    config: dict[str, Any] = client.api.create_host_config(
        cap_add=CAPABILITIES,
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
        tmpfs=tmpfs,
        ulimits=[Ulimit(name="nofile", soft=files, hard=files)],
        **_cgroups(client, shape.os),
    )
    return config


def _cgroups(client: DockerClient, os_name: str) -> dict[str, Any]:
    """How the node sees cgroups, by the engine's generation and what its systemd accepts.

    The machine's tree, in which each container is a branch. On v1, systemd 257 (Debian 13)
    refuses that, but takes the v2 hierarchy that a hybrid machine has beside it.
    """
    tree = Path("/sys/fs/cgroup")
    if str(client.info().get("CgroupVersion", "1")) == "1" and os_name != "debian12":
        tree /= "unified"
        if not tree.is_dir():
            raise Failed(f"{os_name} needs cgroup v2, and this machine has only v1", "use --os debian12")
    return {"cgroupns": "host", "binds": [f"{tree}:/sys/fs/cgroup:rw"]}


def _network(
    client: DockerClient, name: str, labels: Mapping[str, str]
) -> tuple[str, ipaddress.IPv4Network, ipaddress.IPv6Network | None]:
    """Make a bridge with fixed subnets, so that addresses survive reboots; dual-stack if it may be."""
    from docker.errors import APIError
    from docker.types import IPAMConfig, IPAMPool

    seed = hashlib.sha256(name.encode()).digest()
    network = f"etcdctl-remote-{name}-{secrets.token_hex(3)}"
    last: Exception | None = None
    for attempt in range(40):
        subnet4 = ipaddress.IPv4Network(f"10.{201 + (seed[0] + attempt) % 40}.{seed[1]}.0/24")
        subnet6 = ipaddress.IPv6Network(f"fd{seed[2]:02x}:{seed[3:5].hex()}:{seed[5:7].hex()}:{attempt}::/64")
        for both in (True, False) if Path("/proc/net/if_inet6").exists() else (False,):
            pools = [IPAMPool(subnet=str(subnet4))] + ([IPAMPool(subnet=str(subnet6))] if both else [])
            try:
                client.networks.create(
                    network,
                    driver="bridge",
                    enable_ipv6=both,
                    ipam=IPAMConfig(pool_configs=pools),
                    labels=dict(labels),
                    check_duplicate=True,
                )
            except APIError as error:
                last = error
                continue
            return network, subnet4, subnet6 if both else None
    raise Failed(f"the engine gives no network for lab {name}: {last}") from last


def remove_network(network: Network) -> bool:
    """Remove a lab's network, now free of containers; False if the engine will not.

    When many containers end at once, engine 20.10 can lose count of a network's endpoints and
    keeps it, empty, until the engine itself restarts. It costs nothing but its subnet.
    """
    from docker.errors import APIError, NotFound

    for _ in range(NETWORK_TRIES):
        try:
            network.remove()
        except NotFound:
            return True
        except APIError:
            time.sleep(0.3)
        else:
            return True
    return False


def _authorized(public: str) -> bytes:
    """Pack the public key for the three users, as the engine takes files."""
    packed = io.BytesIO()
    homes = {"root": 0, "home/ops": image.OPS_UID, "home/admin": image.ADMIN_UID}
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for home, uid in homes.items():
            entry = tarfile.TarInfo(f"{home}/.ssh/authorized_keys")
            entry.size, entry.mode, entry.uid, entry.gid = len(public), 0o600, uid, uid
            tar.addfile(entry, io.BytesIO(public.encode("ascii")))
    return packed.getvalue()


def await_boot(node: Node) -> str:
    """Wait until systemd has come up and sshd listens; gives the public host keys."""
    deadline = time.monotonic() + BOOT_SECONDS
    seen = ""
    while time.monotonic() < deadline:
        try:
            return execute(node, READY)
        except Failed as error:
            seen = error.message
            _still_on(node)
            time.sleep(0.2)
    waited = f"{node.name} did not come up within {BOOT_SECONDS:.0f} s: {seen}"
    raise TimedOut(waited, f"docker logs {node.container}")


def _still_on(node: Node) -> None:
    """Fail at once if the node's systemd has ended."""
    handle = node.handle()
    if handle.status == "exited":
        last = handle.logs(tail=3).decode(errors="replace").strip()
        hint = "often the inotify limit: sysctl fs.inotify.max_user_instances=1024"
        raise Failed(f"{node.name} went off while booting: {last or 'no message'}", hint)


def execute(node: Node, script: str, *args: str) -> str:
    """Run a shell script as root on a node, past SSH: for set-up only. Failed if it fails."""
    from docker.errors import APIError

    api = connect().api
    try:
        ran = api.exec_create(node.container, ["sh", "-c", script, "sh", *args])["Id"]
        out, err = _streams(_output(api, ran))
        status = _exit(api, ran)
    except APIError as error:
        raise Failed(f"{node.name}: {error.explanation or error}") from error
    if status:
        seen = (err or out).strip() or "no message"
        raise Failed(f"{node.name}: {script.splitlines()[0][:60]}: exit {status}: {seen}")
    return out


def _output(api: APIClient, ran: str) -> bytes:
    """Start what was prepared, and read all it writes as the body of a plain answer.

    The SDK's own way takes over the socket, and loses what has been read ahead with the headers.
    """
    url = f"{api.base_url}/v{api.api_version}/exec/{ran}/start"
    answer = api.post(url, json={"Detach": False, "Tty": False}, timeout=None)
    if not answer.ok:
        raise Failed(f"the engine did not run it: {answer.status_code} {answer.text.strip()}")
    return answer.content


def _exit(api: APIClient, ran: str) -> int:
    """Give the exit code; the engine may close the streams a moment before it knows."""
    for _ in range(250):
        status: int | None = api.exec_inspect(ran)["ExitCode"]
        if status is not None:
            return status
        time.sleep(0.02)
    raise Failed("the engine never told how it ended")


def _streams(packed: bytes) -> tuple[str, str]:
    """Take standard output and error apart: frames of a stream's number, a length and that much."""
    found = {1: bytearray(), 2: bytearray()}
    at = 0
    while at + 8 <= len(packed):
        stream, size = struct.unpack_from(">BxxxL", packed, at)
        found[stream] += packed[at + 8 : at + 8 + size]
        at += 8 + size
    return found[1].decode(errors="replace"), found[2].decode(errors="replace")


def write(node: Node, path: str, content: bytes, mode: int = 0o644) -> None:
    """Put a file on a node, owned by root, past SSH."""
    place = PurePosixPath(path)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo(place.name)
        entry.size, entry.mode = len(content), mode
        tar.addfile(entry, io.BytesIO(content))
    if not node.handle().put_archive(str(place.parent), packed.getvalue()):
        raise Failed(f"{node.name}: the engine did not take {path}")
