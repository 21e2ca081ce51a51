"""Why an etcd does not start: what stands in its journal, what it means, what helps.

Data only. Every pattern was taken from what etcd 3.4 to 3.7 and systemd really write.
The order is the order of telling: a line above explains more than one below, and the
first that matches is the cause shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """One line of a journal that we know. Groups of `pattern` and `{node}` fill both texts."""

    pattern: re.Pattern[str]
    """Looked for in "msg: error" of etcd's JSON, or in the plain text of other lines."""
    means: str
    fix: str


def _cause(pattern: str, means: str, fix: str) -> Cause:
    return Cause(re.compile(pattern), means, fix)


KNOWN: tuple[Cause, ...] = (
    # -- the unit and its surroundings ------------------------------------------------------------
    _cause(
        r"(?:Assertion failed|Starting requested but asserts failed|AssertPathExists=\S+ was not met)",
        "the member's marker is there but its data directory is not: a member without its data must never start",
        "if its disk is only not mounted, mount it; else {node} must be replaced, not started",
    ),
    _cause(
        r"(?:Failed to execute|Failed at step EXEC spawning)(?: command)? ?(?P<path>/\S+?)?:? ?(?P<why>Exec format error)",
        "the etcd binary is for another architecture than the host",
        "see `uname -m` and `file -L {path}` on {node}; then deploy again",
    ),
    _cause(
        r"Unable to locate executable '(?P<path>[^']+)': (?P<why>.+)"
        r"|(?:Failed to execute|Failed at step EXEC spawning)(?: command)? ?(?P<path2>/\S+?)?: (?P<why2>.+)",
        "systemd cannot run the etcd binary: {why}",
        "`ls -lL {path}` and `findmnt -T {path}` (noexec?) on {node}, `ausearch -m avc` if SELinux enforces; "
        "then deploy again",
    ),
    _cause(
        r"status=203/EXEC",
        "systemd cannot run the etcd binary",
        "see the line before it in `logs --node {node}`",
    ),
    _cause(
        r"Failed to set up mount namespacing: (?P<why>.+)|status=226/NAMESPACE",
        "the host cannot give the unit its sandbox (or a directory it names is missing): {why}",
        "a container without mount namespaces: set `service: {{ProtectSystem: null, PrivateTmp: null, PrivateDevices: null, "
        "ProtectHome: null, ProtectKernelTunables: null, ProtectControlGroups: null}}`",
    ),
    _cause(
        r"Failed to adjust resource limit (?P<limit>\S+):|(?P<limit2>LIMITS) spawning|status=205/LIMITS",
        "the host does not let the unit raise its limits ({limit})",
        "lower it in the inventory: `service: {{LimitNOFILE: 20000}}`, or raise the container's own limit",
    ),
    _cause(
        r"Failed to (?:adjust OOM setting|set OOM score)|OOM_ADJUST spawning|status=206/OOM_ADJUST",
        "the host does not let the unit lower its OOM score",
        "set `service: {{OOMScoreAdjust: 0}}` in the inventory",
    ),
    _cause(
        r"NICE spawning|status=201/NICE",
        "the host does not let the unit raise its priority",
        "set `service: {{Nice: 0}}` in the inventory",
    ),
    _cause(
        r"(?:Failed to determine user credentials|status=217/USER|USER spawning)",
        "the user etcd runs as does not exist",
        "deploy again: it creates the user",
    ),
    _cause(
        r"A process of this unit has been killed by the OOM killer|Failed with result 'oom-kill'",
        "the kernel killed etcd: the host is out of memory, or the unit has reached its own MemoryMax",
        "raise `MemoryMax` under `service` in the inventory, if it is set (`systemctl show -p MemoryMax etcd` on {node}); "
        "else give {node} more memory, or stop what eats it (`dmesg | grep -i oom`)",
    ),
    _cause(
        r"code=killed, status=9/KILL",
        "etcd was killed (SIGKILL): out of memory, or by hand",
        "`dmesg | grep -i oom` on {node}; give it more memory, or stop what eats it",
    ),
    _cause(
        r"status=31/SYS",
        "the unit's system call filter stopped etcd",
        "set `service: {{SystemCallFilter: null}}` in the inventory, and report it",
    ),
    # -- flags --------------------------------------------------------------------------------------
    _cause(
        r"flag provided but not defined: -(?P<flag>\S+)",
        "this etcd does not know the flag --{flag}",
        "take `{flag}` out of `settings`, or deploy the release that knows it",
    ),
    _cause(
        r"unexpected TLS cipher suite (?P<value>\S+)",
        "this etcd does not know the cipher suite {value}",
        "mend `settings.cipher-suites` in the inventory",
    ),
    _cause(
        r'invalid (?:boolean )?value "(?P<value>[^"]*)" for (?:flag )?-?(?P<flag>[\w-]+): (?P<why>.+)',
        "--{flag} cannot be {value}: {why}",
        "mend `settings.{flag}` in the inventory",
    ),
    _cause(
        r"error parsing CompactionRetention: (?P<why>.+)",
        "--auto-compaction-retention cannot be read: {why}",
        "mend `settings.auto-compaction-retention` in the inventory (`1h`, or a number), then run the task again",
    ),
    _cause(
        r"panic: unrecognized level: \"(?P<value>[^\"]*)\"",
        "--log-level cannot be {value}",
        "mend `settings.log-level` in the inventory, then run the task again",
    ),
    _cause(
        r"failed to verify flags: (?P<why>.+)|(?:error verifying flags|unexpected error setting up etcd), (?P<why2>.+)",
        "etcd refuses its settings: {why}",
        "mend `settings` in the inventory",
    ),
    # -- identity and data ------------------------------------------------------------------------
    _cause(
        r"member (?P<id>[0-9a-f]+) has already been bootstrapped",
        "the cluster knows this member already, but its data directory is empty: it was wiped or not mounted",
        "if its disk is only not mounted, mount it; else replace the member: remove it, then add it as a new one",
    ),
    _cause(
        r"tocommit\((?P<index>\d+)\) is out of range \[lastIndex\((?P<last>\d+)\)\]",
        "its data directory lacks entries that this member acknowledged ({last} of {index}): it was wiped or put back "
        "from an old copy",
        "never start it again under its old identity: remove the member, then add it as a new one with an empty directory",
    ),
    _cause(
        r"(?:the member has been permanently removed from the cluster|data-dir used by this member must be removed)",
        "this member was removed from the cluster for good",
        "take {node} out of the inventory, or add it again as a new member with an empty data directory",
    ),
    _cause(
        r"cluster ID mismatch",
        "it and the other members were started as different clusters (another token or other peer URLs)",
        "find the odd one with `status`; if {node} never held data worth keeping: `destroy` it, then deploy again",
    ),
    _cause(
        r"(?:error validating peerURLs|member count is unequal|unmatched member while checking PeerURLs)(?P<why>.*)",
        "the member list of the running cluster is not the one in its unit{why}",
        "compare `etcdctl -c 'member list'` with the inventory; membership is changed by add-node and remove-node",
    ),
    _cause(
        r"couldn't find local name \"(?P<name>[^\"]+)\" in the initial cluster|--initial-cluster (?:must|has) (?P<why>.+)"
        r"|--initial-advertise-peer-urls.* has \S+ but missing",
        "initial-cluster does not name this member with its own peer URL",
        "an override in etcd.service.d? `systemctl cat etcd` on {node}",
    ),
    _cause(
        r"cannot fetch cluster info from peer urls",
        "no other member answers it",
        "see what the others say: `health`, `logs`; at least one must answer on its peer port before {node} can start",
    ),
    _cause(
        r"(?:crc mismatch|walpb: crc|wal: (?:file not found|slice bounds|max entry size)"
        r"|failed to (?:read WAL|open WAL|repair WAL)"
        r"|snap: (?:crc|corrupted)|failed to recover v3 backend|file corrupt|invalid database|index out of range.*bbolt)",
        "its data directory is damaged",
        "do not repair by hand: with the others healthy, replace the member; keep the directory until then",
    ),
    _cause(
        r"(?:no space left on device|disk quota exceeded)",
        "the disk is full",
        "`df -h` on {node}; free space, then run the task again",
    ),
    _cause(
        r"mvcc: database space exceeded|alarm:NOSPACE",
        "the database has reached its quota: reads work, writes do not",
        "compact, defragment each member, disarm the alarm; or raise `settings.quota-backend-bytes`",
    ),
    _cause(
        r"(?:failed to lock file|cannot access data directory|db file is flocked by another process|boltdb.*timeout)",
        "another etcd holds its data directory",
        "`ps -C etcd -o pid,args` on {node}: stop the other one",
    ),
    _cause(
        r"listen tcp (?P<address>\S+): bind: permission denied",
        "ports below 1024 are not for the user etcd",
        "choose other `ports`",
    ),
    _cause(
        r"open (?P<path>\S+): permission denied|(?P<path2>/\S+): permission denied"
        r"|cannot write to data directory|[Pp]ermission denied",
        "the user etcd may not read or write {path}",
        "`namei -l {path}` on {node}: data belongs to etcd:etcd 0700, keys to root:etcd 0640; then deploy again",
    ),
    # -- addresses ----------------------------------------------------------------------------------
    _cause(
        r"listen tcp (?P<address>\S+): bind: address already in use",
        "another process listens on {address}",
        "`ss -ltnp` on {node} names it: stop it, or choose other `ports`",
    ),
    _cause(
        r"listen tcp (?P<address>\S+): bind: cannot assign requested address",
        "{address} is no address of this host",
        "`ip addr` on {node}; mend `nodes.{node}` (address: what it binds; advertise: what others dial)",
    ),
    # -- certificates -------------------------------------------------------------------------------
    _cause(
        r"open (?P<path>\S+\.(?:crt|key|pem)): no such file or directory",
        "{path} is missing",
        "deploy again: it writes the certificates",
    ),
    _cause(
        r"private key does not match public key",
        "a certificate and its key do not belong together",
        "deploy again: it writes both",
    ),
    _cause(
        r"certificate has expired or is not yet valid: current time (?P<now>\S+) is before (?P<until>\S+)",
        "a certificate is valid only from {until}, and here it is {now}: a clock is wrong",
        "`timedatectl` on all nodes and on this machine; set the clocks by NTP, then run the task again",
    ),
    _cause(
        r"certificate has expired or is not yet valid: current time (?P<now>\S+) is after (?P<until>\S+)",
        "a certificate ended on {until}, and here it is {now}",
        "if the clock is right, deploy again: it renews what has expired",
    ),
    _cause(
        r"certificate is valid for (?P<valid>.+?), not (?P<wanted>[^\s\"')]+)",
        "a certificate is for {valid}, but the connection is with {wanted}",
        "another machine or process has this address, traffic is translated (NAT), or the certificate is old: add "
        "{wanted} to that node's `names` if it is its address, then deploy again",
    ),
    _cause(
        r"tls: \"?(?P<source>[0-9a-fA-F.:]+)\"? does not match any of DNSNames \[(?P<names>.*?)\]",
        "a peer dials from {source}, which its certificate ({names}) does not name: etcd turns it away",
        "NAT or another interface: add {source} to that node's `names` in the inventory, then deploy again; "
        "`check` names it",
    ),
    _cause(
        r"certificate signed by unknown authority|unknown certificate authority|unknown authority",
        "the members do not trust the same CA",
        "one of them still runs with the certificates of an earlier cluster: deploy again with the certs folder that is "
        "this cluster's; `check` shows which node",
    ),
    _cause(
        r"remote error: tls: bad certificate",
        "the other side does not accept this node's certificate",
        "the other node's journal says why: `logs`",
    ),
    _cause(
        r"start operation timed out|Failed with result 'timeout'",
        "systemd ended etcd before it was ready, which takes a quorum, and with a large database its time",
        "take TimeoutStartSec out of `service` in the inventory, or of the drop-in that sets it: ours is infinity",
    ),
    # -- no quorum ----------------------------------------------------------------------------------
    _cause(
        r"dial tcp (?P<peers>\S+): (?:i/o timeout|connect: no route to host|connect: connection timed out)",
        "packets to {peers} are lost or rejected: a firewall, or a wrong address",
        "open the peer port between all nodes; `check` tests every pair",
    ),
    _cause(
        r"dial tcp (?P<peers>\S+): connect: connection refused",
        "nothing listens on {peers} (those members are not up), or a firewall rejects it",
        "see why they are not up: `logs`, `health`; `check` tests the way",
    ),
    _cause(
        r"too many open files|file descriptor limit of etcd process is too low",
        "etcd has too few file descriptors",
        "raise `service: {{LimitNOFILE: …}}` in the inventory",
    ),
    _cause(
        r"etcdserver: no leader|failed to publish local member to cluster through raft|request timed out"
        r"|context deadline exceeded",
        "it runs, but there is no leader: too few members have joined",
        "the other nodes decide: `health`, `logs`",
    ),
)
