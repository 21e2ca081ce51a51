"""What an application gets: its certificate, its key, and the CAs it trusts, in a folder of the operator's.

Everything is looked at before anything is written; every file comes in one rename.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from ..errors import Failed, Refused, UsageError
from .applications import stem
from .generation import Generation
from .issued import Issued

CA = "ca.crt"


@dataclass(frozen=True)
class Bundle:
    """Files by name, and what may lie in their places already: what we issued before under the same name."""

    folder: Path
    files: Mapping[str, bytes]
    former: Mapping[str, frozenset[bytes]]
    authorities: frozenset[x509.Certificate]
    """All CAs that this cluster ever had."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where the files are."""
        return tuple(self.folder / name for name in self.files)

    def refuse_others(self) -> None:
        """Refuse to write over anything that is not the predecessor of these files."""
        nearest = next(place for place in (self.folder, *self.folder.parents) if place.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            what = "cannot be written to" if nearest.is_dir() else "is no folder"
            raise UsageError(f"--out {self.folder}: {nearest} {what}", "name a folder of yours")
        strange = [str(path) for path in self.paths if not self._may_replace(path)]
        if strange:
            raise Refused(
                f"{', '.join(strange)}: another file is there, and it is not one that was issued here under this "
                "name; nothing was changed",
                "move it away, or name another folder by --out",
            )

    def write(self) -> None:
        """Put all files in their places: keys 0600, the rest 0644, whatever the umask."""
        made: dict[Path, Path] = {}
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, content in self.files.items():
                partial = self.folder / f".{name}.{secrets.token_hex(4)}"
                made[partial] = self.folder / name
                _write(partial, content, 0o600 if name.endswith(".key") else 0o644)
            for partial, place in made.items():
                partial.replace(place)
            _sync(self.folder)
        except OSError as error:
            for partial in made:
                with suppress(OSError):
                    partial.unlink(missing_ok=True)
            raise Failed(
                f"{error.filename or self.folder}: writing failed: {error.strerror}",
                "the certificate is in the store; `certs.export` writes it again once there is room",
            ) from error

    def _may_replace(self, path: Path) -> bool:
        if not os.path.lexists(path):
            return True
        if path.is_symlink() or not path.is_file():
            return False
        try:
            has = path.read_bytes()
        except OSError:
            return False
        known = {self.files[path.name]} | self.former.get(path.name, frozenset())
        return has in known or (path.name == CA and self._ours(has))

    def _ours(self, bundle: bytes) -> bool:
        """Whether a file holds CAs of this cluster, and nothing else."""
        try:
            found = x509.load_pem_x509_certificates(bundle)
        except ValueError:
            return False
        return set(found) <= self.authorities


def bundle(
    folder: str, one: Issued, register: Iterable[Issued], held: Generation, authorities: Iterable[bytes]
) -> Bundle:
    """All that the holder of a certificate needs; whose key is his own gets the rest."""
    name = stem(one.name, one.kind)
    files = {f"{name}.crt": one.certificate_pem, CA: held.ca_bundle}
    if one.key_pem:
        files = {f"{name}.key": one.key_pem.reveal, **files}
    before = [other for other in register if other.name == one.name]
    return Bundle(
        Path(folder).expanduser().absolute(),
        files,
        {
            f"{name}.crt": frozenset(other.certificate_pem for other in before),
            f"{name}.key": frozenset(other.key_pem.reveal for other in before if other.key_pem),
        },
        frozenset(
            ca for pem in (held.ca_bundle, *authorities) for ca in x509.load_pem_x509_certificates(pem)
        ),
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(number, "wb") as file:
        os.fchmod(number, mode)
        file.write(content)
        file.flush()
        os.fsync(number)


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
