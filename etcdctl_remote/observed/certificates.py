"""The certificates of a node as they lie on its disk, and as its member serves them. Reads only.

Of a private key only the digest, the owner and the mode leave the host.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from ..desired.model import ClusterSpec
from ..errors import Failed
from ..pki.generation import Generation
from ..remote.host import Command, Host
from . import wire
from .observe import END, sections
from .state import Wire

# Where the certificates lie is told by the unit that is installed; the inventory may want another
# place already. A file bigger than any bundle is no certificate, and is not carried over.
_SCRIPT = r"""
section() { printf '\n@@%s\n' "$1"; }
unit=/etc/systemd/system/etcd.service
told=$(sed -n 's|^ *--cert-file=\(/.*\)/pki/current/.*|\1|p' "$unit" 2>/dev/null | head -n 1)
show=$(systemctl show etcd.service -p MainPID -p ActiveState 2>/dev/null)
pid=${show##*MainPID=}; pid=${pid%%[!0-9]*}
section facts; date +clock=%s.%N
printf 'config=%s\n' "${told:-$1}"
printf 'wanted='; sed -n 's/^Environment=ETCDCTL_REMOTE_DIGEST=//p' "$unit" 2>/dev/null | head -n 1; echo
printf '%s\n' "$show"
if [ "${pid:-0}" != 0 ]; then
  tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | sed -n 's/^ETCDCTL_REMOTE_DIGEST=/started=/p'
fi
if cd "${told:-$1}/pki/current" 2>/dev/null; then
  section stat; stat -L -c '%n|%a|%U|%G' -- *.crt *.key 2>/dev/null
  section sums; sha256sum -- *.key 2>/dev/null
  section certificates
  for f in *.crt; do
    [ -f "$f" ] && [ "$(stat -L -c %s "$f")" -le 262144 ] && { printf '%s|' "$f"; base64 -w0 <"$f"; echo; }
  done
fi
section end
exit 0
"""


@dataclass(frozen=True)
class File:
    """A certificate, or a private key, on a node's disk."""

    mode: int
    owner: str
    group: str
    pem: bytes | None = None
    """The content of a certificate or a bundle; None of a key."""
    sha256: str = ""
    """Hex digest of a key; empty of a certificate."""


@dataclass(frozen=True)
class NodeCertificates:
    """What one node holds and its member serves. An empty `files` is a node without certificates."""

    node: str
    place: str = ""
    """The directory, as the installed unit names it."""
    files: Mapping[str, File] = field(default_factory=dict)
    ahead: timedelta | None = None
    """How far the node's clock is ahead of this one; None if it did not tell."""
    running: bool = False
    stale: bool = False
    """Whether the running process was started with something else than the unit says by now."""
    wire: Wire | None = None


def look(cluster: ClusterSpec, held: Generation | None, host: Host) -> NodeCertificates:
    """Read a node's disk, and dial its member's two ports; raises Problem where the host does not answer."""
    return replace(read(cluster, host), wire=wire.look(cluster, held, host))


def read(cluster: ClusterSpec, host: Host) -> NodeCertificates:
    """Read a node's disk in one round trip; Failed if its answer was cut off."""
    before = time.time()
    result = host.run(
        Command(_SCRIPT, (cluster.paths.config,), about="read certificates", writes=False, timeout=30)
    )
    if not result.text.endswith(END):
        raise Failed(
            f"{host.name}: read certificates: the answer was cut off after {len(result.stdout)} bytes",
            "run the task again; if it stays so, run `sh -c true` there by hand",
        )
    return parse(host.name, result.text, (before + time.time()) / 2)


def parse(node: str, output: str, asked_at: float) -> NodeCertificates:
    """Turn the script's sections into facts; never raises: what cannot be read is not there."""
    said = sections(output)
    facts = dict(line.split("=", 1) for line in said.get("facts", []) if "=" in line)
    clock, started = facts.get("clock", ""), facts.get("started", "")
    wanted = facts.get("wanted", "")
    return NodeCertificates(
        node=node,
        place=f"{facts.get('config', '')}/pki/current",
        files=dict(_files(said)),
        ahead=timedelta(seconds=float(clock) - asked_at)
        if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", clock, re.ASCII)
        else None,
        running=facts.get("MainPID", "0") not in ("", "0"),
        stale=bool(started and wanted and started != wanted),
    )


def _files(said: Mapping[str, list[str]]) -> Iterator[tuple[str, File]]:
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in said.get("sums", []))}
    contents = {name: coded for name, _, coded in (s.partition("|") for s in said.get("certificates", []))}
    for line in said.get("stat", []):
        fields = line.rsplit("|", 3)
        if len(fields) == 4 and re.fullmatch(r"[0-7]{1,5}", fields[1], re.ASCII):
            name, mode, owner, group = fields
            pem = _decoded(contents.get(name))
            yield name, File(int(mode, 8), owner, group, pem, sums.get(name, ""))


def _decoded(coded: str | None) -> bytes | None:
    try:
        return None if coded is None else base64.b64decode(coded, validate=True)
    except ValueError:
        return None
