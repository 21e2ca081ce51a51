"""etcd releases for the lab and the tests, from the first source that gives them.

Laid out as the official site does: `v3.6.14/etcd-v3.6.14-linux-amd64.tar.gz` beside
`v3.6.14/SHA256SUMS`. Kept in the user's cache, outside the checkout, and checked at each use.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..desired.model import ReleaseSpec, Version
from ..errors import Failed
from .machine import Say, arch, debian_mirror, need, quiet, sh

BUILT_WITH_GO = ("3.5.33", "3.6.14", "3.7.1")
DEBIAN_SUITES = {"3.4.23": "bookworm", "3.5.16": "trixie", "3.5.30": "forky"}
"""Which Debian suite packages which etcd."""
FOR_TESTS = ("3.6.14", "3.5.33", "3.7.1", "3.4.23")
"""One of each minor, the one that everybody needs first."""
PROGRAMS = ("etcd", "etcdctl", "etcdutl")
OFFICIAL_SECONDS = 3.0


def cache() -> Path:
    """Where releases are kept for this user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "etcdctl-remote" / "lab-releases"


def archive_name(version: str, machine: str = "") -> str:
    """The official name of the archive for an architecture, this machine's by default."""
    return f"etcd-v{version}-linux-{machine or arch()}.tar.gz"


def pattern(dest: Path | None = None) -> str:
    """What the inventory's `release.archive` says to find these."""
    return f"{dest or cache()}/v{{version}}/etcd-v{{version}}-linux-{{arch}}.tar.gz"


def ensure(version: str, dest: Path | None = None, say: Say = quiet, machine: str = "") -> Path:
    """Give the archive of a release, from the cache or the first source that answers.

    For this machine, or for another architecture by its official name: `amd64`, `arm64`.

    Raises Failed if no source gives it; `hosts` then says why, source by source.
    """
    Version.parse(version)
    folder = (dest or cache()) / f"v{version}"
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        archive = folder / archive_name(version, machine)
        if not _sound(archive):
            _obtain(version, archive, say)
    return archive


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep two runs from making the same release at once."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sound(archive: Path) -> bool:
    """Whether the archive is there with the sum that SHA256SUMS says."""
    sums = archive.with_name("SHA256SUMS")
    if not archive.is_file() or not sums.is_file():
        return False
    return f"{_sha256(archive)}  {archive.name}" in sums.read_text(encoding="ascii").splitlines()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _obtain(version: str, archive: Path, say: Say) -> None:
    """Try each source in turn; all their reasons if none gives."""
    sources: dict[str, Callable[[str, str, Path, Say], None]] = {
        "official": _official,
        "go modules": _go,
        "debian": _debian,
    }
    reasons: dict[str, str] = {}
    for name, source in sources.items():
        with tempfile.TemporaryDirectory(prefix=".making-", dir=archive.parent) as work:
            try:
                source(version, archive.name, Path(work), say)
            except (Failed, OSError) as error:
                reasons[name] = error.message if isinstance(error, Failed) else str(error)
                continue
            _publish(Path(work), archive)
            say(f"etcd {version} is ready, from: {name}")
            return
    hint = "put the archive and SHA256SUMS there by hand, or give this machine a Go toolchain"
    raise Failed(f"no source gives etcd {version} ({archive.parent})", hint, reasons)


def _publish(work: Path, archive: Path) -> None:
    """Move the finished archive into place and write its sum last."""
    made = work / archive.name
    line = f"{_sha256(made)}  {archive.name}\n"
    made.replace(archive)
    published = archive.with_name("SHA256SUMS")
    known = published.read_text(encoding="ascii").splitlines(keepends=True) if published.exists() else []
    sums = work / "SHA256SUMS"
    sums.write_text(
        "".join([*(other for other in known if not other.endswith(f"  {archive.name}\n")), line]), "ascii"
    )
    sums.replace(published)


# -- the official address ------------------------------------------------------------------


def _official(version: str, name: str, work: Path, say: Say) -> None:
    """Download, given that the address answers at all: where there is no route, say so fast."""
    base = ReleaseSpec().url
    host = urllib.parse.urlsplit(base).hostname or ""
    _answers(host)
    say(f"downloading {name}")
    sums = _get(f"{base}/v{version}/SHA256SUMS").decode("ascii")
    wanted = next((line.split()[0] for line in sums.splitlines() if line.endswith(name)), None)
    if wanted is None:
        raise Failed(f"SHA256SUMS of {version} has no {name}")
    (work / name).write_bytes(_get(f"{base}/v{version}/{name}"))
    if _sha256(work / name) != wanted:
        raise Failed(f"{name} is not what SHA256SUMS says")


def _answers(host: str) -> None:
    try:
        socket.create_connection((host, 443), OFFICIAL_SECONDS).close()
    except OSError as error:
        raise Failed(f"{host} does not answer: {error}") from error


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - always https
            body: bytes = answer.read()
            return body
    except urllib.error.URLError as error:
        raise Failed(f"{url}: {error.reason}") from error


# -- Go modules ----------------------------------------------------------------------------


def _go(version: str, name: str, work: Path, say: Say) -> None:
    """Build the three programs from their modules.

    `go install path@version` refuses modules with replace directives, so a tiny module of our
    own requires them. The programs are static, as the official ones are.
    """
    if Version.parse(version) < Version(3, 5, 0):
        raise Failed("there are no modules by path before 3.5")
    go = need_go()
    machine = name.removesuffix(".tar.gz").rpartition("-")[2]
    say(f"building etcd {version} for {machine} from Go modules (minutes, once)")
    source = work / "source"
    source.mkdir()
    (source / "go.mod").write_text("module lab\n\ngo 1.21\n", encoding="ascii")
    env = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOWORK": "off", "GOARCH": machine, "GOGC": "400"}
    modules = ["go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/etcdctl/v3", "go.etcd.io/etcd/etcdutl/v3"]
    nice = ["nice", "-n", "10", go]
    sh([*nice, "get", *(f"{module}@v{version}" for module in modules)], cwd=source, env=env)
    tree = work / "tree"
    tree.mkdir()
    # Debug information that the linker drops is not made at all: a quarter less work, with GOGC.
    flags = ["-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false -c=1", "-ldflags=-s -w"]
    for program, module in zip(PROGRAMS, modules, strict=True):
        sh([*nice, "build", *flags, "-o", str(tree / program), module], cwd=source, env=env, timeout=1800)
    _pack(name, tree, work, "Built from the Go modules of the release.")


def need_go() -> str:
    """Find a Go toolchain; never installs one, the distributions' are too old for etcd."""
    for place in (shutil.which("go"), "/usr/local/go/bin/go", "/usr/lib/go/bin/go"):
        if place and Path(place).exists():
            return place
    raise Failed("no Go toolchain on this machine")


# -- Debian --------------------------------------------------------------------------------


def _debian(version: str, name: str, work: Path, say: Say) -> None:
    """Repack Debian's own packages, through an apt with folders of its own: the machine's stays."""
    suite = DEBIAN_SUITES.get(version)
    if suite is None:
        raise Failed(f"no Debian suite that we know packages {version}")
    if name != archive_name(version):
        raise Failed("only this machine's own architecture is taken from Debian")
    mirror = debian_mirror()
    if mirror is None:
        raise Failed("this machine has no Debian package source")
    say(f"fetching etcd {version} from Debian {suite}")
    apt = _private_apt(mirror, suite, work / "apt")
    sh([*apt, "update", "-q"])
    debs = work / "debs"
    debs.mkdir()
    sh([*apt, "download", "-q", "etcd-server", "etcd-client"], cwd=debs)
    for deb in debs.glob("*.deb"):
        sh([need("dpkg-deb", "dpkg"), "-x", str(deb), str(work / "root")])
    tree = work / "tree"
    tree.mkdir()
    for program in PROGRAMS:
        with suppress(FileNotFoundError):
            shutil.copy(work / "root/usr/bin" / program, tree / program)
    _is(version, tree)
    _pack(name, tree, work, f"Repacked from Debian {suite}.")


def _private_apt(mirror: str, suite: str, home: Path) -> list[str]:
    """An apt-get that keeps its lists and cache under `home` and knows one suite."""
    for folder in ("lists/partial", "cache/archives/partial", "empty"):
        (home / folder).mkdir(parents=True)
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (home / "sources.list").write_text(f"deb [signed-by={keyring}] {mirror} {suite} main\n", encoding="ascii")
    options = {
        "Dir::Etc::sourcelist": home / "sources.list",
        "Dir::Etc::sourceparts": home / "empty",
        "Dir::State::lists": home / "lists",
        "Dir::Cache": home / "cache",
        "APT::Sandbox::User": "root",
    }
    return ["apt-get", *(f"-o{key}={value}" for key, value in options.items())]


def _is(version: str, tree: Path) -> None:
    """Refuse a suite that has moved on to another release."""
    said = subprocess.run([str(tree / "etcd"), "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    first = said.stdout.splitlines()[:1]
    if first != [f"etcd Version: {version}"]:
        raise Failed(f"the package holds {first or said.stderr.strip()}, not {version}")


def _pack(name: str, tree: Path, work: Path, origin: str) -> None:
    """Write the archive as upstream lays it out; the same programs give the same bytes."""
    top = name.removesuffix(".tar.gz")
    with (
        (work / name).open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        _add(tar, top, None, 0o755)
        _add(tar, f"{top}/README.md", f"# {top}\n\n{origin}\n".encode(), 0o644)
        for program in sorted(path.name for path in tree.iterdir()):
            _add(tar, f"{top}/{program}", (tree / program).read_bytes(), 0o755)


def _add(tar: tarfile.TarFile, name: str, content: bytes | None, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
    entry.size = len(content or b"")
    tar.addfile(entry, io.BytesIO(content) if content is not None else None)
