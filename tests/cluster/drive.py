"""Use the program as an operator does, and look at the nodes past it."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509

from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, Node, each
from etcdctl_remote.plan.journal import beside, read

from . import secrets

Seen = TypeVar("Seen")

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-c", "from etcdctl_remote.program import main; main()")
"""What the installed console script does."""
FIRST = ("nice", "-n", "-15", *PROGRAM)
"""The same before all others on a busy machine: how long it then takes is its own doing."""
INVOKE = (sys.executable, "-m", "invoke")
"""What an operator types in a checkout."""
Factory = Callable[..., Lab]
"""The fixture `lab_factory`."""
LEAVES = ("server", "peer", "etcdctl")
PKI = "/etc/etcd/pki/current"
ERROR = {"error", "hint", "hosts"}
"""The keys of an error as JSON."""

# One line a path: what it is, its rights, when it changed, its content or its target.
_LISTING = r"""
cd / && find etc usr/local opt var/lib -xdev \( -path var/lib/etcd -o -path 'var/lib/etcd*' -o ! -path 'var/lib/*' \) \
  -printf '%p|%y %m %u:%g %T@ %l\n' | LC_ALL=C sort
find /etc /usr/local /opt /var/lib/etcd* -xdev -type f -print0 2>/dev/null | LC_ALL=C sort -z |
  xargs -0r sha256sum | sed 's/^\([0-9a-f]*\)  /\1|/'
"""


@dataclass(frozen=True)
class Done:
    """How one run of the program ended."""

    code: int
    out: str
    err: str
    seconds: float

    def json(self) -> Any:
        """Read standard output, which must be exactly one document."""
        return json.loads(self.out)

    def __str__(self) -> str:
        return f"exit {self.code} after {self.seconds:.1f} s\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Started(subprocess.Popen[str]):
    """The program while it runs, with a folder of its own for what is temporary."""

    inventory: Path
    temporary: Path


def start(
    lab: Lab,
    *words: str,
    program: Sequence[str] = PROGRAM,
    env: Mapping[str, str] | None = None,
    inventory: Path | None = None,
) -> Started:
    """Start the program on a lab's inventory, with no terminal."""
    chosen = inventory or lab.inventory
    given = [*program, *words, "-i", str(chosen)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    temporary = secrets.temporary(chosen)
    process = Started(
        given,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(temporary), **(env or {})},
    )
    process.inventory, process.temporary = chosen, temporary
    return process


def interrupt(process: Started) -> Done:
    """Press Ctrl-C, once; `seconds` is how long the program took to end."""
    process.send_signal(signal.SIGINT)
    return finish(process)


def await_event(lab: Lab, process: Started, event: str, text: str = "", runs: int = 0) -> None:
    """Wait until the journal's runs after the first `runs` tell of an event with that text."""
    journal = beside(lab.inventory)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        entries = [json.loads(line) for line in read(journal) if line.endswith("}")]
        known = list(dict.fromkeys(entry["run"] for entry in entries))[:runs]
        for entry in entries:
            if entry["run"] not in known and entry["event"] == event and text in json.dumps(entry):
                return
        if process.poll() is not None:
            raise AssertionError(f"it ended before {event} {text}: {finish(process)}")
        time.sleep(0.01)
    raise AssertionError(f"no {event} {text} within 120 s: {read(journal)[-3:]}")


def finish(process: Started, timeout: float = 200) -> Done:
    """Wait for a started program; no private key may be in what it says, notes or leaves."""
    began = time.monotonic()
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"still running after {timeout:.0f} s\n{out}\n{err}") from None
    done = Done(process.returncode, out, err, time.monotonic() - began)
    told(process.inventory, process.temporary, done)
    return done


def told(inventory: Path, temporary: Path, done: Done) -> None:
    """Assert that a run has told nobody a private key, and cleaned up unless it was killed."""
    journal, keys = beside(inventory), secrets.Keys.below(inventory.parent / "certs")
    noted = journal.read_bytes() if journal.is_file() else b""
    assert not keys.shown_in(f"{done.out}\n{done.err}\n".encode() + noted), "a private key was told"
    left = list(temporary.iterdir())
    assert done.code == -signal.SIGKILL or not left, left
    assert not secrets.files_with(keys, temporary)


def run(
    lab: Lab,
    *words: str,
    program: Sequence[str] = PROGRAM,
    env: Mapping[str, str] | None = None,
    inventory: Path | None = None,
) -> Done:
    """Run one task to its end, whatever the end is."""
    return finish(start(lab, *words, program=program, env=env, inventory=inventory))


def must(lab: Lab, *words: str, program: Sequence[str] = PROGRAM, inventory: Path | None = None) -> Done:
    """Run one task that has to succeed."""
    done = run(lab, *words, program=program, inventory=inventory)
    assert done.code == 0, done
    return done


def deploy(lab: Lab) -> Done:
    """Deploy without being asked."""
    return must(lab, "deploy", "-y")


def document(lab: Lab, *words: str) -> Any:
    """Run a task that has to succeed, and return its JSON."""
    return must(lab, *words, "-o", "json").json()


def settle_nothing(lab: Lab) -> None:
    """Assert that nothing is left to do."""
    assert document(lab, "plan")["stages"] == []


def site_packages() -> Path:
    """Return where the environment that runs the tests keeps its packages."""
    return Path(sysconfig.get_path("purelib"))


# -- the inventory -------------------------------------------------------------------------


def edit(lab: Lab, **sections: str) -> None:
    """Add or replace top-level keys of the inventory, each one line of YAML."""
    lines, skip = [], False
    for line in lab.inventory.read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):
            skip = line.partition(":")[0] in sections
        if not skip:
            lines.append(line)
    lines += [f"{key}: {value}" for key, value in sections.items()]
    lab.inventory.write_text("\n".join(lines) + "\n", encoding="utf-8")


def impatient(lab: Lab) -> None:
    """Wait six seconds for a host, not ten, where a test has switched one off: once in an inventory."""
    text = lab.inventory.read_text(encoding="utf-8")
    assert text.count("ssh: {") == 1
    lab.inventory.write_text(text.replace("ssh: {", "ssh: {timeout: 6, "), encoding="utf-8")


def edit_node(lab: Lab, name: str, value: str) -> None:
    """Replace what the inventory says of one node."""
    text = lab.inventory.read_text(encoding="utf-8")
    new, count = re.subn(rf"^  {name}: .*$", f"  {name}: {value}", text, flags=re.MULTILINE)
    assert count == 1, text
    lab.inventory.write_text(new, encoding="utf-8")


# -- the cluster ---------------------------------------------------------------------------


def put(node: Node, key: str, value: str) -> None:
    """Write a key by the node's own wrapper; Failed if it is not acknowledged."""
    assert execute(node, 'etcdctl.sh put "$1" "$2"', key, value).strip() == "OK"


def get(node: Node, key: str) -> str:
    """Read a key by a linearizable read on this node; empty if it is not there."""
    return execute(node, 'etcdctl.sh get --print-value-only "$1"', key).strip()


def pids(lab: Lab) -> dict[str, int]:
    """Return the process id of etcd on each node, 0 where it does not run."""
    found = each(lab.nodes, lambda node: execute(node, "systemctl show -P MainPID etcd.service"))
    return {node.name: int(pid) for node, pid in zip(lab.nodes, found, strict=True)}


def started(lab: Lab) -> dict[str, int]:
    """Count on each node how often systemd has started etcd, by its journal."""
    told = "journalctl --sync; journalctl -q -u etcd.service --no-pager -o cat _PID=1"
    script = f"{told} | grep -c '^Starting ' || true"
    return {
        node.name: int(count)
        for node, count in zip(lab.nodes, each(lab.nodes, lambda n: execute(n, script)), strict=True)
    }


def in_one_term(lab: Lab, look: Callable[[], Seen]) -> tuple[str, Seen]:
    """Return the leader, and what was seen while it led: a busy machine may have them elect anew."""
    for _ in range(10):
        before, seen = _lead(lab), look()
        if before[0] and _lead(lab) == before:
            return before[0], seen
    raise AssertionError("they elect anew all the time")


def _lead(lab: Lab) -> tuple[str, list[int]]:
    found = document(lab, "status")
    return found["leader"], [member["raft_term"] for member in found["members"]]


def certificates(lab: Lab) -> dict[str, int]:
    """Return the serial of each leaf on each node, by `node/leaf`."""
    found: dict[str, int] = {}
    for node in lab.nodes:
        for leaf in LEAVES:
            pem = execute(node, 'cat "$1"', f"{PKI}/{leaf}.crt")
            assert pem.startswith("-----BEGIN"), f"{node.name}: {leaf}.crt: {pem!r}"
            found[f"{node.name}/{leaf}"] = x509.load_pem_x509_certificate(pem.encode()).serial_number
    return found


def served(node: Node, port: int) -> x509.Certificate:
    """Return the certificate that a port of a node shows on the wire."""
    pem = ssl.get_server_certificate((node.address, port), timeout=10)
    return x509.load_pem_x509_certificate(pem.encode())


# -- file systems --------------------------------------------------------------------------


def files(node: Node) -> dict[str, str]:
    """Take down every path below /etc, /usr/local, /opt and /var/lib/etcd*, as one line each."""
    found: dict[str, str] = {}
    for line in execute(node, _LISTING).splitlines():
        left, _, right = line.partition("|")
        if left.startswith(("etc", "usr", "opt", "var")):
            found[f"/{left}"] = right
        else:
            # A file that came after the first listing has only its sum.
            found[right] = f"{found.get(right, '')} {left}"
    return found


def all_files(lab: Lab) -> dict[str, str]:
    """Take down the files of every node, by `node:path`."""
    listings = each(lab.nodes, files)
    return {
        f"{node.name}:{path}": line
        for node, listing in zip(lab.nodes, listings, strict=True)
        for path, line in listing.items()
    }


def folder(path: Path) -> dict[str, str]:
    """Take down the operator's own folder."""
    found = {}
    for entry in sorted(path.rglob("*")):
        about = entry.lstat()
        content = hashlib.sha256(entry.read_bytes()).hexdigest() if entry.is_file() else ""
        found[str(entry)] = f"{about.st_mode:o} {about.st_uid} {about.st_mtime_ns} {content}"
    return found


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Say what differs between two listings; empty if nothing does."""
    return "\n".join(difflib.unified_diff(_lines(before), _lines(after), "before", "after", "", "", 0, ""))


def _lines(listing: Mapping[str, str]) -> list[str]:
    return [f"{path} {line}" for path, line in sorted(listing.items())]


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    """Return the paths that came, went or changed."""
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def leftovers(lab: Lab) -> list[str]:
    """Return what a cut-off run may leave behind: temporary files, half releases, archives."""
    script = r"""find /etc /usr/local /opt /run -xdev \( -name '.etcdctl-remote*' -o -name 'etcdctl-remote.??????' \
        -o -name '*.part-*' -o -name '*.new.*' -o -name '*.broken.*' -o -name 'etcd-v*.tar.gz' \)"""
    found = each(lab.nodes, lambda node: execute(node, script).split())
    return [f"{node.name}:{path}" for node, paths in zip(lab.nodes, found, strict=True) for path in paths]


@contextmanager
def untouched(lab: Lab, but: str = "") -> Iterator[None]:
    """Assert that nothing changes on any node meanwhile, but for `node:path`s that a pattern finds.

    A member that serves writes to its data directory whenever it likes.
    """
    before = all_files(lab), pids(lab)
    yield
    after = all_files(lab), pids(lab)
    kept = [
        {path: line for path, line in seen[0].items() if not but or not re.search(but, path)}
        for seen in (before, after)
    ]
    changes = differences(*kept)
    assert changes == "", changes
    assert after[1] == before[1]


def fails(lab: Lab, code: int, *said: str, task: str = "deploy", inventory: Path | None = None) -> Done:
    """Run a task that has to end with this exit code and to say all of this on standard error."""
    words = (task, "-y") if task in ("deploy", "start", "stop") else (task,)
    done = run(lab, *words, inventory=inventory)
    assert done.code == code, str(done)
    missing = [word for word in said if word not in done.err]
    assert not missing, f"not said: {missing}\n{done}"
    return done


def tells(done: Done, *words: str) -> None:
    """Assert that some one line on standard error has all these words."""
    assert list(lines_with(done.err, *words)), f"no line has all of {words}\n{done}"


def lines_with(text: str, *words: str) -> Iterable[str]:
    """Yield the lines that hold all the words."""
    return (line for line in text.splitlines() if all(word in line for word in words))
