"""Have certificates signed where the CA's key is: by a command, or through a folder.

In a folder it takes two runs: the first leaves the requests there and stops, the next one takes
what lies beside them by then. The private keys wait in the store, never in that folder.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..desired.model import ExternalSpec
from ..errors import Failed, Refused, UsageError
from ..secret import Secret
from .authority import Credential
from .csr import Asked, Request, accepted
from .disk import Disk, exclusive
from .inspect import read_leaf

PENDING = "pending"
"""Where in the store the private keys of requests wait."""
TIMEOUT = 60.0
"""Seconds for one run of a command."""
_AT_ONCE = 4
"""Commands side by side."""

Answers = dict[str, Credential]
"""What was signed, by label."""


def by_command(
    spec: ExternalSpec, requests: Sequence[Request], home: Path, now: datetime
) -> Mapping[str, Credential]:
    """Run the command for each request; Failed tells what each one that failed has said."""
    wrong: dict[str, str] = {}
    answers: Answers = {}

    def ask(request: Request) -> tuple[Credential | None, list[str]]:
        asked = Asked.make(request.profile)
        answer, problem = _run(spec, request, asked, home)
        return (None, [problem]) if problem else accepted(asked, request, answer, now)

    with ThreadPoolExecutor(_AT_ONCE) as workers:
        for request, (credential, mistakes) in zip(requests, workers.map(ask, requests), strict=True):
            if credential:
                answers[request.label] = credential
            else:
                wrong[request.label] = "; ".join(mistakes)
    if wrong:
        raise Failed(
            f"{len(wrong)} of {len(requests)} certificates were not signed as asked; none is in use",
            "mend what `pki.external.command` runs, then run the task again",
            wrong,
        )
    return answers


def _run(spec: ExternalSpec, request: Request, asked: Asked, home: Path) -> tuple[bytes, str]:
    """Run the command with the request on its standard input; what it wrote, or what went wrong."""
    argv = spec.peer_command if request.kind == "peer" and spec.peer_command else spec.command
    told = {
        "ETCDCTL_REMOTE_NODE": request.owner,
        "ETCDCTL_REMOTE_KIND": request.kind,
        "ETCDCTL_REMOTE_NAMES": ",".join(sorted(request.profile.names)),
        "ETCDCTL_REMOTE_USAGES": ",".join(f"{usage}Auth" for usage in request.profile.usages),
        "ETCDCTL_REMOTE_DAYS": str(request.profile.days),
    }
    try:
        done = subprocess.run(  # noqa: S603 (the operator's own command; a list, never a shell)
            argv, input=asked.csr, capture_output=True, cwd=home, env={**os.environ, **told}, timeout=TIMEOUT
        )
    except OSError as error:
        return b"", f"{argv[0]} cannot be run: {error.strerror}"
    except subprocess.TimeoutExpired:
        return b"", f"{argv[0]} did not end within {TIMEOUT:.0f} s"
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip() or "it said nothing"
        return b"", f"{argv[0]} ended with exit code {done.returncode}: {said}"
    return done.stdout, ""


@dataclass(frozen=True)
class Folder:
    """Where requests wait, and the store where their keys do."""

    path: Path
    store: Path
    disk: Disk

    def sign(
        self, requests: Sequence[Request], used: Collection[str], now: datetime
    ) -> Mapping[str, Credential]:
        """Take what was signed; as long as anything is missing, leave the requests and refuse.

        `used` are the fingerprints of certificates that the store holds: to be renewed, not taken again.
        """
        asked = {request.label: self._asked(request, used) for request in requests}
        answers: Answers = {}
        wrong: dict[str, str] = {}
        missing: dict[str, str] = {}
        for request in requests:
            credential, mistakes, absent = self._answer(request, asked[request.label], now)
            if credential:
                answers[request.label] = credential
            elif mistakes:
                wrong[f"{request.label}.crt"] = "; ".join(mistakes)
            else:
                missing[f"{request.label}.csr"] = f"{request}{absent}"
        if wrong:
            raise UsageError(
                f"{self.path}: what lies there signed cannot be taken; none is in use",
                "sign the requests beside them again, or remove the wrong files; then run the task again",
                wrong,
            )
        if missing:
            self._write({f"{request.label}.csr" for request in requests} & missing.keys(), asked)
            raise self._refusal(requests, missing)
        return answers

    def _refusal(self, requests: Sequence[Request], missing: Mapping[str, str]) -> Refused:
        one = next(iter(requests)).label if len(requests) == 1 else "NODE-KIND"
        return Refused(
            f"{len(missing)} of {len(requests)} certificates are to be signed elsewhere: their requests lie in "
            f"{self.path}; what needs them is not begun",
            "sign each with the CA of its kind, names and usages kept; put the chain (leaf first) beside it as "
            f"{one}.crt; then run the task again",
            missing,
        )

    def _asked(self, request: Request, used: Collection[str]) -> Asked:
        """Take the request that is pending, unless it asks for something else or was answered already."""
        place = self.store / PENDING / request.label
        pending = _read(place)
        if pending and pending.fits(request.profile) and not self._taken(request.label, pending, used):
            return pending
        return Asked.make(request.profile)

    def _taken(self, label: str, asked: Asked, used: Collection[str]) -> bool:
        """Whether the answer to this request is in the store: a run that was killed just after."""
        try:
            leaf = read_leaf((self.path / f"{label}.crt").read_bytes())
        except (OSError, ValueError):
            return False
        return asked.is_for(leaf.certificate) and leaf.fingerprint in used

    def _answer(
        self, request: Request, asked: Asked, now: datetime
    ) -> tuple[Credential | None, list[str], str]:
        """Return what was signed, what is wrong with it, or why there is none yet."""
        path = self.path / f"{request.label}.crt"
        try:
            answer = path.read_bytes()
        except FileNotFoundError:
            return None, [], ""
        except OSError as error:
            return None, [f"cannot be read: {error.strerror}"], ""
        try:
            known = asked.is_for(read_leaf(answer).certificate)
        except ValueError:
            return None, ["is no PEM certificate"], ""
        if not known:
            return None, [], f" ({path.name} there is of an earlier request: not yet signed)"
        return *accepted(asked, request, answer, now), ""

    def _write(self, names: Collection[str], asked: Mapping[str, Asked]) -> None:
        """Keep the keys first: a request whose key is lost is worth nothing."""
        with _writing(self.path):
            for folder in (self.store / PENDING, self.path):
                self.disk.directory(folder)
            with exclusive(self.store / ".lock"):
                for name in sorted(names):
                    label = name.removesuffix(".csr")
                    self.disk.put(self.store / PENDING / f"{label}.key", asked[label].key.reveal)
                    self.disk.put(self.store / PENDING / name, asked[label].csr)
                    self.disk.put(self.path / name, asked[label].csr)

    def tidy(self, signed: Collection[Credential]) -> None:
        """Remove the requests that were answered, and their keys, which lie with the certificates now."""
        leaves = [read_leaf(each.certificate_pem).certificate for each in signed]
        folder = self.store / PENDING
        with _writing(folder):
            for path in sorted(folder.glob("*.key")):
                pending = _read(path.with_suffix(""))
                if pending and any(map(pending.is_for, leaves)):
                    for name in (self.path / f"{path.stem}.csr", path.with_suffix(".csr"), path):
                        name.unlink(missing_ok=True)


def _read(place: Path) -> Asked | None:
    """Read a pending request and its key; None unless both are there."""
    try:
        key = Secret(place.with_name(f"{place.name}.key").read_bytes())
        return Asked(place.with_name(f"{place.name}.csr").read_bytes(), key)
    except FileNotFoundError:
        return None


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Failed(
            f"{error.filename or folder}: writing the requests failed: {error.strerror}",
            "mend the disk and run again; nothing else was changed",
        ) from error
