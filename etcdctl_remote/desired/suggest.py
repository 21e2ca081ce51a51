"""The nearest known word to a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant, or None."""
    choices = {choice.lower(): choice for choice in known}
    found = difflib.get_close_matches(word.lower().replace("_", "-"), choices, n=1, cutoff=0.6)
    if not found:
        found = difflib.get_close_matches(word.lower(), choices, n=1, cutoff=0.6)
    return choices[found[0]] if found else None


def meant(word: str, known: Iterable[str], otherwise: str) -> str:
    """Say `did you mean …?`, or what was expected when nothing is near."""
    found = nearest(word, known)
    return f"did you mean `{found}`?" if found else f"expected {otherwise}"
