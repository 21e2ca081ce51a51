"""Name constraints of a CA: which names its leaves may not have (RFC 5280, 4.2.1.10)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence

from cryptography import x509

from .profiles import Profile


def forbidden(ca: x509.Certificate, profiles: Iterable[Profile]) -> Iterator[str]:
    """Say which names of the leaves a CA forbids, if any; each once."""
    try:
        limits = ca.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return
    allowed, excluded = list(limits.permitted_subtrees or ()), list(limits.excluded_subtrees or ())
    wanted: dict[x509.GeneralName, None] = {}
    for profile in profiles:
        wanted |= dict.fromkeys(_names(profile))
    refused = [str(name.value) for name in wanted if not _may(name, allowed, excluded)]
    if refused:
        yield f"forbids the names {', '.join(refused)} (nameConstraints)"


def _names(profile: Profile) -> Iterator[x509.GeneralName]:
    yield from (x509.DNSName(name) for name in profile.dns)
    yield from (x509.IPAddress(address) for address in profile.addresses)
    yield from (x509.UniformResourceIdentifier(uri) for uri in profile.uris)


def _may(
    name: x509.GeneralName, allowed: Sequence[x509.GeneralName], excluded: Sequence[x509.GeneralName]
) -> bool:
    """Names of a type are free unless that type is constrained."""
    same = [each for each in allowed if type(each) is type(name)]
    if isinstance(name, x509.UniformResourceIdentifier):
        return not same and not any(type(each) is type(name) for each in excluded)
    return (not same or any(_within(name, each) for each in same)) and not any(
        _within(name, each) for each in excluded
    )


def _within(name: x509.GeneralName, limit: x509.GeneralName) -> bool:
    if isinstance(name, x509.DNSName) and isinstance(limit, x509.DNSName):
        base = limit.value.lower().removeprefix(".")
        return not base or name.value == base or name.value.endswith(f".{base}")
    if isinstance(name, x509.IPAddress) and isinstance(limit, x509.IPAddress):
        network = limit.value
        nets = (ipaddress.IPv4Network, ipaddress.IPv6Network)
        return isinstance(network, nets) and not isinstance(name.value, nets) and name.value in network
    return False
