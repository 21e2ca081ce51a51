"""The documents keep up with the program: every task, every key of the inventory, every link."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from etcdctl_remote.desired import schema
from etcdctl_remote.tasks import namespace

ROOT = Path(__file__).resolve().parents[2]
TASKS = tuple(sorted(namespace.task_names))


def documents() -> tuple[Path, ...]:
    """List the Markdown files of the sources: those git knows, or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = [name for name in listed.stdout.split("\0") if name]
    found = [ROOT / name for name in names] or [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    return tuple(sorted(path for path in found if path.is_file()))


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Name every key of the inventory as the README writes it: `ssh.user`, `nodes.<name>.address`."""
    for name, field in model.model_fields.items():
        yield prefix + name
        if prefix:
            continue
        inner = schema.Node if name == "nodes" else field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys(inner, f"{name}.<name>." if name == "nodes" else f"{name}.")


def rows(text: str) -> set[str]:
    """Take the first cell of every table row that begins with code."""
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.M))


def anchors(path: Path) -> set[str]:
    """Name the headings of a file as GitHub makes anchors of them."""
    prose = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def links(path: Path) -> Iterator[str]:
    """Yield the targets of a file's relative links; code is no prose."""
    prose = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose)):
        if not re.match(r"[a-z]+:", target):
            yield target


@pytest.mark.parametrize("task", TASKS)
def test_readme_lists_the_task(task: str) -> None:
    """Every task of the collection has a row in the README."""
    assert task in rows((ROOT / "README.md").read_text("utf-8"))


@pytest.mark.parametrize("task", TASKS)
def test_operations_explains_the_task(task: str) -> None:
    """Every task of the collection has a section of its own in docs/operations.md."""
    assert f"\n### {task}\n" in (ROOT / "docs/operations.md").read_text("utf-8")


@pytest.mark.parametrize("key", tuple(keys(schema.Inventory)))
def test_readme_lists_the_key(key: str) -> None:
    """Every key of the inventory has a row in the README, or stands for the rows of its section."""
    found = rows((ROOT / "README.md").read_text("utf-8"))
    assert key in found or any(row.startswith(f"{key}.") for row in found)


def test_readme_lists_no_key_that_is_none() -> None:
    """A row of the README with a dot in it is a key of the inventory, or a task."""
    known: set[Any] = {*keys(schema.Inventory), *TASKS}
    dotted = {row for row in rows((ROOT / "README.md").read_text("utf-8")) if re.fullmatch(r"[\w<>.]+", row)}
    assert {row for row in dotted if "." in row} <= known


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_resolve(path: Path) -> None:
    """Every relative link leads to a file or folder that exists, and to a heading in it."""
    for target in links(path):
        name, _, anchor = target.partition("#")
        place = (path.parent / name).resolve() if name else path
        assert place.exists(), f"{path.name} links to {target}"
        if anchor:
            assert anchor in anchors(place), f"{path.name} links to {target}"
