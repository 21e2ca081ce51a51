"""Replace CAs under a running cluster: trust both, sign with the new, trust the new only.

Each state is a generation like any other. A member reads its bundle only at its start, so the
first and the last state take a rolling restart; the leaves between them take none. In memory
only: the next state is saved when nothing is left to do for the one before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Literal

from ..desired.model import ClusterSpec
from ..errors import Refused
from .authority import Authority
from .generation import Authorities, Generation, Rotation, State, new_authorities

Which = Literal["client", "peer"]
BOTH: frozenset[Which] = frozenset(("client", "peer"))
TITLES = {
    State.TRUST_BOTH: "trust both",
    State.NEW_LEAVES: "leaves from the new",
    State.TRUST_NEW: "trust the new only",
}
"""The states in their order."""


def title(state: State) -> str:
    """Name a state in the one way in which people read it."""
    return f"state {list(TITLES).index(state) + 1} of {len(TITLES)}, {TITLES[state]}"


def trust_both(
    held: Generation, cluster: ClusterSpec, now: datetime, which: Collection[Which] = BOTH
) -> Generation:
    """Make new CAs and have everybody trust them beside the old, which go on signing."""
    coming = _successors(held.authorities, cluster, now, which)
    lines = [f"{_named(ca)} (new, trusted beside the old one)" for ca in _new(held.authorities, coming)]
    return replace(
        _trusting(held, held.authorities, coming),
        rotation=Rotation(State.TRUST_BOTH, coming),
        issued=(*held.issued, *lines),
    )


def advanced(held: Generation) -> Generation:
    """Return the state after this one, none after the last; ValueError where no CA is being replaced.

    The leaves of the new CAs are issued by `generation.renewed`, as those of any changed issuer.
    """
    if held.rotation is None:
        raise ValueError("no CA is being replaced")
    if held.rotation.state is State.TRUST_BOTH:
        coming = held.rotation.other
        return replace(
            held,
            authorities=coming,
            rotation=Rotation(State.NEW_LEAVES, held.authorities),
            issued=(*held.issued, *(f"{_named(ca)} (signs from now on)" for ca in new_cas(held))),
        )
    if held.rotation.state is State.TRUST_NEW:
        return replace(held, rotation=None, issued=(*held.issued, "the replacement of the CA is done"))
    lines = [f"{_named(ca)} (no longer trusted)" for ca in old_cas(held)]
    return replace(
        _trusting(held, held.authorities),
        rotation=Rotation(State.TRUST_NEW, held.rotation.other),
        issued=(*held.issued, *lines),
    )


def at_once(held: Generation, cluster: ClusterSpec, now: datetime) -> Generation:
    """Replace the CAs that have expired without the way between: nobody can use them any more.

    What a rotation under way has made already is taken.
    """
    coming = held.authorities
    if held.rotation and held.rotation.state is State.TRUST_BOTH:
        coming = held.rotation.other
    if ended := expired(coming, now):
        coming = _successors(coming, cluster, now, ended)
    lines = [
        f"{_named(ca)} (new, at once: its predecessor has expired)" for ca in _new(held.authorities, coming)
    ]
    return replace(
        _trusting(held, coming),
        authorities=coming,
        rotation=Rotation(State.TRUST_NEW, held.authorities),
        issued=(*held.issued, *lines),
    )


def expired(authorities: Authorities, now: datetime) -> frozenset[Which]:
    """Name the CAs that have ended."""
    by_name: dict[Which, Authority] = {"client": authorities.client, "peer": authorities.peer}
    return frozenset(which for which, ca in by_name.items() if ca.not_after <= now)


def under_way(held: Generation) -> frozenset[Which]:
    """Name the CAs that are being replaced; nothing outside of a rotation."""
    if held.rotation is None:
        return frozenset()
    here, other = held.authorities, held.rotation.other
    changed: dict[Which, bool] = {
        "client": here.client.certificate != other.client.certificate,
        "peer": here.peer.certificate != other.peer.certificate,
    }
    return frozenset(which for which, differs in changed.items() if differs)


def new_cas(held: Generation) -> tuple[Authority, ...]:
    """List the CAs that are on their way in, or signed in since; nothing outside of a rotation."""
    if held.rotation is None:
        return ()
    if held.rotation.state is State.TRUST_BOTH:
        return _new(held.authorities, held.rotation.other)
    return _new(held.rotation.other, held.authorities)


def old_cas(held: Generation) -> tuple[Authority, ...]:
    """List the CAs that are on their way out; nothing outside of a rotation."""
    if held.rotation is None:
        return ()
    if held.rotation.state is State.TRUST_BOTH:
        return _new(held.rotation.other, held.authorities)
    return _new(held.authorities, held.rotation.other)


def _successors(
    held: Authorities, cluster: ClusterSpec, now: datetime, which: Collection[Which]
) -> Authorities:
    """Make the CAs to come. Of an outside CA there has to be another root by now."""
    coming = made = new_authorities(cluster, now)
    if held.own_peer is not None:
        coming = Authorities(
            made.client if "client" in which else held.client,
            made.peer if "peer" in which else held.own_peer,
        )
    if not _new(held, coming):
        raise Refused(
            f"the files of `pki.external` hold the CAs that {cluster.name} trusts already; nothing was changed",
            "put the root of the new CA into `trust` or `peer_trust`, and have its key sign",
        )
    return coming


def _new(before: Authorities, after: Authorities) -> tuple[Authority, ...]:
    """List the CAs of `after` that `before` has not."""
    known = {ca.certificate for ca in _each(before)}
    return tuple(ca for ca in _each(after) if ca.certificate not in known)


def _each(authorities: Authorities) -> Iterator[Authority]:
    yield authorities.client
    if authorities.own_peer:
        yield authorities.own_peer


def _trusting(held: Generation, *trusted: Authorities) -> Generation:
    client = dict.fromkeys(each.client.trust for each in trusted)
    peer = dict.fromkeys(each.peer.trust for each in trusted)
    return replace(held, ca_bundle=b"".join(client), peer_ca_bundle=b"".join(peer))


def _named(ca: Authority) -> str:
    return f"CA {ca.common_name!r}, until {ca.not_after:%Y-%m-%d}"
