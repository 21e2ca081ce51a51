"""No deadline for one example: the first one imports pydantic, and the lab may be busy beside us."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
