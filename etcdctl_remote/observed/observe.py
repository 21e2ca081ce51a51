"""Observe hosts: one round trip each, all at once, reading only.

One shell script prints every fact in sections; `parse` turns them into a `HostState`.
Nothing in it needs more than coreutils, systemd and, where etcd is installed, etcdctl.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import dropwhile
from typing import TypeVar

from ..desired.model import ClusterSpec, NodeSpec, url
from ..errors import Failed
from ..remote.host import Command, Host
from . import etcdctl
from .holding import HOLDS, holding
from .state import HostState, Marker, PathState, Told, UnitState

T = TypeVar("T")

ETCDCTL_TIMEOUT = 1.5
"""Seconds for one etcdctl call: a local read takes milliseconds, and a hung one must not make
the whole observation too old for a gate (`plan.execute.FRESH`)."""

# Where things are is told by the unit, the wish may say otherwise. Only the endpoint is taken
# from the process, which may not have been restarted yet: what a process says of itself could
# be forged by whoever broke into it, and must never name what root runs or removes.
# etcd answers nothing before it is ready, so only a ready one is asked. The first call runs
# beside all the rest and has standard error to itself: what two processes write to one pipe
# at once would mix. Texts are for diffs of what we write, so a big file (somebody's own
# binary where ours goes) gives none. Drop-ins are looked for on disk too: until it reloads,
# systemd does not see a directory that is younger than its last look. etcd 3.4 answers the
# member list from memory, so there (and where the version is unknown) a read is made besides:
# `endpoint health` does a linearizable one, and takes no denial by etcd's auth for a failure.
_SCRIPT = (
    HOLDS
    + r"""
config=$1 data=$2 wal=$3 user=$4 etcdctl=$5 endpoint=$6 wait=$7; shift 7
section() { printf '\n@@%s\n' "$1"; }
call() {
  name=$1; shift
  out=$("$etcdctl" --endpoints="$endpoint" --cacert="$config/pki/current/ca.crt" \
    --cert="$config/pki/current/etcdctl.crt" --key="$config/pki/current/etcdctl.key" \
    --command-timeout="$wait" --dial-timeout="$wait" -w json "$@" 2>&1)
  printf '\n@@%s\n%s\n%s\n' "$name" "$?" "$out"
}
unit=$(systemctl show etcd.service -p ActiveState -p SubState -p MainPID -p UnitFileState \
  -p FragmentPath -p DropInPaths -p NeedDaemonReload -p Result -p Job)
pid=${unit##*MainPID=}; pid=${pid%%[!0-9]*}
told=$(cat /etc/systemd/system/etcd.service 2>/dev/null)
case $told in *--data-dir=*) wal= ;; esac
token=
while IFS= read -r line; do
  line=${line#"${line%%[! ]*}"} line=${line% \\}
  case $line in
    --data-dir=*) data=${line#*=} ;;
    --wal-dir=*) wal=${line#*=} wal=${wal%/wal} ;;
    --cert-file=*/pki/*) config=${line#*=} config=${config%/pki/*} ;;
    --listen-client-urls=*) endpoint=${line#*=} endpoint=${endpoint%%,*} ;;
    --initial-cluster-token=*) token=${line#*=} ;;
    ExecStart=/*/etcd) etcdctl=${line#ExecStart=}ctl ;;
  esac
done <<EOF
$told
EOF
if [ "${pid:-0}" != 0 ]; then
  listen=$(tr '\0' '\n' <"/proc/$pid/cmdline" | sed -n 's/^--listen-client-urls=\([^,]*\).*/\1/p')
  endpoint=${listen:-$endpoint}
fi
case $unit in *ActiveState=active*) ready=yes ;; *) ready= ;; esac
if [ -n "$ready" ]; then call status endpoint status >&2 & fi
section unit; printf '%s\n' "$unit"
case $told in *--data-dir=*)
  section told; printf '%s\n' "data=$data" "wal=$wal" "config=$config" "etcdctl=$etcdctl" "endpoint=$endpoint" \
    "token=$token"
  section missing; for f in "${etcdctl%ctl}" "$etcdctl"; do [ -x "$f" ] || printf '%s\n' "$f"; done
  for f in ca.crt peer-ca.crt server.crt server.key peer.crt peer.key etcdctl.crt etcdctl.key; do
    [ -e "$config/pki/current/$f" ] || printf '%s\n' "$config/pki/current/$f"
  done ;;
esac
section host; uname -m; date +%s.%N
section user; id -u "$user" 2>/dev/null
section releases; for f in /opt/etcd/v*/.complete; do [ -e "$f" ] && echo "$f"; done
section data; data_holds
if [ "${pid:-0}" != 0 ]; then
  section process; program=$(readlink "/proc/$pid/exe"); printf '%s\n' "$program"
  tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^ETCDCTL_REMOTE_DIGEST=//p'
  section flags; tr '\0' '\n' <"/proc/$pid/cmdline"
fi
section marker
if [ -e "$config/member" ] || [ -L "$config/member" ]; then cat "$config/member" 2>/dev/null || echo '{}'; fi
dropins=$(for f in $(printf '%s\n' "$unit" | sed -n 's/^DropInPaths=//p') \
  /etc/systemd/system/etcd.service.d/*.conf /run/systemd/system/etcd.service.d/*.conf; do
  [ -e "$f" ] && printf '%s\n' "$f"
done | sort -u)
each() { [ -z "$dropins" ] || printf '%s\n' "$dropins" | while IFS= read -r f; do "$@"; done; }
whole() { sed -e ':a' -e '/\\$/{N;s/\\\n/ /;ba' -e '}' -- "$f"; }
sum() { sha256sum -- "$f"; }
empties() {
  whole | grep -oE '^[[:space:]]*(ExecStartPost|Assert[A-Za-z]*)[[:space:]]*=[[:space:]]*$' |
    while IFS= read -r line; do printf '%s:%s\n' "$f" "$line"; done
}
commands() { whole | grep -qE '^[[:space:]]*ExecStart[[:space:]]*=' && printf '%s\n' "$f"; }
section dropins; each sum
section emptied; each empties
section commanded; each commands
section stat; stat -c '%n|%F|%a|%U|%G' -- "$@" 2>/dev/null
section links; for p do [ -L "$p" ] && printf '%s|%s\n' "$p" "$(readlink "$p")"; done
section sums; for p do [ -f "$p" ] && [ ! -L "$p" ] && set -- "$@" "$p"; shift; done
[ $# -gt 0 ] && sha256sum -- "$@"
section texts
for p do case $p in *.key|*.crt|*.crl) ;; *)
  [ "$(stat -c %s "$p")" -le 65536 ] && { printf '%s|' "$p"; base64 -w0 "$p"; echo; } ;;
esac; done
section lists
for p do case $p in */current/*.crl)
  [ "$(stat -c %s "$p")" -le 1048576 ] && { printf '%s|' "$p"; base64 -w0 "$p"; echo; } ;;
esac; done
if [ -n "$ready" ]; then
  case $program in /opt/etcd/v3.4.*) call read endpoint health ;; /opt/etcd/v*) ;; *) call read endpoint health ;; esac
  call members member list
fi
wait
section end
exit 0
"""
)

END = "\n@@end\n"
"""The last line of a whole answer."""


@dataclass(frozen=True)
class Question:
    """What to ask one host: the wish it is compared with names the paths."""

    node: NodeSpec
    paths: tuple[str, ...]


def command(cluster: ClusterSpec, question: Question) -> Command:
    """Build the one command that observes a host."""
    node = question.node
    endpoint = url(node.address or "127.0.0.1", cluster.ports.client)
    values = (
        cluster.paths.config,
        cluster.paths.data,
        cluster.paths.wal or "",
        cluster.user,
        f"{cluster.paths.bin}/etcdctl",
        endpoint,
        f"{ETCDCTL_TIMEOUT:g}s",
    )
    return Command(_SCRIPT, (*values, *question.paths), about="observe", writes=False, timeout=30)


def observe(cluster: ClusterSpec, question: Question, host: Host) -> HostState:
    """Ask one host for everything we need to know; Failed if its answer was cut off."""
    before = time.time()
    result = host.run(command(cluster, question))
    if not result.text.endswith(END):
        raise Failed(
            f"{question.node.name}: observe: the answer was cut off after {len(result.stdout)} bytes",
            "run the task again; if it stays so, run `sh -c true` there by hand",
        )
    output = result.text + "\n" + result.stderr.decode("utf-8", "replace")
    return replace(parse(question.node.name, output), asked_at=(before + time.time()) / 2)


def parse(node: str, output: str) -> HostState:
    """Turn the script's sections into a `HostState`.

    Never raises: what is missing or cannot be read is unknown, which is not the same as absent.
    """
    said = sections(output)
    host = said.get("host", [])
    data, wal = holding(said.get("data", []))
    state = HostState(
        node=node,
        arch=_arch(host[0]) if host else "",
        clock=_clock(host[1]) if len(host) > 1 else 0.0,
        user_exists=bool(said.get("user")),
        releases=_releases(said.get("releases", [])),
        paths=_paths(said),
        unit=_unit(said),
        told=_told(said.get("told", [])),
        dropins_hash=_dropins(said.get("dropins", [])),
        dropins=tuple(sorted({line.partition("  ")[2] for line in said.get("dropins", [])})),
        missing=tuple(said.get("missing", [])),
        emptied=tuple(_emptied(line) for line in said.get("emptied", [])),
        data=data,
        wal=wal,
        marker=_marker("\n".join(said.get("marker", []))),
    )
    return _answers(state, said)


def sections(output: str) -> dict[str, list[str]]:
    """Split a script's answer into its `@@` sections; empty lines fall out."""
    said: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in output.split("\n"):
        if line.startswith("@@"):
            lines = said.setdefault(line[2:], [])
        elif line:
            lines.append(line)
    return said


def _clock(text: str) -> float:
    return float(text) if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text, re.ASCII) else 0.0


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,9}", text, re.ASCII) else 0


def _releases(lines: Iterable[str]) -> frozenset[str]:
    found = (re.fullmatch(r"/opt/etcd/v([^/]+)/\.complete", line) for line in lines)
    return frozenset(match[1] for match in found if match)


def _arch(machine: str) -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _unit(said: Mapping[str, list[str]]) -> UnitState:
    show = dict(line.split("=", 1) for line in said.get("unit", []) if "=" in line)
    process = said.get("process", [])
    return UnitState(
        active=show.get("ActiveState", "inactive"),
        sub=show.get("SubState", "dead"),
        enabled=show.get("UnitFileState", ""),
        fragment=show.get("FragmentPath", ""),
        needs_reload=show.get("NeedDaemonReload") == "yes",
        result=show.get("Result", ""),
        pid=_number(show.get("MainPID", "")),
        job=_number(show.get("Job", "")),
        program=process[0] if process else None,
        digest=process[1] if len(process) > 1 else None,
        flags=None if said.get("commanded") else _flags(said.get("flags", [])),
    )


def _flags(words: list[str]) -> tuple[str, ...] | None:
    """Return what a command line gives etcd; before it stands the program, and an emulator that runs it.

    An emulator's first words are its own path, then the program's once or twice (`binfmt_misc`'s flag `P`).
    """
    start = next((i for i, word in enumerate(words) if word.startswith("/") and word.endswith("/etcd")), 0)
    return tuple(dropwhile(lambda word: word.startswith("/"), words[start + 1 :])) or None


def _told(lines: list[str]) -> Told | None:
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    names = ("data", "wal", "config", "etcdctl", "endpoint", "token")
    return Told(**{name: fields.get(name, "") for name in names}) if fields else None


def _emptied(line: str) -> str:
    path, _, key = line.rpartition(":")
    return f"{path}:{''.join(key.split())}"


def _dropins(lines: Iterable[str]) -> str:
    listing = "\n".join(sorted(set(lines)))
    return hashlib.sha256(listing.encode()).hexdigest() if listing else ""


def _marker(text: str) -> Marker | None:
    if not text:
        return None
    try:
        fields = json.loads(text)
        ids = int(fields["cluster_id"], 16), int(fields["member_id"], 16)
        return Marker(str(fields["cluster"]), ids[0], ids[1], str(fields["name"]))
    except (ValueError, LookupError, TypeError, RecursionError):
        # A marker we cannot read still says: a member lived here.
        return Marker(cluster="", cluster_id=0, member_id=0, name="")


def _paths(said: Mapping[str, list[str]]) -> dict[str, PathState]:
    sums = {path: digest for digest, _, path in (line.partition("  ") for line in said.get("sums", []))}
    texts = _pairs(said.get("texts", []))
    links = _pairs(said.get("links", []))
    lists = _pairs(said.get("lists", []))
    found: dict[str, PathState] = {}
    for line in said.get("stat", []):
        fields = line.rsplit("|", 4)
        if len(fields) != 5 or not re.fullmatch(r"[0-7]{1,5}", fields[2]):
            continue
        path, kind, mode, owner, group = fields
        found[path] = PathState(
            kind=_kind(kind),
            mode=int(mode, 8),
            owner=owner,
            group=group,
            sha256=sums.get(path),
            text=_text(texts.get(path)),
            target=links.get(path),
            content=_content(lists.get(path)),
        )
    return found


def _pairs(lines: Iterable[str]) -> dict[str, str]:
    return {path: value for path, bar, value in (line.partition("|") for line in lines) if bar}


def _text(encoded: str | None) -> str | None:
    content = _content(encoded)
    return None if content is None else content.decode("utf-8", "replace")


def _content(encoded: str | None) -> bytes | None:
    try:
        return None if encoded is None else base64.b64decode(encoded, validate=True)
    except ValueError:
        return None


def _kind(described: str) -> str:
    if described.startswith("regular"):
        return "file"
    return {"directory": "directory", "symbolic link": "link"}.get(described, "other")


def _answers(state: HostState, said: Mapping[str, list[str]]) -> HostState:
    status, members = said.get("status"), said.get("members")
    if status:
        found, error = _read(etcdctl.endpoint, status)
        state = replace(state, endpoint=found, endpoint_error=error)
    if not members:
        return state
    if _lists_from_memory(state):
        read, error = _read(etcdctl.healthy, said.get("read") or [""])
        if not read:
            return replace(state, members_error=error)
    listed, error = _read(etcdctl.members, members)
    source, _ = _read(etcdctl.listed_by, members)
    return replace(state, members=listed, members_error=error, listed_by=source if listed else None)


def _lists_from_memory(state: HostState) -> bool:
    """Whether the member list proves no quorum: 3.4 gives it without one. Unknown counts as that."""
    program = re.match(r"/opt/etcd/v([^/]+)/", state.unit.program or "")
    version = state.endpoint.version if state.endpoint else program[1] if program else ""
    return version.startswith("3.4.") or not version


def _read(reader: Callable[[str], T | None], lines: list[str]) -> tuple[T | None, str]:
    """Read one call's answer, or say why there is none: exit code first, then what it printed."""
    try:
        found = reader(_json(lines)) if lines[0] == "0" else None
    except ValueError:
        found = None
    if found:
        return found, ""
    return None, etcdctl.error_line("\n".join(lines[1:])) or "no answer"


def _json(lines: list[str]) -> str:
    """Return the one JSON answer among the lines: warnings and logs of etcdctl come before it."""
    for line in reversed(lines[1:]):
        if line.startswith("[") or line.startswith('{"header"'):
            return line
    return ""
