"""What the package needs is what it says it needs: a fresh environment has nothing else."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def imported(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name the top-level modules that the sources import, wherever in a file."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((alias.name.partition(".")[0], path) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield node.module.partition(".")[0], path


def stated(requirements: list[str]) -> set[str]:
    """Name the distributions of a list of requirements."""
    return {re.split(r"[^A-Za-z0-9_.-]", line)[0].lower() for line in requirements}


def test_every_import_is_a_stated_dependency() -> None:
    """Those of the lab are its extra's; everything else works without it. None is stated for nothing."""
    core, lab = stated(PROJECT["dependencies"]), stated(PROJECT["optional-dependencies"]["lab"])
    known = packages_distributions()
    used: set[str] = set()
    for module, path in imported(ROOT / "etcdctl_remote"):
        if module in sys.stdlib_module_names or module == "etcdctl_remote":
            continue
        names = {name.lower() for name in known[module]}
        allowed = core | lab if "lab" in path.relative_to(ROOT).parts else core
        assert names & allowed, f"{path} imports {module}, which no dependency gives"
        used |= names
    assert (core | lab) - used == set()
