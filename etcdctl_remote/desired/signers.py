"""What the keys under `pki` must be to each other: who signs, and how a CA key is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

Found = tuple[tuple[str | int, ...], bool, str]
"""Where, whether the key is meant, what."""


def errors(pki: Mapping[str, object]) -> Iterator[Found]:
    """List what contradicts itself; a part of the wrong type is the schema's to report."""
    key, external = pki.get("ca_key"), pki.get("external")
    if isinstance(key, Mapping):
        yield from _ca_key(key)
    if not isinstance(external, Mapping):
        return
    yield from _external(external, separate=pki.get("peer_ca", "separate") == "separate")
    if isinstance(key, Mapping) and key.get("protect", "none") != "none":
        text = "with `external` there is no CA key on this computer; expected one of the two"
        yield ("pki", "ca_key", "protect"), True, text


def _ca_key(key: Mapping[str, object]) -> Iterator[Found]:
    """`passphrase` and `identity` may stand there in any case: they open what was sealed before."""
    protect = key.get("protect", "none")
    place = ("pki", "ca_key")
    if "recipients" in key and protect != "age":
        text = f"`recipients` has no meaning with `protect: {protect}`; expected `protect: age`"
        yield (*place, "recipients"), True, text
    if protect == "age":
        if not key.get("recipients"):
            yield (*place, "protect"), False, "for whom? expected `recipients`: age1… or SSH public keys"
        if not key.get("identity"):
            text = "nothing could open the key; expected `identity`: the file of an age identity or SSH key"
            yield (*place, "protect"), False, text


def _external(external: Mapping[str, object], *, separate: bool) -> Iterator[Found]:
    place = ("pki", "external")
    if separate and not external.get("peer_trust"):
        text = "peers have a CA of their own; expected `peer_trust` too, or `peer_ca: same`"
        yield place, True, text
    for name in ("peer_trust", "peer_command"):
        if not separate and external.get(name):
            yield (*place, name), True, f"`{name}` needs a CA of the peers' own; expected `peer_ca: separate`"
    if external.get("folder") and external.get("command"):
        yield (*place, "folder"), True, "both `folder` and `command`; expected one of them"
    if external.get("peer_command") and not external.get("command"):
        yield (*place, "peer_command"), True, "`peer_command` stands alone; expected `command` for the others"
