"""etcd's flags that this tool sets itself, each with what to write instead."""

from __future__ import annotations

_PKI = "expected it under `pki`: certificates are made, placed and renewed by this tool"
_NODES = "expected the members under `nodes`: how they find each other follows from there"
_NEVER = "expected it to be left out"
_PROXY = f"{_NEVER}: this tool runs members, not proxies"
_CRL = f"{_NEVER}: `certs.revoke` makes the list, places it and sets this"

_DISCOVERY = (
    "discovery discovery-cacert discovery-cert discovery-dial-timeout discovery-endpoints "
    "discovery-fallback discovery-insecure-skip-tls-verify discovery-insecure-transport "
    "discovery-keepalive-time discovery-keepalive-timeout discovery-key discovery-password "
    "discovery-proxy discovery-request-timeout discovery-srv discovery-srv-name discovery-token "
    "discovery-user initial-cluster initial-cluster-state initial-cluster-token"
)
_CERTIFICATES = (
    "cert-file key-file trusted-ca-file client-cert-file client-key-file client-cert-auth "
    "peer-cert-file peer-key-file peer-trusted-ca-file peer-client-cert-file peer-client-key-file "
    "peer-client-cert-auth auto-tls peer-auto-tls self-signed-cert-validity"
)
_PROXIES = (
    "proxy proxy-dial-timeout proxy-failure-wait proxy-read-timeout proxy-refresh-interval "
    "proxy-write-timeout"
)

OWNED: dict[str, str] = {
    "name": "expected the member's name as the key under `nodes`",
    "data-dir": "expected `paths.data`",
    "wal-dir": "expected `paths.wal`",
    "listen-peer-urls": "expected `nodes.<name>.address` and `ports.peer`",
    "listen-client-urls": "expected `nodes.<name>.address` and `ports.client`",
    "listen-client-http-urls": f"{_NEVER}: gRPC and HTTP share `ports.client`",
    "listen-metrics-urls": "expected `ports.metrics`",
    "initial-advertise-peer-urls": "expected `nodes.<name>.advertise`",
    "advertise-client-urls": "expected `nodes.<name>.advertise`",
    "client-crl-file": _CRL,
    "peer-crl-file": _CRL,
    "config-file": f"{_NEVER}: with a file etcd ignores every flag; expected the settings under `settings`",
    "force-new-cluster": f"{_NEVER}: it belongs to disaster recovery, never into a unit",
    "version": f"{_NEVER}: the release is the top-level `version`",
    **dict.fromkeys(_DISCOVERY.split(), _NODES),
    **dict.fromkeys(_CERTIFICATES.split(), _PKI),
    **dict.fromkeys(_PROXIES.split(), _PROXY),
}
