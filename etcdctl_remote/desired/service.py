"""Options of the unit's [Service] section: our defaults, and what an operator may change.

Every default can be replaced key by key (`service:` in the inventory); null removes one, a
list repeats the key. `ReadWritePaths`, `UnsetEnvironment` and `Environment` are added to ours,
never replaced: without ours etcd could not write, or would not start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from .settings import Complaint, Value, as_text
from .suggest import nearest

DEFAULTS: dict[str, tuple[str, ...]] = {
    # Not `always`: a member that was removed from the cluster ends with exit code 0, and would
    # come back every few seconds for ever. Every crash is a failure and does restart.
    "Restart": ("on-failure",),
    "RestartSec": ("5s",),
    # READY=1 needs quorum: a first start waits for the other nodes. The deadline is ours.
    "TimeoutStartSec": ("infinity",),
    "TimeoutStopSec": ("90s",),
    "LimitNOFILE": ("65536",),  # etcd keeps 150 for itself, every client connection takes one
    "OOMScoreAdjust": ("-900",),  # a killed member costs more than whatever else runs here
    "Nice": ("-10",),
    "IOSchedulingClass": ("best-effort",),  # realtime would starve the host (autobase does that)
    "IOSchedulingPriority": ("2",),
    "UMask": ("0077",),
    "CapabilityBoundingSet": ("",),  # etcd needs none
    "LockPersonality": ("true",),
    "NoNewPrivileges": ("true",),
    "PrivateDevices": ("true",),
    "PrivateTmp": ("true",),
    "ProtectClock": ("true",),
    "ProtectControlGroups": ("true",),
    "ProtectHome": ("true",),
    "ProtectHostname": ("true",),
    "ProtectKernelLogs": ("true",),
    "ProtectKernelModules": ("true",),
    "ProtectKernelTunables": ("true",),
    "ProtectSystem": ("strict",),  # the data and WAL directories are opened by ReadWritePaths
    "RestrictAddressFamilies": ("AF_INET AF_INET6 AF_NETLINK AF_UNIX",),  # netlink: Go lists interfaces
    "RestrictNamespaces": ("true",),
    "RestrictRealtime": ("true",),
    "RestrictSUIDSGID": ("true",),
    "SystemCallArchitectures": ("native",),
    "SystemCallFilter": ("@system-service",),
}

LINES = tuple(f"{key}={line}" for key, lines in DEFAULTS.items() for line in lines)
"""The defaults as they stand in the unit: an old systemd may not know each of them."""

ADDED = ("Environment", "ReadWritePaths", "UnsetEnvironment")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
"""Peer traffic would honour them (Go's ProxyFromEnvironment)."""
UNSET = tuple(sorted(name for proxy in PROXIES for name in (proxy, proxy.lower())))

OWNED: dict[str, str] = {
    "ExecStart": "expected `paths.bin`, `version` and `settings`",
    "Type": "expected it to be left out: etcd tells systemd when it is ready (notify)",
    "NotifyAccess": "expected it to be left out",
    "User": "expected the top-level `user`",
    "Group": "expected the top-level `user`: its group has the same name",
    "DynamicUser": "expected the top-level `user`",
    "EnvironmentFile": "expected `settings`: etcd refuses a setting given as flag and variable",
    "ExecReload": "expected it to be left out: etcd dies of SIGHUP, and re-reads certificates by itself",
    "WatchdogSec": "expected it to be left out: etcd sends no watchdog pings and would be killed",
    "RootDirectory": "expected it to be left out",
    "RootImage": "expected it to be left out",
}
_UNIT = (
    "After Before BindsTo Conflicts Description Documentation PartOf Requires RequiresMountsFor Upholds "
    "StartLimitAction StartLimitBurst StartLimitIntervalSec Wants"
)
UNIT = frozenset(_UNIT.split())
_COMMON = (
    "AmbientCapabilities AppArmorProfile BindPaths BindReadOnlyPaths CPUAffinity CPUQuota CPUWeight "
    "CPUSchedulingPolicy CPUSchedulingPriority ExecStartPost ExecStartPre ExecStop ExecStopPost "
    "FinalKillSignal InaccessiblePaths IOAccounting IOReadBandwidthMax IOWeight IOWriteBandwidthMax "
    "IPAddressAllow IPAddressDeny KeyringMode KillMode KillSignal LimitCORE LimitMEMLOCK LimitNPROC "
    "LogRateLimitBurst LogRateLimitIntervalSec LogsDirectory MemoryDenyWriteExecute MemoryHigh MemoryLow "
    "MemoryMax MemoryMin MemorySwapMax NUMAMask NUMAPolicy OOMPolicy PrivateMounts PrivateNetwork "
    "PrivateUsers ProcSubset ProtectProc ReadOnlyPaths RemainAfterExit RestartForceExitStatus "
    "RestartMaxDelaySec RestartPreventExitStatus RestartSteps RuntimeDirectory RuntimeMaxSec "
    "SELinuxContext SendSIGKILL Slice StandardError StandardOutput StateDirectory SuccessExitStatus "
    "SyslogIdentifier TasksMax TemporaryFileSystem TimeoutAbortSec TimeoutSec WorkingDirectory"
)
COMMON = frozenset(_COMMON.split())
"""Options one may meet beside the defaults; only to tell a typing mistake from a rare option."""


def resolve(wish: Mapping[str, Value]) -> dict[str, tuple[str, ...]]:
    """Merge the operator's options over the defaults; every value as lines of text."""
    merged: dict[str, tuple[str, ...]] = dict(DEFAULTS)
    for key, value in wish.items():
        merged.pop(key, None)
        if value is not None:
            merged[key] = _lines(value)
    return dict(sorted(merged.items()))


def check(wish: Mapping[str, Value]) -> list[Complaint]:
    """List everything wrong with the operator's options."""
    return [complaint for key, value in wish.items() for complaint in _check(key, value)]


def _check(key: str, value: Value) -> Iterator[Complaint]:
    if key in OWNED:
        yield Complaint(key, f"`{key}` is set by this tool; {OWNED[key]}")
    elif key in UNIT or key.startswith(("Assert", "Condition")):
        text = f"`{key}` belongs to [Unit], not [Service]; expected it in a drop-in of etcd.service.d"
        yield Complaint(key, text)
    elif not re.fullmatch(r"[A-Z][A-Za-z0-9]*", key):
        yield Complaint(key, f"`{key}` is not an option of systemd; expected a name such as LimitNOFILE")
    elif key not in DEFAULTS and key not in ADDED and key not in COMMON:
        near = nearest(key, [*DEFAULTS, *ADDED, *COMMON])
        if near:
            yield Complaint(key, f"`{key}` is unusual; did you mean `{near}`?", warning=True)
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, Mapping | list) for item in items):
        yield Complaint(
            key, f"`{key}` is a map or a nested list; expected text, a number, or a list of those"
        )
    for line in _lines(value):
        if any(ord(char) < 32 or ord(char) == 127 for char in line):
            yield Complaint(key, f"`{key}` has a control character; expected one line (a list repeats it)")
        if key == "Environment" and re.search(r"""(^|[\s"'])ETCD(CTL_REMOTE)?_""", line):
            yield Complaint(key, "ETCD_… variables clash with flags; expected the setting under `settings`")


def _lines(value: Value) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(as_text(item) for item in value) if isinstance(value, list | tuple) else (as_text(value),)
