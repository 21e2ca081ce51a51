"""Desired minus observed, for one host: the steps that make it so. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from ..desired.hostspec import UNIT_PATH
from ..desired.spec import DirSpec, FileSpec, HostSpec, LinkSpec
from ..observed.state import HostState, PathState
from .step import Step
from .steps import InstallUnit, LoadUnit, WriteFiles, titles


def files(want: HostSpec, now: HostState) -> list[Step]:
    """Return the steps that bring directories, files, links and the unit to what is wanted.

    The unit goes last: it must never name a file that is not there yet.
    """
    dirs = tuple(spec for spec in want.dirs if _dir_differs(spec, now.paths.get(spec.path)))
    links = tuple(spec for spec in want.links if _link_differs(spec, now.paths.get(spec.path)))
    changed = [spec for spec in want.files if _file_differs(spec, now.paths.get(spec.path))]
    unit = [spec for spec in changed if spec.path == UNIT_PATH]
    plain = tuple(spec for spec in changed if spec not in unit)
    steps: list[Step] = []
    if dirs or plain or links:
        title = f"write {titles([*_paths(plain), *_paths(links), *_paths(dirs)])}"
        steps.append(WriteFiles(want.node, title, plain, dirs, links, _diffs(plain, links, dirs, now)))
    if unit:
        return [*steps, InstallUnit(want.node, unit[0], _diffs(unit, (), (), now), _former(want, now))]
    if now.unit.needs_reload or now.unit.enabled != "enabled":
        steps.append(LoadUnit(want.node))
    return steps


def _former(want: HostSpec, now: HostState) -> str:
    """Name the directory of links that is given up; empty if none is."""
    was = now.told.etcdctl if now.told else ""
    wanted = [spec.path for spec in want.links if spec.path.endswith("/etcdctl")]
    return "" if was in ("", *wanted) else was.removesuffix("/etcdctl")


def _paths(specs: Sequence[FileSpec] | Sequence[LinkSpec] | Sequence[DirSpec]) -> list[str]:
    return [spec.path for spec in specs]


def _dir_differs(want: DirSpec, now: PathState | None) -> bool:
    return now is None or (now.kind, now.mode, now.owner, now.group) != (
        "directory",
        want.mode,
        want.owner,
        want.group,
    )


def _link_differs(want: LinkSpec, now: PathState | None) -> bool:
    return now is None or now.target != want.target


def _file_differs(want: FileSpec, now: PathState | None) -> bool:
    return now is None or (now.kind, now.sha256, now.mode, now.owner, now.group) != (
        "file",
        want.sha256,
        want.mode,
        want.owner,
        want.group,
    )


def _diffs(
    files: Iterable[FileSpec], links: Iterable[LinkSpec], dirs: Iterable[DirSpec], now: HostState
) -> str:
    parts = [_file_diff(spec, now.paths.get(spec.path)) for spec in files]
    for link in links:
        was = now.paths.get(link.path)
        parts.append(f"{link.path}: {was.target + ' ' if was and was.target else ''}→ {link.target}")
    for directory in dirs:
        parts.append(f"{directory.path}/: {directory.mode:04o} {directory.owner}:{directory.group}")
    return "\n".join(part for part in parts if part)


def _file_diff(want: FileSpec, now: PathState | None) -> str:
    """Show the change of one file; of key material only that it changes."""
    rights = f"{want.mode:04o} {want.owner}:{want.group}"
    if want.secret:
        return f"{want.path}: {rights} (private key, not shown)"
    if now is not None and now.sha256 == want.sha256:
        return f"{want.path}: {now.mode:04o} {now.owner}:{now.group} → {rights}"
    if want.path.endswith((".crt", ".crl")):
        return f"{want.path}: {rights} sha256 {want.sha256[:16]}"
    before = (now.text or "").splitlines() if now else []
    after = want.data.decode("utf-8", "replace").splitlines()
    name = want.path if now else f"{want.path} (new, {rights})"
    shown = "\n".join(difflib.unified_diff(before, after, want.path, name, lineterm="", n=2))
    return shown or f"{want.path}: {rights} (only line ends differ)"
