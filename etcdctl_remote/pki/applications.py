"""What stands in the certificates of applications: programs that use the cluster and are no part of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from ..desired.model import ClusterSpec
from ..errors import UsageError
from .profiles import Profile, Usage, split_names

NAME = re.compile(r"(?!(?i:ca)$)[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
"""A file name and a common name at once, whose longest is 64 (RFC 5280, ub-common-name).

`ca.crt` lies beside it.
"""

LONGEST = 100_000
"""Days; every CA ends before, and with it what it signed."""


@dataclass(frozen=True)
class Kind:
    """A ready-made application: what it calls itself, and how its files are called."""

    common_name: str = ""
    """Empty: the name that was given."""
    stem: str = ""
    """Of the files; empty: the name that was given."""
    named: bool = True
    """Whether it may carry names and addresses of its own."""


KINDS: dict[str, Kind] = {
    "": Kind(),
    "apiserver": Kind("kube-apiserver-etcd-client", "apiserver-etcd-client"),
    # etcd holds the addresses in a client's certificate against the client on an https metrics
    # port, so a scraper has none (`checkCertSAN` in client/pkg/transport).
    "prometheus": Kind(named=False),
    "patroni": Kind(),
}


@dataclass(frozen=True)
class Application:
    """What was asked for, checked."""

    name: str
    """What the register and the operator call it."""
    kind: str
    profile: Profile
    days: int = 0
    """What was asked for; 0: what the inventory says."""

    @property
    def stem(self) -> str:
        """The file name without its suffix."""
        return stem(self.name, self.kind)


@dataclass(frozen=True)
class Asked:
    """What was asked for, as it was typed."""

    name: str = ""
    kind: str = ""
    usage: str = "client"
    names: str = ""
    days: int = 0
    """0: the inventory's `pki.leaf_days`."""


def stem(name: str, kind: str) -> str:
    """How an application's files are called, without the suffix."""
    return KINDS[kind].stem or name


def application(cluster: ClusterSpec, asked: Asked) -> Application:
    """Check what was asked for; UsageError names everything that is wrong."""
    kind, wrong = asked.kind, []
    if kind not in KINDS:
        wrong.append(f"--kind {kind}: none of {', '.join(word for word in KINDS if word)}")
        kind = ""
    name = asked.name or kind
    if not NAME.fullmatch(name):
        wrong.append(
            f"--name {name}: 1 to 64 letters, digits and . _ @ - that begin with a letter or digit, and not ca"
            if name
            else "--name is missing: what the application is called"
        )
    elif owner := _node_of(cluster, name):
        wrong.append(f"--name {name}: that is the node {owner}, or what its certificates are called")
    usages = _usages(asked.usage, wrong)
    names = _names(asked.names, wrong)
    if names and not KINDS[kind].named:
        wrong.append(
            f"--names: a certificate of {kind} has none, or etcd's https metrics port would refuse it"
        )
    if "server" in usages and not names:
        wrong.append("--usage server: needs --names, the names and addresses that its clients dial")
    if wrong:
        raise UsageError("no certificate was made: " + "; ".join(wrong), "correct the flags")
    dns, addresses = split_names(names)
    uris = () if names else (f"urn:etcdctl-remote:{quote(cluster.name, safe='')}:application:{quote(name)}",)
    common = KINDS[kind].common_name or name
    days = min(asked.days or cluster.pki.leaf_days, LONGEST)
    profile = Profile(common, dns, addresses, usages, days, cluster.pki.key, uris)
    return Application(name, kind, profile, min(asked.days, LONGEST))


def _node_of(cluster: ClusterSpec, name: str) -> str:
    """Name the node that is called so, or whose certificates are; empty if there is none."""
    taken = ("{}", "etcd-server-{}", "etcd-peer-{}", "etcdctl-{}")
    return next(
        (node.name for node in cluster.nodes if name in [form.format(node.name) for form in taken]), ""
    )


def _usages(text: str, wrong: list[str]) -> tuple[Usage, ...]:
    words = [word.strip() for word in text.split(",")]
    found: tuple[Usage, ...] = ()
    if "server" in words:
        found = ("server",)
    if "client" in words:
        found = (*found, "client")
    if set(words) - {"server", "client"}:
        wrong.append(f"--usage {text}: client, server, or both: client,server")
    return found


def _names(text: str, wrong: list[str]) -> Sequence[str]:
    """Split at commas; what is neither a host name nor an address is told, each."""
    words = [word.strip() for word in text.split(",")] if text else []
    good = []
    for word in words:
        try:
            kept = any(split_names((word,)))
        except UsageError:
            kept = False
        if kept:
            good.append(word)
        else:
            wrong.append(
                f"--names {word or '(an empty one)'}: neither a host name nor an address one can dial"
            )
    return good
