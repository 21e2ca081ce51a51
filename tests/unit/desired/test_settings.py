"""Settings are judged as the wanted release would judge them."""

from __future__ import annotations

import pytest

from etcdctl_remote.desired import settings, versions
from etcdctl_remote.desired.owned import OWNED
from etcdctl_remote.desired.relations import relations

LINES = [str(versions.newest(line)) for line in versions.lines()]


def errors(wish: dict[str, object], version: str) -> list[str]:
    return [one.text for one in settings.check(wish, versions.wanted(version)) if not one.warning]


def warnings(wish: dict[str, object], version: str) -> list[str]:
    return [one.text for one in settings.check(wish, versions.wanted(version)) if one.warning]


@pytest.mark.parametrize(
    ("wish", "version", "said"),
    [
        ({"enable-v2": True}, "3.6.14", "`enable-v2` was removed in etcd 3.6; expected it to be left out"),
        ({"debug": True}, "3.5.33", "`debug` was removed in etcd 3.5; write `log-level`"),
        ({"log-output": "x"}, "3.7.1", "`log-output` was removed in etcd 3.5; write `log-outputs`"),
        (
            {"experimental-corrupt-check-time": "1m"},
            "3.7.1",
            "`experimental-corrupt-check-time` was removed in etcd 3.7; write `corrupt-check-time`",
        ),
        (
            {"experimental-initial-corrupt-check": True},
            "3.7.1",
            "was removed in etcd 3.7; write `feature-gates: {InitialCorruptCheck: true}`",
        ),
        ({"max-learners": 2}, "3.5.33", "`max-learners` appears in etcd 3.6, 3.5.33 does not have it"),
        ({"compact-hash-check-time": "1m"}, "3.5.33", "3.5 calls it `experimental-compact-hash-check-time`"),
        ({"tls-min-version": "TLS1.2"}, "3.5.7", "`tls-min-version` needs etcd 3.5.8 or newer, not 3.5.7"),
        ({"tls-min-version": "TLS1.1"}, "3.6.14", "is 'TLS1.1'; expected TLS1.2 or TLS1.3"),
        ({"max_txn_ops": 3}, "3.6.14", "unknown etcd setting `max_txn_ops`; did you mean `max-txn-ops`?"),
        ({"frobnicate-the-quux": 3}, "3.6.14", "expected a flag of etcd --help"),
        ({"feature-gates": {"Nope": True}}, "3.6.14", "etcd 3.6 has no feature gate `Nope`; expected one of"),
        ({"feature-gates": "InitialCorruptChek=true"}, "3.6.14", "did you mean `InitialCorruptCheck`?"),
        ({"feature-gates": "CompactHashCheck=maybe"}, "3.6.14", "is 'maybe'; expected true or false"),
        (
            {"feature-gates": {"FastLeaseKeepAlive": True}},
            "3.6.14",
            "has no feature gate `FastLeaseKeepAlive`",
        ),
        ({"heartbeat-interval": "fast"}, "3.6.14", "`heartbeat-interval` is 'fast'; expected a whole number"),
        ({"pre-vote": "yes"}, "3.6.14", "`pre-vote` is 'yes'; expected true or false"),
        ({"auto-compaction-retention": "5:30"}, "3.6.14", "is '5:30'; expected hours"),
        ({"auto-compaction-retention": -1}, "3.6.14", "is '-1'; expected hours"),
        ({"auto-compaction-retention": "-5m"}, "3.6.14", "is '-5m'; expected hours"),
        ({"corrupt-check-time": 5}, "3.6.14", "`corrupt-check-time` is '5'; expected a duration"),
        ({"log-level": "loud"}, "3.6.14", "`log-level` is 'loud'; expected debug or info"),
        ({"auth-token": "a\nb"}, "3.6.14", "expected one line of text"),
        ({"auth-token": {"a": 1}}, "3.6.14", "`auth-token` takes one value"),
        ({"logger": "capnslog"}, "3.5.33", "capnslog was removed in 3.5; expected zap"),
        (
            {"memory-mlock": True, "experimental-memory-mlock": True},
            "3.6.14",
            "`experimental-memory-mlock` and `memory-mlock` are the same setting; expected only one",
        ),
        (
            {"experimental-compact-hash-check-enabled": True, "feature-gates": "CompactHashCheck=true"},
            "3.6.14",
            "`experimental-compact-hash-check-enabled` and `feature-gates: CompactHashCheck` are the same",
        ),
    ],
)
def test_what_this_release_would_refuse(wish: dict[str, object], version: str, said: str) -> None:
    """A refusal names the release that removed or brought the flag, and what to write."""
    assert any(said in text for text in errors(wish, version)), errors(wish, version)


@pytest.mark.parametrize(
    ("wish", "version"),
    [
        ({"enable-v2": False}, "3.5.33"),
        ({"debug": True}, "3.4.45"),
        ({"experimental-corrupt-check-time": "1h30m"}, "3.6.14"),
        ({"corrupt-check-time": "0"}, "3.7.1"),
        ({"logger": "capnslog"}, "3.4.45"),
        ({"cipher-suites": ["TLS_A", "TLS_B"]}, "3.6.14"),
        ({"quota-backend-bytes": -1}, "3.6.14"),
        ({"tls-max-version": ""}, "3.6.14"),
        ({"snapshot-count": None}, "3.6.14"),
        ({"max-learners": 2}, "3.6.99"),
    ],
)
def test_what_this_release_accepts(wish: dict[str, object], version: str) -> None:
    """Old flags on old releases, lists, negative quotas, null, a patch newer than we know."""
    assert errors(wish, version) == []


@pytest.mark.parametrize("flag", sorted(OWNED))
def test_the_flags_we_own_name_the_key_to_use(flag: str) -> None:
    """Each is a real flag, is refused in every release, and says what to write instead."""
    assert flag in settings.flags()
    for version in LINES:
        assert any(f"`{flag}` is set by this tool; expected" in text for text in errors({flag: "x"}, version))


def test_a_deprecated_flag_warns_before_it_is_removed() -> None:
    """3.6 still knows the experimental spellings; the next minor does not."""
    assert (
        "etcd 3.7 no longer has it; write `memory-mlock`"
        in warnings({"experimental-memory-mlock": True}, "3.6.14")[0]
    )
    assert warnings({"memory-mlock": True}, "3.6.14") == []


@pytest.mark.parametrize("version", LINES)
def test_our_defaults_are_known_to_each_release(version: str) -> None:
    """What we set by ourselves passes our own check, without a warning."""
    wish: dict[str, object] = dict(settings.defaults(versions.wanted(version)))
    assert settings.check(wish, versions.wanted(version)) == []
    assert relations(settings.resolve(versions.wanted(version))) == []


def test_corruption_checks_are_spelled_for_each_release() -> None:
    """A gate where gates exist, so that 3.6 → 3.7 changes no flag; the experimental flag before."""
    spelled = {version: settings.resolve(versions.wanted(version)) for version in LINES}
    gates = "CompactHashCheck=true,InitialCorruptCheck=true"
    assert spelled["3.6.14"]["feature-gates"] == gates
    assert spelled["3.6.14"] == spelled["3.7.1"]
    assert spelled["3.5.33"]["experimental-initial-corrupt-check"] == "true"
    assert spelled["3.5.33"]["experimental-compact-hash-check-enabled"] == "true"
    assert "feature-gates" not in spelled["3.5.33"]
    assert spelled["3.4.45"]["experimental-initial-corrupt-check"] == "true"
    assert "experimental-compact-hash-check-enabled" not in settings.resolve(versions.wanted("3.5.4"))


def test_an_old_spelling_replaces_our_new_one() -> None:
    """etcd refuses to start with a gate and its old flag: the operator's spelling stays alone."""
    got = settings.resolve(versions.wanted("3.6.14"), {"experimental-initial-corrupt-check": False})
    assert got["experimental-initial-corrupt-check"] == "false"
    assert got["feature-gates"] == "CompactHashCheck=true"


def test_a_later_layer_replaces_the_other_spelling() -> None:
    """A node that writes the new name overrides the old name of the cluster, and the reverse."""
    version = versions.wanted("3.6.14")
    got = settings.resolve(version, {"experimental-corrupt-check-time": "1m"}, {"corrupt-check-time": "2m"})
    assert (got.get("experimental-corrupt-check-time"), got["corrupt-check-time"]) == (None, "2m")
    got = settings.resolve(version, {"corrupt-check-time": "1m"}, {"experimental-corrupt-check-time": "2m"})
    assert (got.get("corrupt-check-time"), got["experimental-corrupt-check-time"]) == (None, "2m")


@pytest.mark.parametrize(
    ("merged", "flag"),
    [
        ({"heartbeat-interval": "300"}, "heartbeat-interval"),
        ({"heartbeat-interval": "300", "election-timeout": "1499"}, "election-timeout"),
        ({"heartbeat-interval": "300", "election-timeout": "1500"}, None),
        ({"election-timeout": "50001"}, "election-timeout"),
        ({"election-timeout": "50000"}, None),
        ({"heartbeat-interval": "0"}, "heartbeat-interval"),
        ({"tls-min-version": "TLS1.3", "cipher-suites": "X"}, "cipher-suites"),
        ({"tls-min-version": "TLS1.2", "cipher-suites": "X"}, None),
        ({"tls-min-version": "TLS1.3", "tls-max-version": "TLS1.2"}, "tls-max-version"),
        (
            {"auto-compaction-mode": "revision", "auto-compaction-retention": "1h"},
            "auto-compaction-mode",
        ),
        ({"auto-compaction-mode": "revision", "auto-compaction-retention": "1000"}, None),
        ({"auto-compaction-mode": "revision"}, None),
        ({"auto-compaction-mode": "periodic", "auto-compaction-retention": "1h"}, None),
    ],
)
def test_settings_that_do_not_fit_each_other(merged: dict[str, str], flag: str | None) -> None:
    """The relations that etcd itself checks at start are checked here."""
    assert [one.flag for one in relations(merged)] == ([flag] if flag else [])


def test_values_become_what_the_command_line_takes() -> None:
    """YAML's booleans, numbers, lists and maps are spelled as Go's flags read them."""
    values = (True, False, 7, 1.5, ["a", 1], {"B": False, "A": True}, "x")
    assert [settings.as_text(value) for value in values] == [
        "true",
        "false",
        "7",
        "1.5",
        "a,1",
        "A=true,B=false",
        "x",
    ]
