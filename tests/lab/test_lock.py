"""The lock file pins everything, for everyone."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def canonical(requirement: str) -> str:
    """A requirement's project name, as the lock spells it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s<>=;\[~!]", requirement)[0]).lower()


def test_the_lock_holds_no_index_address() -> None:
    """Whoever installs from it uses their own index."""
    assert "://" not in LOCK
    assert "index-url" not in LOCK


def test_every_pin_is_exact_and_has_a_hash() -> None:
    """`pip install --require-hashes` takes it as a whole."""
    pins = LOCK.replace("\\\n", " ").splitlines()
    assert len(pins) > 40
    for pin in pins:
        assert re.match(r"[a-z0-9-]+==\S+ ", pin), pin
        assert "--hash=sha256:" in pin, pin


def test_the_lock_covers_what_pyproject_asks_for() -> None:
    """No dependency was added without `make lock`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["lab"],
        *project["dependency-groups"]["dev"],
    ]
    locked = set(re.findall(r"^([a-z0-9-]+)==", LOCK, re.MULTILINE))
    assert {canonical(requirement) for requirement in wanted} <= locked
