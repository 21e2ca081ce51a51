"""What all unit tests share: no second of work for each passphrase."""

from __future__ import annotations

import pyrage
import pytest

from .pki import age


@pytest.fixture(autouse=True)
def cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seal in milliseconds; what opens the file reads in it how much work that is."""
    monkeypatch.setattr(pyrage.passphrase, "encrypt", age.encrypt)
