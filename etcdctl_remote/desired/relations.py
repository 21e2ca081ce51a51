"""Settings that are fine alone and wrong, or unwise, together: what etcd checks at start."""

from __future__ import annotations

from collections.abc import Mapping

from .settings import Complaint


def relations(merged: Mapping[str, str]) -> list[Complaint]:
    """List what etcd refuses at start because two settings do not fit each other."""
    found = []
    beat, election = (
        _number(merged.get(name, ""), otherwise)
        for name, otherwise in (("heartbeat-interval", 100), ("election-timeout", 1000))
    )
    if beat == 0:
        found.append(Complaint("heartbeat-interval", "0 is refused by etcd; expected at least 1 (ms)"))
    if election < 5 * beat:
        flag = "election-timeout" if "election-timeout" in merged else "heartbeat-interval"
        text = (
            f"`election-timeout` {election} is less than 5 heartbeats of {beat}; expected at least {5 * beat}"
        )
        found.append(Complaint(flag, text))
    if election > 50_000:
        found.append(Complaint("election-timeout", f"{election} ms is too long; expected at most 50000"))
    low, high = merged.get("tls-min-version", ""), merged.get("tls-max-version", "")
    if low == "TLS1.3" and merged.get("cipher-suites"):
        text = "TLS 1.3 suites cannot be chosen; expected no `cipher-suites` with `tls-min-version: TLS1.3`"
        found.append(Complaint("cipher-suites", text))
    if high and low > high:
        found.append(Complaint("tls-max-version", f"{high} is below `tls-min-version` {low}"))
    kept = merged.get("auto-compaction-retention", "")
    if merged.get("auto-compaction-mode") == "revision" and kept and not kept.isdigit():
        text = f"revision goes with a number of revisions; expected one as `auto-compaction-retention`, not {kept}"
        found.append(Complaint("auto-compaction-mode", text))
    return found + _cautions(merged)


def _cautions(merged: Mapping[str, str]) -> list[Complaint]:
    found = {
        "unsafe-no-fsync": ("true", "loses data in a power cut; only for clusters that may be lost"),
        "strict-reconfig-check": ("false", "lets a membership change destroy the quorum"),
        "enable-v2": ("true", "writes data that etcd 3.6 refuses to start with"),
    }
    said = [
        Complaint(name, f"`{name}: {value}` {what}", warning=True)
        for name, (value, what) in found.items()
        if merged.get(name) == value
    ]
    if _number(merged.get("quota-backend-bytes", ""), 0) > 8 * 2**30:
        said.append(Complaint("quota-backend-bytes", "more than 8 GiB is slow to recover", warning=True))
    return said


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdigit() else otherwise
