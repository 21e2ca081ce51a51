"""etcd's own auth, where it denies us what we ask: in words, and the way out.

etcd takes the common name of a client certificate for the name of a user.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..pki.profiles import common_name
from .state import HostState


def user(node: str) -> str:
    """Return the name under which etcdctl on a node is known to etcd."""
    return common_name("etcdctl", node)


def denial(node: str, host: HostState) -> str:
    """Say what is denied, to whom, in which words of etcd's; and of a read that failed besides, why."""
    what, words = "` and `".join(host.denied), next(iter(host.denied.values()))
    told = f"etcd's auth is enabled and denies `{what}` to the certificate {user(node)} ({words})"
    failed = host.members_error if "member list" not in host.denied else ""
    return f"{told}; a read through it failed: {failed}" if failed else told


def way_out(nodes: Iterable[str]) -> str:
    """Say which commands make the users that are missing; root's password is asked for, not written."""
    first, *others = map(user, nodes)
    also = f"; the same for {', '.join(others)}" if others else ""
    return (
        "on a node, with the password of etcd's root: "
        f"`sudo etcdctl.sh --user root user add {first} --no-password` if that user is not there yet, then "
        f"`sudo etcdctl.sh --user root user grant-role {first} root`{also}"
    )
