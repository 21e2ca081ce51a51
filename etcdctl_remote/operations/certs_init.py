"""Make the CAs of a cluster ahead of its deploy, or take in such as exist. Contacts no host.

Run again it does nothing, unless the inventory wants the CA keys kept otherwise than they are: then
it seals them, or opens them for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from ..desired.model import ClusterSpec
from ..errors import Refused, UsageError
from ..pki import importing
from ..pki.authority import Authority
from ..pki.generation import Authorities, Generation, adopt, new_authorities
from ..pki.keyring import Passphrase
from ..pki.profiles import Profile, node_profiles
from ..pki.reading import seen
from ..pki.resealing import PROTECTION, otherwise, reseal
from ..pki.store import Store


@dataclass(frozen=True)
class Imports:
    """The CAs to take in, each `CERT,KEY`; empty: made here."""

    client: str = ""
    peer: str = ""
    passphrase: Passphrase = field(default_factory=Passphrase)
    """Of their keys, if those are encrypted."""


@dataclass(frozen=True)
class Result:
    """What was done, or would be."""

    done: tuple[str, ...]
    warnings: tuple[str, ...]
    authorities: Authorities

    def document(self) -> dict[str, object]:
        """The same for programs."""
        peer = self.authorities.own_peer
        cas: Mapping[str, Authority | None] = {"client": self.authorities.client, "peer": peer}
        shown = {
            name: {"subject": ca.common_name, "not_after": ca.not_after.isoformat()}
            for name, ca in cas.items()
            if ca
        }
        return {"done": list(self.done), "warnings": list(self.warnings), "authorities": shown}


def certs_init(cluster: ClusterSpec, store: Store, imports: Imports, *, dry_run: bool) -> Result:
    """Make or take in the CAs; of a store that has some, see that their keys lie as they should."""
    _refuse_senseless(cluster, imports)
    now = datetime.now(UTC)
    wanted, warnings = _imported(cluster, imports, now)
    held = store.load()
    if held:
        _refuse_other(cluster, held, wanted, imports)
        return Result(tuple(_resealed(cluster, store, dry_run=dry_run)), warnings, held.authorities)
    made = new_authorities(cluster, now) if len(wanted) < _count(cluster) else None
    client = wanted.get("client") or (made.client if made else None)
    peer = wanted.get("peer") or (made.own_peer if made else None)
    if client is None:
        raise ValueError("no CA for clients was made or taken in")
    authorities = Authorities(client, peer)
    done = tuple(_line(cluster, name, ca, taken=name in wanted) for name, ca in _each(authorities))
    if not dry_run:
        begun = replace(adopt(authorities), issued=done, new_authorities=True, seen=seen(store.root))
        store.save(begun)
    return Result(done, warnings, authorities)


def _count(cluster: ClusterSpec) -> int:
    return 1 if cluster.pki.peer_ca == "same" else 2


def _each(authorities: Authorities) -> tuple[tuple[str, Authority], ...]:
    peer = authorities.own_peer
    return (("client", authorities.client), *((("peer", peer),) if peer else ()))


def _refuse_senseless(cluster: ClusterSpec, imports: Imports) -> None:
    if cluster.pki.external and (imports.client or imports.peer):
        raise UsageError(
            "with `pki.external` no CA key is on this computer: there is nothing to take in",
            "leave out --import, or `pki.external`",
        )
    if imports.peer and cluster.pki.peer_ca == "same":
        raise UsageError(
            "--import-peer: clients and peers share one CA (`pki.peer_ca: same`)",
            "leave it out, or say `peer_ca: separate`",
        )


def _imported(
    cluster: ClusterSpec, imports: Imports, now: datetime
) -> tuple[dict[str, Authority], tuple[str, ...]]:
    """Read what is to be taken in; UsageError with everything that is wrong with all of it."""
    given = {"client": (imports.client, "--import"), "peer": (imports.peer, "--import-peer")}
    files = {name: importing.pair(text, flag) for name, (text, flag) in given.items() if text}
    found = {
        name: importing.candidate(
            *paths, importing.Use(_profiles(cluster, name), now, imports.passphrase.of_each)
        )
        for name, paths in files.items()
    }
    wrong = [line for each in found.values() for line in each.wrong]
    keys = [each.authority.parsed.public_key() for each in found.values() if each.authority]
    if len(keys) == 2 and keys[0] == keys[1]:
        wrong.append("both CAs have the same key: a client certificate could speak raft; say `peer_ca: same`")
    if wrong:
        raise UsageError(
            "\n".join(("this CA cannot be used; nothing was changed:", *(f"  {line}" for line in wrong))),
            "mend what is named, or have `certs.init` make a CA: leave out --import",
        )
    warnings = tuple(line for each in found.values() for line in each.warnings)
    return {name: each.authority for name, each in found.items() if each.authority}, warnings


def _profiles(cluster: ClusterSpec, name: str) -> list[Profile]:
    """Say what this CA will sign. An address that only its host knows is not asked for here."""
    shared = cluster.pki.peer_ca == "same"
    nodes = (node if node.address else replace(node, address="0.0.0.0") for node in cluster.nodes)  # noqa: S104
    return [
        profile
        for node in nodes
        for kind, profile in node_profiles(cluster, node).items()
        if shared or (kind.value == "peer") == (name == "peer")
    ]


def _refuse_other(
    cluster: ClusterSpec, held: Generation, wanted: Mapping[str, Authority], imports: Imports
) -> None:
    has = {"client": held.authorities.client, "peer": held.authorities.peer}
    other = [name for name, ca in wanted.items() if has[name].certificate != ca.certificate]
    if other:
        raise Refused(
            f"certs/{cluster.name} has a CA already, {has[other[0]].common_name!r}; nothing was changed",
            "a cluster's CA is replaced with `rotate-certs --ca`; another cluster needs another name",
        )


def _resealed(cluster: ClusterSpec, store: Store, *, dry_run: bool) -> list[str]:
    """Bring the CA keys that lie otherwise than the inventory says to where they should be."""
    found = otherwise(store)
    if found and not dry_run:
        reseal(store, found)
    how = PROTECTION[cluster.pki.ca_key.protect]
    return [f"{path.relative_to(store.root)}: the key is {how} now; opened again for proof" for path in found]


def _line(cluster: ClusterSpec, name: str, ca: Authority, *, taken: bool) -> str:
    verb = "taken in" if taken else ("trusted; its key is elsewhere" if ca.outside else "made here")
    whose = "clients and servers" if name == "client" else "peers"
    if cluster.pki.peer_ca == "same":
        whose = "clients, servers and peers"
    kept = "" if ca.outside else f"; its key is {PROTECTION[cluster.pki.ca_key.protect]}"
    return f"CA {ca.common_name!r} for {whose} ({verb}, until {ca.not_after:%Y-%m-%d}{kept})"
