"""How certificates of applications are shown: what was made, where it is, how it is used."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import yaml

from ..desired.model import ClusterSpec
from ..operations.certs_export import OPERATOR
from ..operations.certs_issue import Handed
from ..pki.applications import stem
from ..pki.bundle import CA
from ..pki.issued import Issued

OURS = "ETCDCTL_REMOTE_"
"""How our own variables begin, the inventory's for one."""
KUBERNETES = "/etc/kubernetes/pki"
"""Where kubeadm looks for certificates on a control plane."""
OWN_KEY = "OWNERS-KEY-FILE"
"""Stands for the key of whoever made a request: where that is, only its owner knows."""


def document(cluster: ClusterSpec, handed: Handed) -> dict[str, object]:
    """The certificate as JSON; no key is in it."""
    one = handed.certificate
    found = {
        "name": one.name,
        "kind": one.kind or None,
        "common_name": one.leaf.subject,
        "usages": list(one.leaf.usages),
        "names": sorted(one.leaf.names),
        "serial": one.leaf.serial,
        "fingerprint": one.leaf.fingerprint,
        "issuer": one.leaf.issuer,
        "not_before": one.leaf.not_before.isoformat(),
        "not_after": one.leaf.not_after.isoformat(),
        "certificate": one.certificate_pem.decode(),
        "store": str(handed.kept),
        "files": [str(path) for path in handed.bundle.paths] if handed.bundle else [],
        "notes": list(handed.notes),
    }
    return {**found, **_snippets(cluster, handed)}


def issued(cluster: ClusterSpec, handed: Handed) -> str:
    """Say what was issued, where it is, and how it is used."""
    return "\n\n".join([_made(handed), *_snippets(cluster, handed).values()])


def _made(handed: Handed) -> str:
    """Say what was issued, and where it is."""
    one = handed.certificate
    usages = " and ".join(one.leaf.usages)
    lines = [
        f"{usages} certificate for {one.name}: CN {one.leaf.subject}, serial {one.leaf.serial}, "
        f"until {one.leaf.not_after:%Y-%m-%d}, by {one.leaf.issuer}"
    ]
    dialled = sorted(name for name in one.leaf.names if not name.startswith("urn:"))
    lines += [f"names: {', '.join(dialled)}"] if dialled else []
    lines += [str(path) for path in handed.bundle.paths] if handed.bundle else [str(handed.kept)]
    return "\n".join(lines)


def _snippets(cluster: ClusterSpec, handed: Handed) -> dict[str, str]:
    """How the kind of application is told of its certificate; by name, as the document has it."""
    one = handed.certificate
    if "client" not in one.leaf.usages:
        return {}
    places = _places(handed)
    by_kind = {
        "apiserver": {"kubeadm": kubeadm(cluster, one)},
        "prometheus": {"prometheus": _prometheus(places)},
        "patroni": {"patroni": _patroni(cluster, places)},
    }
    return by_kind.get(one.kind, {})


def exported(cluster: ClusterSpec, handed: Handed) -> tuple[str, dict[str, object]]:
    """What was given out, with a line for etcdctl and what its kind is told by; as text, and as a document."""
    one = handed.certificate
    line, snippets = etcdctl(cluster, handed), _snippets(cluster, handed)
    if one.name == OPERATOR:
        snippets = {**snippets, "kubeadm": kubeadm(cluster, one)}
    text = "\n\n".join([_made(handed), line, *snippets.values()])
    return text, document(cluster, handed) | {"etcdctl": line} | snippets


def etcdctl(cluster: ClusterSpec, handed: Handed) -> str:
    """A line for a shell, which works wherever the files and the network are.

    etcdctl warns of each variable with its prefix that it does not know: ours is taken from it.
    """
    ca, certificate, key = _places(handed)
    words = (
        *_without(sorted(name for name in os.environ if name.startswith(OURS))),
        "etcdctl",
        f"--endpoints={','.join(endpoints(cluster))}",
        f"--cacert={ca}",
        f"--cert={certificate}",
        f"--key={key}",
        "member",
        "list",
    )
    return shlex.join(words)


def _without(variables: list[str]) -> list[str]:
    return ["env", *(word for name in variables for word in ("-u", name))] if variables else []


def endpoints(cluster: ClusterSpec) -> list[str]:
    """What clients dial: every node."""
    return [cluster.client_url(node) for node in cluster.nodes]


def kubeadm(cluster: ClusterSpec, one: Issued) -> str:
    """kubeadm's section for an etcd that is not its own, with the places it takes files from."""
    external = {
        "endpoints": endpoints(cluster),
        "caFile": f"{KUBERNETES}/etcd/ca.crt",
        "certFile": f"{KUBERNETES}/apiserver-etcd-client.crt",
        "keyFile": f"{KUBERNETES}/apiserver-etcd-client.key",
    }
    name = stem(one.name, one.kind)
    places = (
        f"# on each control plane: {CA} → {external['caFile']}",
        f"#   {name}.crt → {external['certFile']}",
        f"#   {f'{name}.key' if one.key_pem else OWN_KEY} → {external['keyFile']}, 0600",
    )
    head = {"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration"}
    return "\n".join([*places, _yaml(head | {"etcd": {"external": external}})])


def _prometheus(places: tuple[str, str, str]) -> str:
    ca, certificate, key = places
    return _yaml(
        {"scheme": "https", "tls_config": {"ca_file": ca, "cert_file": certificate, "key_file": key}}
    )


def _patroni(cluster: ClusterSpec, places: tuple[str, str, str]) -> str:
    ca, certificate, key = places
    hosts = [url.removeprefix("https://") for url in endpoints(cluster)]
    etcd3 = {"hosts": hosts, "protocol": "https", "cacert": ca, "cert": certificate, "key": key}
    return _yaml({"etcd3": etcd3})


def _places(handed: Handed) -> tuple[str, str, str]:
    """Paths of CAs, certificate and key, as far as they are known here."""
    one = handed.certificate
    name = stem(one.name, one.kind)
    folder = handed.bundle.folder if handed.bundle else Path("/etc/etcd-client")
    key = str(folder / f"{name}.key") if one.key_pem else OWN_KEY
    return str(folder / CA), str(folder / f"{name}.crt"), key


def _yaml(content: object) -> str:
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=False, width=1000).rstrip()
