"""A real sshd on loopback for one test: own port, keys and configuration, nothing shared."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, SshSpec, Version
from tests.ports import free_port

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin:/sbin") or ""
USER = getpass.getuser()

CONFIG = """
ListenAddress 0.0.0.0
Port {port}
HostKey {host_key}
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
# bash then leaves the tester's own .bashrc alone
SetEnv SHLVL=5
"""


def make_key(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    """Make a key pair with ssh-keygen, as an operator does."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)], check=True)
    return path


def public(path: Path) -> str:
    """The public half without its comment."""
    kind, blob = path.with_name(path.name + ".pub").read_text().split()[:2]
    return f"{kind} {blob}"


def fingerprint(path: Path) -> str:
    """The fingerprint as OpenSSH prints it."""
    shown = subprocess.run(["ssh-keygen", "-lf", str(path)], check=True, capture_output=True, text=True)
    return shown.stdout.split()[1]


@dataclass
class Sshd:
    """One server and the client's side of it."""

    folder: Path
    key: Path
    host_key: Path
    known_hosts: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """The server's name in known_hosts."""
        return f"[127.0.0.1]:{self.port}"

    def start(self) -> None:
        """Start and wait until it greets."""
        config = self.folder / "sshd_config"
        first = "\n".join(self.options)
        text = CONFIG.format(port=self.port, host_key=self.host_key, folder=self.folder)
        config.write_text(f"{first}\n{text}")
        self.process = subprocess.Popen([SSHD, "-D", "-f", str(config), "-E", str(self.folder / "sshd.log")])
        end = time.monotonic() + 10
        while not self.greets():
            assert time.monotonic() < end, (self.folder / "sshd.log").read_text()
            time.sleep(0.02)

    def greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as dialled:
                return dialled.recv(4) == b"SSH-"
        except OSError:
            return False

    def trust(self) -> None:
        """Let the client know the server's real key."""
        with self.known_hosts.open("a") as file:
            file.write(f"{self.name} {public(self.host_key)}\n")

    def sessions(self) -> list[int]:
        """The processes that serve one connection each."""
        assert self.process is not None
        return [pid for pid in pids() if parent(pid) == self.process.pid]

    def stop(self) -> None:
        """Stop the listener and every session it still serves."""
        assert self.process is not None
        sessions = self.sessions()
        self.process.terminate()
        self.process.wait(10)
        for pid in sessions:
            signal_all(pid, signal.SIGKILL)

    def ssh(self, **wish: object) -> SshSpec:
        """How a node behind this server is reached; `wish` replaces what a test is about."""
        base: dict[str, object] = {
            "user": USER,
            "port": self.port,
            "key": self.key,
            "known_hosts": self.known_hosts,
        }
        return SshSpec(**{**base, **wish})  # type: ignore[arg-type]

    def cluster(self, *names: str, **wish: object) -> ClusterSpec:
        """A cluster whose nodes are all this server."""
        nodes = tuple(NodeSpec(name, "127.0.0.1", ssh=self.ssh(**wish)) for name in names or ("n1",))
        return ClusterSpec("demo", Version(3, 6, 14), nodes, self.folder / "inventory.yaml")


def pids() -> list[int]:
    """All processes of this machine."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def parent(pid: int) -> int:
    """The parent of a process; 0 once it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def signal_all(pid: int, number: int) -> None:
    """Signal one process; it may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Sshd]:
    """A started server whose key the client knows."""
    folder.mkdir(parents=True)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = Sshd(
        folder, make_key(folder / "user"), make_key(folder / "host"), folder / "known_hosts", tuple(options)
    )
    (folder / "authorized_keys").write_text(public(server.key) + "\n")
    server.start()
    server.trust()
    try:
        yield server
    finally:
        server.stop()
