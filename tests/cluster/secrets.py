"""Where a private key must never be seen, and how it is told there from everything else."""

from __future__ import annotations

import base64
import functools
import io
import re
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyrage
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from etcdctl_remote.errors import Failed
from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, Node, each

FOLDERS = ("/tmp", "/var/tmp", "/run", "/dev/shm", "/root", "/home", "/var/log")
"""Searched on a node beside etcd's own directory, files of up to 1 MiB: 15 ms for the last three."""
CONFIG = "/etc/etcd"
FORGOTTEN = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
"""A key in a file or a text, whosever it is."""
WINDOW = 16
"""So many characters of base64 in a row tell a secret."""
STRIDE = 4
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{%d,}" % WINDOW)
_FILES = "pki/[0-9a-f]{16}"
_WRITING = r"(\.etcdctl-remote\.[0-9a-f]{12}/)?"
_OWN_KEY = re.compile(rf"{_FILES}/{_WRITING}(server|peer|etcdctl)\.key")
_WANTED = {
    re.compile(rf"|pki|{_FILES}"): "d 750",
    re.compile(r"member|pki/current"): "l 777",
    re.compile(rf"identity|{_FILES}/((server|peer|etcdctl|(peer-)?ca)\.crt|(peer-)?ca\.crl)"): "f 644",
    re.compile(r"etcdctl\.env"): "f 640",
    _OWN_KEY: "f 640",
}
"""All there may be in etcd's directory, by its path there."""

# $1 etcd's directory, the others are where files are that were meant to be gone. Three lines of base64: what
# there is below the first, a tar of all files, the system's journal; and a last one. Then etcd is stopped.
LOOK = r"""
find "$1" -printf '%p|%y %m %u:%g\0' 2>/dev/null | base64 -w0; echo
find "$@" -xdev \( -path /run/log -o -path /run/udev -o -path /var/log/journal \) -prune \
  -o -type f -size -1025k -print0 2>/dev/null | tar -cf - --null -T - 2>/dev/null | base64 -w0; echo
journalctl -q --no-pager -o cat 2>/dev/null | base64 -w0; echo
echo end
"""
STOP = "systemctl stop --no-block etcd.service || :\n"
BROKEN = (Failed, ValueError, tarfile.TarError)
"""What becomes of a look when the node goes down meanwhile."""


# -- what is secret ------------------------------------------------------------------------

_OPENERS: list[pyrage.x25519.Identity | str] = []


def opened_by(opener: pyrage.x25519.Identity | str) -> None:
    """Take the identity or the passphrase that opens a test's sealed keys, before there are any."""
    _OPENERS.insert(0, opener)


@functools.lru_cache(maxsize=256)
def opened(sealed: bytes) -> bytes:
    """Open a sealed key: one that nobody can open would be searched for in vain."""
    for opener in _OPENERS:
        with suppress(pyrage.DecryptError):
            if isinstance(opener, str):
                return bytes(pyrage.passphrase.decrypt(sealed, opener))
            return bytes(pyrage.decrypt(sealed, [opener]))
    raise AssertionError("no test has told what opens a sealed key: see secrets.opened_by")


@functools.lru_cache(maxsize=4096)
def _secrets(pem: bytes) -> tuple[bytes, ...]:
    """Return the numbers that make a key private, or their beginnings; none if this is no key we can read."""
    with suppress(ValueError, TypeError):
        key = load_pem_private_key(pem, None)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return (key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8),)
        if isinstance(key, rsa.RSAPrivateKey):
            found = key.private_numbers()
            return tuple(
                one.to_bytes((one.bit_length() + 7) // 8)[:48] for one in (found.d, found.p, found.q)
            )
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return (key.private_bytes_raw(),)
    return ()


def _windows(secret: bytes) -> Iterator[bytes]:
    """Yield what its base64 shows of it, wherever in a longer text it begins."""
    for before in range(3):
        text = base64.b64encode(bytes(before) + secret).rstrip(b"=")[4 * bool(before) : -1]
        yield from (text[at : at + WINDOW] for at in range(len(text) - WINDOW + 1))


@dataclass(frozen=True)
class Keys:
    """Private keys, to be found in a text or a file in whatever form: PEM, DER, base64 however wrapped."""

    secrets: frozenset[bytes]
    windows: frozenset[bytes]
    signing: frozenset[bytes] = frozenset()
    """Those among the secrets that are CAs': no node has one."""

    @classmethod
    def below(cls, *folders: Path) -> Keys:
        """Take every key that lies in a `*.key` or, sealed, in a `*.key.age` below these folders."""
        paths = {path for folder in folders for path in folder.rglob("*.key") if path.is_file()}
        found = {path: _secrets(path.read_bytes()) for path in paths}
        sealed = {path for folder in folders for path in folder.rglob("*.key.age")}
        found |= {path: _secrets(opened(path.read_bytes())) for path in sealed}
        secrets = frozenset(chain.from_iterable(found.values()))
        signing = frozenset(chain.from_iterable(found[path] for path in found if "ca" in path.parts[-3:-1]))
        return cls.of(secrets, signing)

    @classmethod
    def of(cls, secrets: frozenset[bytes], signing: frozenset[bytes]) -> Keys:
        return cls(secrets, frozenset(window for one in secrets for window in _windows(one)), signing)

    def __or__(self, other: Keys) -> Keys:
        both = self.windows | other.windows
        return Keys(self.secrets | other.secrets, both, self.signing | other.signing)

    def shown_in(self, text: bytes) -> bool:
        """Tell whether one of them, or anybody's in PEM, is in a text."""
        return FORGOTTEN.search(text) is not None or self.theirs_in(text)

    def theirs_in(self, text: bytes) -> bool:
        """Tell whether one of them is in a text."""
        if any(secret in text for secret in self.secrets):
            return True
        runs = (found[0] for found in _BASE64.finditer(text))
        return any(run[at : at + WINDOW] in self.windows for run in runs for at in range(0, len(run), STRIDE))


# -- a node --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sight:
    """What a node has where no key belongs, and of what kind all below etcd's directory is."""

    modes: dict[str, str]
    """Path → type, mode and owner."""
    files: dict[str, bytes]
    journal: bytes

    @classmethod
    def read(cls, told: str) -> Sight:
        """Read what LOOK says; one of BROKEN if that is not all of it."""
        *lines, end = told.splitlines() or [""]
        modes, packed, journal = (base64.b64decode(line, validate=True) for line in lines)
        if end != "end" or not packed.endswith(bytes(1024)):
            raise ValueError("the answer is cut off")
        listed = dict(line.rsplit("|", 1) for line in modes.decode(errors="replace").split("\0")[:-1])
        files = {}
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            for entry in tar:
                if entry.isfile() and (content := tar.extractfile(entry)):
                    files[f"/{entry.name}"] = content.read()
        return cls(listed, files, journal)


def look(node: Node, then: str = "") -> Sight:
    """Look at a node, all at once."""
    return Sight.read(execute(node, LOOK + then, CONFIG, *FOLDERS))


def complaints(seen: Sight, keys: Keys) -> Iterator[str]:
    """Say what is wrong on a node: a key where none belongs, a file with wrong rights."""
    root, signing = next(iter(seen.modes), CONFIG), Keys.of(keys.signing, keys.signing)
    for path, content in seen.files.items():
        if _OWN_KEY.fullmatch(path.removeprefix(f"{root}/")):
            if signing.theirs_in(content):
                yield f"{path} has the key of a CA"
        elif _told_by(Path(path), content, keys):
            yield f"{path} has a private key"
    if keys.shown_in(seen.journal):
        yield "the systemd journal has a private key"
    yield from wrong_rights(seen.modes)


def _told_by(path: Path, content: bytes, keys: Keys) -> bool:
    """Tell whether a file has a key; one to log in with is no secret of ours."""
    return keys.theirs_in(content) if path.parent.name == ".ssh" else keys.shown_in(content)


def wrong_rights(modes: dict[str, str]) -> Iterator[str]:
    """Name what below etcd's directory does not belong there, or somebody could read or change who must not."""
    root = next(iter(modes), "")
    if f"{root}/pki" not in modes:
        return  # somebody else's, or taken away: no key of ours was ever there
    group = modes[root].rpartition(":")[2]
    for path, about in modes.items():
        right = wanted(Path(path).relative_to(root), about, group)
        if about != right:
            yield f"{path} is {about!r}, wanted {right!r}"


def wanted(path: Path, about: str, group: str) -> str:
    """Say what a path should be; of what a run is writing just now only root sees anything."""
    if path.name.startswith(".etcdctl-remote."):
        return "d 700 root:root"
    if any(parent.name.startswith(".etcdctl-remote.") for parent in path.parents):
        return about
    name = "" if path == Path() else str(path)
    expected = next((right for known, right in _WANTED.items() if known.fullmatch(name)), None)
    if expected is None:
        return "nothing"
    return f"{expected} root:{group if expected in ('d 750', 'f 640') else 'root'}"


# -- the laptop ----------------------------------------------------------------------------


def scratch(inventory: Path) -> Path:
    """Say where the temporary folders of all runs with an inventory are."""
    return inventory.parent.with_name(f"{inventory.parent.name}.tmp")


def temporary(inventory: Path) -> Path:
    """Make a temporary folder for one run."""
    scratch(inventory).mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(dir=scratch(inventory)))


def files_with(keys: Keys, folder: Path) -> list[Path]:
    """Name the files below a folder that have a key."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if keys.shown_in(path.read_bytes())]


def stores(lab: Lab) -> Path:
    return lab.inventory.parent / "certs"


def at_home(lab: Lab, keys: Keys) -> Iterator[str]:
    """Say what is wrong on the laptop: a key in a temporary folder, a store others can read."""
    for path in files_with(keys, scratch(lab.inventory)):
        yield f"{path} has a private key"
    yield from open_to_others(stores(lab))


def open_to_others(folder: Path) -> list[str]:
    """Name what somebody else than its owner could read, or write; what a CA's people put there is theirs."""
    rights = {True: 0o700, False: 0o600}
    found = [path for path in (folder, *folder.rglob("*")) if path.exists() and not path.is_symlink()]
    ours = [path for path in found if (path.parent.name, path.suffix) != ("requests", ".crt")]
    return [
        f"{path} {stat.filemode(path.stat().st_mode)} {path.owner()}"
        for path in ours
        if path.stat().st_mode & 0o7777 != rights[path.is_dir()] or path.owner() != folder.owner()
    ]


# -- after each test -----------------------------------------------------------------------


def quieten(given: Sequence[Lab]) -> None:
    """Search labs that a test is done with, and stop etcd on them: a pool of idle clusters would cost a core."""
    places = [(lab, node) for lab in given for node in lab.hosts]
    keys = {lab.name: Keys.below(stores(lab)) for lab in given}
    seen = each(places, lambda place: last_look(place[1]))
    wrong = [
        f"{node.container}: {what}"
        for (lab, node), sight in zip(places, seen, strict=True)
        if sight
        for what in complaints(sight, keys[lab.name])
    ]
    wrong += [what for lab in given for what in at_home(lab, keys[lab.name])]
    assert not wrong, "\n".join(wrong)
    for lab in given:
        shutil.rmtree(scratch(lab.inventory), ignore_errors=True)


def last_look(node: Node) -> Sight | None:
    """Look, and stop etcd; a node that a test has switched off is quiet, and not asked."""
    if node.handle().status != "running":
        return None
    try:
        return look(node, STOP)
    except BROKEN:
        if node.handle().status == "running":
            raise
        return None
