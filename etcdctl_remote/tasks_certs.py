"""The tasks about certificates; like `tasks`: arguments → operation → exit code, no logic."""

from __future__ import annotations

from invoke.collection import Collection

namespace = Collection("certs")
