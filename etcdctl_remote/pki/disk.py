"""Put whole directories on this machine's disk so that a crash leaves all of one or nothing.

`Disk.before` is called ahead of every change with a line that says which: the tests
kill the process there, at each one in turn.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import Refused

PARTIAL = ".partial-"
"""Names that begin so are leftovers of an interrupted change: nobody reads them."""
_WRITERS = 4
"""Files brought to the disk side by side: nearly all of the time is spent waiting for it."""


def _ignore(change: str) -> None:
    pass


@dataclass(frozen=True)
class Disk:
    """The few changes the store is made of; all of them private to the owner, whatever the umask."""

    before: Callable[[str], None] = _ignore

    def directory(self, path: Path) -> None:
        """Make a directory of mode 0700, and its parents likewise, unless it is there."""
        if path.is_dir():
            return
        self.directory(path.parent)
        self.before(f"mkdir {path}")
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)
        self.sync(path.parent)

    def tree(self, path: Path, files: Mapping[str, bytes]) -> None:
        """Create the directory `path` with all of `files` (relative names), durably, in one rename."""
        partial = path.with_name(f"{PARTIAL}{path.name}")
        shutil.rmtree(partial, ignore_errors=True)
        folders = list(dict.fromkeys([partial, *(partial / Path(name).parent for name in files)]))
        for folder in folders:
            self.before(f"mkdir {folder}")
            folder.mkdir(mode=0o700)
            folder.chmod(0o700)
        with ThreadPoolExecutor(_WRITERS) as writers:
            list(writers.map(lambda name: self.file(partial / name, files[name]), files))
        for folder in reversed(folders):
            self.sync(folder)
        self.before(f"rename {partial} {path}")
        partial.rename(path)
        self.sync(path.parent)

    def file(self, path: Path, content: bytes) -> None:
        """Write a new file of mode 0600 and bring it to the disk."""
        self.before(f"write {path}")
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(number, "wb") as file:
            os.fchmod(number, 0o600)
            file.write(content)
            file.flush()
            self.before(f"fsync {path}")
            os.fsync(number)

    def put(self, path: Path, content: bytes) -> None:
        """Write a file of mode 0600 in one rename, durably, over one that may be there."""
        partial = path.with_name(f"{PARTIAL}{path.name}")
        partial.unlink(missing_ok=True)
        try:
            self.file(partial, content)
            self.before(f"rename {partial} {path}")
            partial.replace(path)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        self.sync(path.parent)

    def forget(self, path: Path) -> None:
        """Delete a file, durably; nothing to do if there is none."""
        if path.exists():
            self.before(f"delete {path}")
            path.unlink()
            self.sync(path.parent)

    def link(self, path: Path, target: str) -> None:
        """Point the symbolic link `path` at `target` in one rename."""
        partial = path.with_name(f"{PARTIAL}{path.name}")
        partial.unlink(missing_ok=True)
        self.before(f"symlink {partial} {target}")
        partial.symlink_to(target)
        self.before(f"rename {partial} {path}")
        partial.replace(path)
        self.sync(path.parent)

    def remove(self, path: Path) -> None:
        """Delete a directory; from the first moment on nobody takes it for a whole one."""
        if not path.name.startswith(PARTIAL):
            self.before(f"rename {path}")
            path = path.rename(path.with_name(f"{PARTIAL}old-{path.name}"))
        self.before(f"delete {path}")
        shutil.rmtree(path)

    def sync(self, folder: Path) -> None:
        """Bring the entries of a directory to the disk."""
        self.before(f"fsync {folder}")
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; the kernel drops the lock when its holder dies."""
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(number, 0o600)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refused(
                f"{path.parent}: another process is changing these certificates just now",
                "let it finish, then run again",
            ) from error
        yield
    finally:
        os.close(number)
