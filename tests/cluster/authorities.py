"""What tests about CAs share: one of two is replaced; looks past the program, with openssl, etcdctl, from a node."""

from __future__ import annotations

import http.client
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, Node, each
from tests.unit.pki.openssl import openssl

from . import drive
from .killing import last_run, restarts_in

FILES = {
    "client": {"ca.crt", "server.crt", "server.key", "etcdctl.crt", "etcdctl.key"},
    "peer": {"peer-ca.crt", "peer.crt", "peer.key"},
}
PORTS = {"client": 2379, "peer": 2380}
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", re.S)


def replaced(lab: Lab, which: str) -> None:
    """Two rolling restarts, as planned; new files and a new issuer for the one CA, the same ones for the other."""
    before, starts, wire = in_force(lab), drive.started(lab), issuers(lab)
    drive.must(lab, "rotate-certs", "--ca-only", which, "-y")
    agreed = next(entry for entry in last_run(lab) if entry["event"] == "plan")
    planned = restarts_in(agreed["stages"])
    assert sorted(planned) == sorted([node.name for node in lab.nodes] * 2)
    assert restarts(lab, starts) == {2}
    assert changed(before, in_force(lab)) == {node.name: FILES[which] for node in lab.nodes}
    after = issuers(lab)
    (other,) = PORTS.keys() - {which}
    assert after[PORTS[other]] == wire[PORTS[other]]
    assert not after[PORTS[which]] & wire[PORTS[which]]
    assert len(after[PORTS[which]]) == 1
    drive.settle_nothing(lab)
    drive.must(lab, "health")


def restarts(lab: Lab, before: dict[str, int]) -> set[int]:
    """Count the starts of each member since; one number where all had as many."""
    return {count - before[name] for name, count in drive.started(lab).items()}


def issuers(lab: Lab) -> dict[int, set[str]]:
    """Who has signed what each port shows, over all members."""
    return {
        port: {drive.served(node, port).issuer.rfc4514_string() for node in lab.nodes}
        for port in PORTS.values()
    }


def in_force(lab: Lab) -> dict[str, str]:
    """Take down the sum of each file that a member reads, by `node/file`."""
    script = 'cd "$1" && sha256sum *'
    found = each(lab.nodes, lambda node: execute(node, script, drive.PKI).splitlines())
    return {
        f"{node.name}/{name}": digest
        for node, lines in zip(lab.nodes, found, strict=True)
        for digest, name in (line.split() for line in lines)
    }


def changed(before: dict[str, str], after: dict[str, str]) -> dict[str, set[str]]:
    """Name the files that changed, by node."""
    found: dict[str, set[str]] = {}
    for path in drive.changed(before, after):
        node, _, name = path.partition("/")
        found.setdefault(node, set()).add(name)
    return found


def shown(node: Node, port: int) -> list[bytes]:
    """Return all certificates that a port shows, as the openssl program sees them."""
    dial = ["openssl", "s_client", "-showcerts", "-connect", f"{node.address}:{port}"]
    return _PEM.findall(subprocess.run(dial, input=b"", capture_output=True, check=False).stdout)


def verify(node: Node, port: int, root: Path, folder: Path) -> None:
    """Have openssl verify what a port shows, down from a root that was never on a node's disk."""
    leaf, *rest = shown(node, port)
    (folder / "leaf.crt").write_bytes(leaf)
    (folder / "rest.crt").write_bytes(b"".join(rest))
    behind = ("-untrusted", folder / "rest.crt") if rest else ()
    strict = ("-x509_strict", "-purpose", "sslserver", "-verify_ip", node.address, "-CAfile", root)
    openssl("verify", "-no-CApath", "-no-CAstore", *strict, *behind, folder / "leaf.crt")


def etcdctl(programs: Path, lab: Lab, files: Path, name: str, *words: str) -> str:
    """Use an application's files with a release's etcdctl on this machine, against all members."""
    urls = ",".join(f"https://{node.address}:2379" for node in lab.nodes)
    own = (f"--cacert={files}/ca.crt", f"--cert={files}/{name}.crt", f"--key={files}/{name}.key")
    argv = [str(programs / "etcdctl"), f"--endpoints={urls}", *own, *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, (shlex.join(argv), done)
    return done.stdout


@contextmanager
def tunnel(lab: Lab, source: Node, target: Node, port: int) -> Iterator[int]:
    """Dial a member from another node's address, by the ssh program; gives the port on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        here: int = free.getsockname()[1]
    to = f"{here}:{target.address}:{port}"
    options = ["-N", "-i", str(lab.key), "-o", f"UserKnownHostsFile={lab.known_hosts}", "-o", "BatchMode=yes"]
    ssh = ["ssh", "-F", "none", *options, "-o", "ExitOnForwardFailure=yes", "-L", to, f"ops@{source.address}"]
    with subprocess.Popen(ssh, stdin=subprocess.DEVNULL) as process:
        try:
            _await(here, process)
            yield here
        finally:
            process.terminate()


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("ssh did not forward the port")


def asked(address: str, port: int, files: tuple[Path, Path], path: str = "/version") -> tuple[int, str]:
    """Ask for a path with this certificate and key: status and answer; 0 and why where it is refused."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(*files)
    connection = http.client.HTTPSConnection(address, port, timeout=10, context=context)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected) as error:
        return 0, str(error)
    finally:
        connection.close()


def saved(lab: Lab, node: Node, folder: Path) -> tuple[Path, Path]:
    """Copy a node's peer certificate and key from the store."""
    folder.mkdir()
    held = lab.state / "certs" / lab.name / "current" / node.name
    files = (folder / "peer.crt", folder / "peer.key")
    for path in files:
        shutil.copyfile(held / path.name, path)
    return files


def from_node(lab: Lab, source: Node, member: Node, own: tuple[Path, Path]) -> int:
    """Dial a member's peer port as a node would: the address it comes from has to fit the certificate."""
    with tunnel(lab, source, member, 2380) as port:
        return asked("127.0.0.1", port, own)[0]
