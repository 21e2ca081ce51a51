"""The floor: the same bytes and the same questions by plain ssh and tar, and nothing else.

No check, no sum, no atomic rename, no sync, no lock, no second look. Every ssh is a fresh
connection, all nodes at once, as a careful person would write it in a shell script.
"""

from __future__ import annotations

import io
import shlex
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from etcdctl_remote.desired.model import ClusterSpec
from etcdctl_remote.desired.spec import HostSpec
from etcdctl_remote.lab.model import Lab, Node
from etcdctl_remote.observed import etcdctl

Script = tuple[str, ...]
"""A program with its arguments."""


@dataclass(frozen=True)
class Floor:
    """Shell scripts for one lab."""

    lab: Lab
    cluster: ClusterSpec
    archive: Path
    small: Path
    """The folder with NODE.tar: certificates, unit, environment, links."""

    def true(self) -> Script:
        """Log in to every node."""
        return self._parallel(lambda node: self._ssh(node, "true"))

    def health(self) -> Script:
        """Ask every member for its health on its own node."""
        return self._parallel(lambda node: self._ssh(node, f"sudo {self._health(node)}"))

    def install(self) -> Script:
        """Send and unpack the release, then the small files."""
        return self._parallel(self._bytes)

    def start(self) -> Script:
        """Start etcd on nodes where the bytes are, and poll until all are healthy."""
        return self._parallel(self._start)

    def install_and_start(self) -> Script:
        """Do both in one script."""
        return self._parallel(lambda node: f"{self._bytes(node)} && {self._start(node)}")

    def rotate(self) -> Script:
        """Send the certificates to one node after the other, and ask all for their health in between."""
        check = self.health()[-1]
        lines = [f"({self._certificates(node)}) && ({check})" for node in self.lab.nodes]
        return ("bash", "-c", " && ".join(lines))

    def _certificates(self, node: Node) -> str:
        script = f"tar -x -C / && chgrp -R {self.cluster.user} {self.cluster.paths.config}/pki"
        unpack = self._ssh(node, f"sudo sh -c {shlex.quote(script)}")
        return f"{unpack} <{shlex.quote(str(self.small / f'{node.name}.pki.tar'))}"

    def _bytes(self, node: Node) -> str:
        release = f"/opt/etcd/v{self.cluster.version}"
        unpack = f"sudo mkdir -p {release} && sudo tar -xz -C {release} --strip-components=1 --no-same-owner"
        return (
            f"{self._ssh(node, unpack)} <{shlex.quote(str(self.archive))} && "
            f"{self._ssh(node, 'sudo tar -x -C /')} <{shlex.quote(str(self.small / f'{node.name}.tar'))}"
        )

    def _start(self, node: Node) -> str:
        user, data = self.cluster.user, self.cluster.paths.data
        script = (
            f"useradd --system {user} && chown -R {user}: {data} && chgrp -R {user} {self.cluster.paths.config} && "
            "systemctl daemon-reload && systemctl start --no-block etcd && "
            f"until {self._health(node)} 2>/dev/null; do sleep 0.1; done"
        )
        return self._ssh(node, f"sudo sh -c {shlex.quote(script)}")

    def _health(self, node: Node) -> str:
        return shlex.join((*etcdctl.argv(self.cluster, self.cluster.node(node.name)), "endpoint", "health"))

    def _ssh(self, node: Node, command: str) -> str:
        options = ("-F", "none", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={self.lab.known_hosts}")
        argv = ("ssh", *options, "-i", str(self.lab.key), f"ops@{node.address}", command)
        return shlex.join(argv)

    def _parallel(self, do: Callable[[Node], str]) -> Script:
        starts = "".join(f'({do(node)}) & pids="$pids $!"\n' for node in self.lab.nodes)
        return ("bash", "-c", f"pids=\n{starts}for pid in $pids; do wait $pid || exit 1; done")


def pack(spec: HostSpec, path: Path) -> None:
    """Pack everything but the release that a deploy writes on one node."""
    with tarfile.open(path, "w") as tar:
        for directory in spec.dirs:
            tar.addfile(_entry(directory.path, tarfile.DIRTYPE, directory.mode))
        for file in spec.files:
            entry = _entry(file.path, tarfile.REGTYPE, file.mode)
            entry.size = len(file.data)
            tar.addfile(entry, io.BytesIO(file.data))
        for link in spec.links:
            entry = _entry(link.path, tarfile.SYMTYPE, 0o777)
            entry.linkname = link.target
            tar.addfile(entry)


def _entry(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.type, entry.mode = kind, mode
    return entry
