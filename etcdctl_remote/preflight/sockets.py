"""Read the kernel's TCP tables, and hold a peer's source address against its certificate. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ..pki.profiles import Address

ESTABLISHED = "01"
LISTEN = "0A"


@dataclass(frozen=True)
class End:
    """One end of a TCP connection."""

    address: Address
    port: int


@dataclass(frozen=True)
class Socket:
    """One line of /proc/net/tcp or tcp6."""

    local: End
    remote: End
    state: str
    inode: int


def parse(lines: Iterable[str]) -> tuple[Socket, ...]:
    """Read lines of /proc/net/tcp and tcp6; whatever is not a socket's is left out."""
    fields = (line.split() for line in lines)
    return tuple(
        Socket(_end(found[1]), _end(found[2]), found[3], int(found[9]))
        for found in fields
        if len(found) > 9 and found[0].endswith(":") and found[0] != "sl"
    )


def _end(text: str) -> End:
    """Read `0B01000A:094B`: 32-bit words as a little-endian machine writes them (amd64, arm64)."""
    digits, _, port = text.partition(":")
    words = bytes.fromhex(digits)
    packed = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    return End(plain(ipaddress.ip_address(packed)), int(port, 16))


def plain(address: Address) -> Address:
    """Write an IPv4 address that came through an IPv6 socket as the IPv4 address it is."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def as_address(text: str) -> Address | None:
    """Read an address, None if it is a host name; a zone (`%eth0`) is left out."""
    try:
        return plain(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def grep(ports: Iterable[int], state: str = "") -> str:
    """Build the extended regular expression for sockets of ours whose local or remote port is given."""
    wanted = "|".join(f"{port:04X}" for port in sorted(set(ports)))
    if state == LISTEN:
        return f": [0-9A-F]+:({wanted}) [0-9A-F]+:0000 {LISTEN} "
    return f":({wanted}) .*{state or ESTABLISHED} |:({wanted}) {state or ESTABLISHED} "


@dataclass(frozen=True)
class Source:
    """What the acceptor sees of one dialler. `certain` is false if it was told by elimination."""

    addresses: frozenset[Address]
    certain: bool = True


def source_of(dialled: Collection[End], accepted: Collection[End], explained: Collection[End]) -> Source:
    """Find the addresses under which an acceptor sees a dialler.

    `dialled`: the dialler's own ends of its connections to the acceptor. `accepted`: the far
    ends the acceptor sees. `explained`: those that are some dialler's own end, unchanged. An
    end that both tables show is no NAT; else it was rewritten on the way, and the ends nobody
    else explains remain, those with the dialler's port first, as NAT keeps the port if it can.
    """
    same = frozenset(dialled) & frozenset(accepted)
    if same:
        return Source(frozenset(end.address for end in same))
    left = [end for end in accepted if end not in explained]
    ports = {end.port for end in dialled}
    kept = [end for end in left if end.port in ports]
    found = frozenset(end.address for end in kept or left)
    return Source(found, certain=len(found) == 1)


def admitted(source: Address, names: Collection[str], resolved: Collection[Address] = ()) -> bool:
    """Whether etcd admits a peer from this address with these names in its certificate.

    etcd's `checkCertSAN`: no IP and no DNS name passes; an IP name that is the source passes;
    else a DNS name must resolve to it (`resolved`: what they resolve to on the acceptor).
    """
    listed = [name for name in names if not name.startswith("urn:")]
    if not listed:
        return True
    return source in [as_address(name) for name in listed] or source in resolved
