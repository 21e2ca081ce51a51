"""The tasks about certificates; like `tasks`: arguments → operation → exit code, no logic."""

from __future__ import annotations

from invoke.collection import Collection

from .tasks_store import certs_init

namespace = Collection("certs")
namespace.add_task(certs_init, name="init")
