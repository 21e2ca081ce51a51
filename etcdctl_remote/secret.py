"""Bytes that must never be shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Secret:
    """Private key material or a password; its `repr` and `str` are redacted."""

    reveal: bytes

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__
