"""The tasks about certificates; like `tasks`: arguments → operation → exit code, no logic."""

from __future__ import annotations

from invoke.collection import Collection

from .tasks_store import certs_backup, certs_init, certs_restore

namespace = Collection("certs")
namespace.add_task(certs_init, name="init")
namespace.add_task(certs_backup, name="backup")
namespace.add_task(certs_restore, name="restore")
