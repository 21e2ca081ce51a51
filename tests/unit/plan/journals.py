"""What the journals of real failed starts said: name, lines, what we say of them, and what helps."""

from __future__ import annotations

import json
from collections.abc import Sequence

NOISE = {
    "level": "warn",
    "msg": "Running http and grpc server on single port. This is not recommended for production.",
}
PROBER = "prober detected unhealthy status"
REJECTED = "rejected connection on peer endpoint"


def entry(message: str, start: str = "a", *, systemd: bool = False) -> str:
    """One line of `journalctl -o json`: etcd's own, or systemd's about the unit."""
    own = (
        {"INVOCATION_ID": start, "_SYSTEMD_INVOCATION_ID": "of-pid-1"}
        if systemd
        else {"_SYSTEMD_INVOCATION_ID": start}
    )
    return json.dumps({"MESSAGE": message, "PRIORITY": "6", **own})


def zap(level: str, message: str, error: str = "", **fields: str) -> str:
    """One line of etcd's JSON log in the journal."""
    return entry(
        json.dumps({"level": level, "msg": message, **({"error": error} if error else {}), **fields})
    )


# What etcd 3.4 to 3.7 wrote when it was made to fail, shortened by nothing but time and caller.
ETCD: list[tuple[str, Sequence[str], str, str]] = [
    (
        "retention",
        [
            zap(
                "fatal",
                "discovery failed",
                'error parsing CompactionRetention: time: invalid duration "abc"',
            )
        ],
        "--auto-compaction-retention cannot be read: time: invalid duration",
        "mend `settings.auto-compaction-retention`",
    ),
    (
        "log level",
        [entry('panic: unrecognized level: "foo"'), entry("goroutine 1 [running]:")],
        "--log-level cannot be foo",
        "mend `settings.log-level`",
    ),
    (
        "unknown flag",
        [entry("flag provided but not defined: -enable-v2")],
        "--enable-v2",
        "take `enable-v2` out",
    ),
    (
        "bad value",
        [entry('invalid value "abc" for flag -heartbeat-interval: parse error')],
        "--heartbeat-interval cannot be abc: parse error",
        "settings.heartbeat-interval",
    ),
    (
        "refused settings",
        [
            zap(
                "warn",
                "failed to verify flags",
                "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[1000ms]",
            )
        ],
        "should be at least as 5 times",
        "settings",
    ),
    (
        "foreign address",
        [
            zap(
                "fatal",
                "discovery failed",
                "listen tcp 10.99.99.99:2380: bind: cannot assign requested address",
            )
        ],
        "10.99.99.99:2380 is no address of this host",
        "nodes.n1",
    ),
    (
        "taken port",
        [zap("fatal", "discovery failed", "listen tcp 10.0.0.1:2380: bind: address already in use")],
        "another process listens on 10.0.0.1:2380",
        "ss -ltnp",
    ),
    (
        "low port",
        [zap("fatal", "discovery failed", "listen tcp 10.0.0.1:80: bind: permission denied")],
        "below 1024",
        "ports",
    ),
    (
        "unreadable key",
        [
            zap(
                "error",
                "creating peer listener failed",
                "open /etc/etcd/pki/current/peer.key: permission denied",
            )
        ],
        "may not read or write /etc/etcd/pki/current/peer.key",
        "namei -l /etc/etcd/pki/current/peer.key",
    ),
    (
        "unreadable data",
        [
            zap(
                "fatal",
                "failed to list data directory",
                "open /var/lib/etcd: permission denied",
                dir="/var/lib/etcd",
            )
        ],
        "/var/lib/etcd",
        "etcd:etcd 0700",
    ),
    (
        "missing certificate",
        [zap("fatal", "discovery failed", "open /etc/etcd/pki/current/peer.crt: no such file or directory")],
        "/etc/etcd/pki/current/peer.crt is missing",
        "deploy again",
    ),
    (
        "mixed key",
        [zap("fatal", "discovery failed", "tls: private key does not match public key")],
        "do not belong together",
        "deploy again",
    ),
    (
        "unknown authority",
        [
            zap("warn", REJECTED, "remote error: tls: bad certificate", **{"remote-addr": "10.0.0.2:42526"}),
            zap(
                "warn",
                PROBER,
                "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            ),
        ],
        "do not trust the same CA",
        "certs folder",
    ),
    (
        "unknown authority, 3.4",
        [zap("warn", PROBER, "x509: certificate signed by unknown authority")],
        "do not trust the same CA",
        "certs folder",
    ),
    (
        "bad certificate only",
        [zap("warn", REJECTED, "remote error: tls: bad certificate", **{"remote-addr": "10.0.0.2:42526"})],
        "does not accept this node's certificate",
        "logs",
    ),
    (
        "expired",
        [
            zap(
                "warn",
                PROBER,
                "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: "
                "current time 2026-11-21T06:07:41Z is after 2026-07-09T06:07:14Z",
            )
        ],
        "ended on 2026-07-09T06:07:14Z",
        "renews",
    ),
    (
        "clock behind",
        [
            zap(
                "warn",
                PROBER,
                "x509: certificate has expired or is not yet valid: current time 2026-11-21T06:07:53Z is before "
                "2026-11-26T06:02:14Z",
            )
        ],
        "a clock is wrong",
        "NTP",
    ),
    (
        "wrong name",
        [
            zap(
                "warn",
                PROBER,
                "tls: failed to verify certificate: x509: certificate is valid for 127.0.0.3, not 127.0.0.2",
            )
        ],
        "for 127.0.0.3, but the connection is with 127.0.0.2",
        "`names`",
    ),
    (
        "wrong source",
        [
            zap(
                "warn",
                REJECTED,
                'tls: "192.0.2.7" does not match any of DNSNames ["n3"] (lookup n3 on 10.0.0.53:53: no such host)',
                **{"remote-addr": "192.0.2.7:37488"},
            )
        ],
        "a peer dials from 192.0.2.7",
        "add 192.0.2.7 to that node's `names`",
    ),
    (
        "cluster id",
        [
            zap("warn", REJECTED, "remote error: tls: bad certificate"),
            zap(
                "warn",
                "request sent was ignored by remote peer due to cluster ID mismatch",
                "cluster ID mismatch",
                **{
                    "remote-peer-cluster-id": "7e1a75e5d580ff3c",
                    "local-member-cluster-id": "67a8d651cd37bd47",
                },
            ),
        ],
        "different clusters",
        "destroy",
    ),
    (
        "already bootstrapped",
        [zap("fatal", "discovery failed", "member c95a0dd67c21910a has already been bootstrapped")],
        "data directory is empty",
        "mount it",
    ),
    (
        "wiped",
        [
            zap(
                "panic",
                "tocommit(57) is out of range [lastIndex(0)]. Was the raft log corrupted, truncated, or lost?",
            ),
            entry(
                "panic: tocommit(57) is out of range [lastIndex(0)]. Was the raft log corrupted, truncated, or lost?"
            ),
        ],
        "0 of 57",
        "remove the member, then add it",
    ),
    (
        "removed",
        [
            zap("warn", "server error", "the member has been permanently removed from the cluster"),
            zap("warn", "data-dir used by this member must be removed"),
        ],
        "removed from the cluster for good",
        "take n1 out of the inventory",
    ),
    (
        "disk full",
        [
            zap("panic", "failed to create WAL", "no space left on device"),
            entry("panic: failed to create WAL"),
        ],
        "the disk is full",
        "df -h",
    ),
    (
        "damaged log",
        [
            zap(
                "fatal",
                "discovery failed",
                "walpb: crc mismatch: expected: c671957f computed: 4c2bd6f9: in file '0.wal'",
            )
        ],
        "damaged",
        "replace the member",
    ),
    (
        "few descriptors",
        [zap("fatal", "file descriptor limit of etcd process is too low; please set higher", limit="100")],
        "too few file descriptors",
        "LimitNOFILE",
    ),
    (
        "other list",
        [
            zap(
                "fatal",
                "discovery failed",
                "--initial-cluster has n1=https://127.0.0.9:1 but missing from --initial-advertise-peer-urls=https://1",
            )
        ],
        "initial-cluster does not name this member",
        "systemctl cat etcd",
    ),
    (
        "nobody answers",
        [
            zap(
                "fatal",
                "discovery failed",
                "cannot fetch cluster info from peer urls: could not retrieve cluster information",
            )
        ],
        "no other member answers",
        "health",
    ),
    (
        "firewall",
        [
            zap("warn", PROBER, "dial tcp 10.0.0.3:2380: i/o timeout", **{"remote-peer-id": "2e54"}),
            zap("warn", PROBER, "dial tcp 10.0.0.2:2380: i/o timeout", **{"remote-peer-id": "fd37"}),
        ],
        "packets to 10.0.0.3:2380, 10.0.0.2:2380 are lost",
        "`check`",
    ),
    (
        "others down",
        [
            zap(
                "warn",
                PROBER,
                "dial tcp 10.0.0.3:2380: connect: connection refused",
                **{"remote-peer-id": "ca98"},
            ),
            zap(
                "warn", "failed to publish local member to cluster through raft", "context deadline exceeded"
            ),
        ],
        "nothing listens on 10.0.0.3:2380",
        "logs",
    ),
    (
        "no leader",
        [zap("warn", "failed to publish local member to cluster through raft", "context deadline exceeded")],
        "there is no leader",
        "health",
    ),
]

# What systemd 252 wrote of the unit.
SYSTEMD: list[tuple[str, Sequence[str], str, str]] = [
    (
        "no binary",
        [
            "etcd.service: Failed to locate executable /usr/local/bin/etcd: No such file or directory",
            "etcd.service: Failed at step EXEC spawning /usr/local/bin/etcd: No such file or directory",
            "etcd.service: Main process exited, code=exited, status=203/EXEC",
        ],
        "cannot run the etcd binary: No such file",
        "findmnt -T /usr/local/bin/etcd",
    ),
    (
        "noexec",
        ["etcd.service: Failed at step EXEC spawning /usr/local/bin/etcd: Permission denied"],
        "cannot run the etcd binary: Permission denied",
        "noexec",
    ),
    (
        "architecture",
        ["etcd.service: Failed to execute /usr/local/bin/etcd: Exec format error"],
        "another architecture",
        "file -L /usr/local/bin/etcd",
    ),
    (
        "user",
        ["etcd.service: Main process exited, code=exited, status=217/USER"],
        "does not exist",
        "creates the user",
    ),
    (
        "sandbox",
        [
            "etcd.service: Failed to set up mount namespacing: /run/systemd/unit-root/x: No such file or directory"
        ],
        "sandbox",
        "service: {ProtectSystem: null",
    ),
    (
        "wiped",
        [
            "etcd.service: Starting requested but asserts failed.",
            "Assertion failed for etcd.service - etcd member n1 of cluster pre.",
        ],
        "must never start",
        "n1 must be replaced",
    ),
    ("killed", ["etcd.service: Main process exited, code=killed, status=9/KILL"], "SIGKILL", "dmesg"),
    ("oom", ["etcd.service: Failed with result 'oom-kill'."], "out of memory", "more memory"),
    ("late", ["etcd.service: start operation timed out. Terminating."], "it was ready", "TimeoutStart"),
    (
        "filter",
        ["etcd.service: Main process exited, code=killed, status=31/SYS"],
        "system call filter",
        "SystemCallFilter: null",
    ),
]
