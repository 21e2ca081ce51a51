"""The ids that etcd will give to a cluster and its members at bootstrap.

etcd derives them from the peer URLs and the token alone, so they can be known beforehand. A
marker on each host, outside the data directory, records them once the member has data; from
then on the unit refuses to start without that data. Sources:
server/etcdserver/api/membership/{member,cluster}.go, `computeMemberID` and `genID` (3.4 – 3.7).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Marker:
    """What `<config>/member` on a host says: whose member this host is. Ids are hex strings."""

    cluster: str
    cluster_id: str
    member_id: str
    name: str

    def encode(self) -> bytes:
        """Write the file's content."""
        return (json.dumps(asdict(self), sort_keys=True) + "\n").encode()

    @classmethod
    def decode(cls, content: bytes) -> Marker:
        """Read the file's content; ValueError if it is not a marker."""
        try:
            found = json.loads(content)
            marker = cls(**found)
            int(marker.cluster_id, 16), int(marker.member_id, 16)
        except (TypeError, ValueError) as error:
            raise ValueError(f"not a member marker: {content[:80]!r}") from error
        return marker


def member_id(peer_urls: Iterable[str], token: str) -> int:
    """Compute the id of a bootstrap member: SHA-1 over its sorted peer URLs and the token."""
    joined = "".join(sorted(peer_urls)) + token
    return _first_eight(joined.encode())


def cluster_id(member_ids: Iterable[int]) -> int:
    """Compute the id of a bootstrapped cluster: SHA-1 over its members' ids in order."""
    return _first_eight(b"".join(member.to_bytes(8, "big") for member in sorted(member_ids)))


def hexadecimal(number: int) -> str:
    """Spell an id as etcdctl does: lower-case hex without leading zeros."""
    return f"{number:x}"


def _first_eight(data: bytes) -> int:
    return int.from_bytes(hashlib.sha1(data, usedforsecurity=False).digest()[:8], "big")
