"""The roots of a CA whose key is elsewhere, as the inventory names their files."""

from __future__ import annotations

from pathlib import Path

from ..desired.model import ExternalSpec
from ..errors import UsageError
from . import chain
from .authority import Authority, plain_name
from .inspect import is_ca


def read(spec: ExternalSpec) -> tuple[Authority, Authority | None]:
    """Read whom clients and servers trust, and whom peers; UsageError says all that is wrong."""
    found: list[Authority | None] = []
    wrong: dict[str, str] = {}
    for path in (spec.trust, spec.peer_trust):
        try:
            found.append(_roots(path) if path else None)
        except ValueError as error:
            wrong[str(path)] = str(error)
    client, peer = (*found, None, None)[:2]
    if wrong or client is None:
        raise UsageError(
            "whom to trust cannot be read (`pki.external`); nothing was changed",
            "each file holds the root certificate, or several, as PEM",
            wrong,
        )
    return client, peer


def _roots(path: Path) -> Authority:
    try:
        found = chain.load(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{error.strerror}") from error
    except ValueError as error:
        raise ValueError("holds no PEM certificate") from error
    others = [plain_name(one.subject) for one in found if not (chain.is_root(one) and is_ca(one))]
    if others:
        raise ValueError(
            f"{', '.join(map(repr, others))} is no root: it must be a CA that signed itself; intermediates "
            "come with what is signed"
        )
    return Authority(chain.pem(dict.fromkeys(found)), None, outside=True)
