"""etcd's flags as the operator may set them, checked against what the wanted release knows.

etcd answers an unknown flag with a usage line and exit 2, after the node was already touched;
so the same verdict is reached here, from a table extracted from the sources of every release.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from . import versions
from .model import Version
from .owned import OWNED
from .suggest import meant

GATES = "feature-gates"
Value = object
"""What YAML gives for a setting: text, number, true/false, null, a list, or a map of gates."""


@dataclass(frozen=True)
class Flag:
    """One flag: since which patch of each line it exists, and what took its place."""

    name: str
    kind: str
    lines: Mapping[str, int]
    becomes: str | None = None
    gate: str | None = None
    choices: tuple[str, ...] = ()

    def known_to(self, version: Version) -> bool:
        """Whether this release has the flag."""
        return version.line in self.lines and version.patch >= self.lines[version.line]

    @property
    def successor(self) -> str:
        """The sentence that names what to write instead; empty if nothing took its place."""
        if self.gate:
            return f"write `{GATES}: {{{self.gate}: true}}`"
        return f"write `{self.becomes}`" if self.becomes else ""


@dataclass(frozen=True)
class Complaint:
    """Something wrong with one setting; a warning does not stop anything."""

    flag: str
    text: str
    warning: bool = False


@cache
def flags() -> dict[str, Flag]:
    """Return the table of every flag of every known line."""
    found = {}
    for name, entry in versions.table()["flags"].items():
        choices = tuple(entry.get("choices", ()))
        found[name] = Flag(
            name, entry["kind"], entry["lines"], entry.get("becomes"), entry.get("gate"), choices
        )
    return found


def gates(version: Version) -> tuple[str, ...]:
    """List the feature gates of this release; none before 3.6."""
    return tuple(versions.table()["gates"].get(version.line, ()))


def known(version: Version) -> tuple[str, ...]:
    """List the flags of this release, sorted."""
    return tuple(sorted(name for name, flag in flags().items() if flag.known_to(version)))


def defaults(version: Version) -> dict[str, str]:
    """Return what we set where the operator says nothing, with the reason beside each."""
    wish = {
        "logger": "zap",  # 3.4 still defaults to capnslog, which is unstructured
        "log-outputs": "stderr",  # the journal gets it; journald itself would drop on pressure
        "pre-vote": "true",  # 3.4 defaults to false: a node coming back would disturb the leader
        "auto-compaction-mode": "periodic",  # said, so that the next line means hours
        "auto-compaction-retention": "1h",  # off by default: history fills the quota one day;
        # Kubernetes compacts every 5 minutes by itself and loses nothing by this
        "tls-min-version": "TLS1.2",  # etcd's default today, pinned against a surprise
        "experimental-initial-corrupt-check": "true",  # a diverged member refuses to start
        "experimental-compact-hash-check-enabled": "true",  # cheap: one hash a compaction
    }
    # 3.6 knows the last two as feature gates too, and 3.7 only so: one spelling for both, so
    # that an upgrade from 3.6 to 3.7 changes no flag.
    checks = "CompactHashCheck=true,InitialCorruptCheck=true"
    if gates(version):
        wish = {name: value for name, value in wish.items() if not flags()[name].gate}
        wish[GATES] = checks
    return {name: value for name, value in wish.items() if flags()[name].known_to(version)}


def resolve(version: Version, *layers: Mapping[str, Value]) -> dict[str, str]:
    """Merge the layers over the defaults, later ones first: the flags of one node, as text.

    null takes a setting back to etcd's own default. Feature gates are merged gate by gate. An
    old spelling in a later layer replaces the new one of an earlier layer, and the reverse:
    etcd refuses to start when it sees both.
    """
    merged = defaults(version)
    on = split_gates(merged.pop(GATES, ""))
    for layer in layers:
        for name, value in layer.items():
            if name == GATES:
                on = {} if value is None else on | split_gates(value)
                continue
            for twin in _twins(name):
                merged.pop(twin, None)
                on.pop(twin, None)
            merged.pop(name, None)
            if value is not None:
                merged[name] = as_text(value)
    if on:
        merged[GATES] = ",".join(f"{gate}={state}" for gate, state in sorted(on.items()))
    return dict(sorted(merged.items()))


def check(settings: Mapping[str, Value], version: Version) -> list[Complaint]:
    """List everything wrong with the operator's settings for this release."""
    return [complaint for name, value in settings.items() for complaint in _check(name, value, version)] + [
        Complaint(name, f"`{name}` and `{twin}` are the same setting; expected only one of them")
        for name in settings
        for twin in _spellings(name, settings)
    ]


def as_text(value: Value) -> str:
    """Spell a YAML value as etcd reads it on the command line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(as_text(item) for item in value)
    if isinstance(value, Mapping):
        return ",".join(f"{key}={as_text(item)}" for key, item in sorted(value.items()))
    return str(value)


def split_gates(value: Value) -> dict[str, str]:
    """Read `A=true,B=false`, or a map, into gate and state."""
    pairs = (part.partition("=") for part in as_text(value).split(",") if part.strip())
    return {gate.strip(): state.strip() for gate, _, state in pairs}


DURATION = re.compile(
    r"0|[+-]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))*"
)
KINDS: dict[str, tuple[re.Pattern[str], str]] = {
    "bool": (re.compile("true|false"), "true or false"),
    "uint": (re.compile(r"\d{1,20}"), "a whole number, 0 or more"),
    "int": (re.compile(r"-?\d{1,19}"), "a whole number"),
    "duration": (DURATION, "a duration such as 500ms, 5m or 1h30m"),
    "retention": (
        re.compile(rf"[0-9]{{0,18}}|(?!-)(?:{DURATION.pattern})"),
        "hours (with mode revision: revisions) as a whole number, or a duration such as 30m",
    ),
}


def _check(name: str, value: Value, version: Version) -> Iterator[Complaint]:
    flag = flags().get(name)
    if name in OWNED:
        yield Complaint(name, f"`{name}` is set by this tool; {OWNED[name]}")
    elif flag is None:
        hint = meant(name, (other for other in known(version) if other not in OWNED), "a flag of etcd --help")
        yield Complaint(name, f"unknown etcd setting `{name}`; {hint}")
    elif not flag.known_to(version):
        yield Complaint(name, _absent(flag, version))
    elif value is not None:
        yield from _check_value(flag, value, version)
    if flag and name not in OWNED and flag.known_to(version):
        later = versions.after(version.line)
        if later and later not in flag.lines and (flag.becomes or flag.gate):
            text = f"`{name}` is deprecated, etcd {later} no longer has it; {flag.successor}"
            if flag.gate is None or gates(version):
                yield Complaint(name, text, warning=True)


def _check_value(flag: Flag, value: Value, version: Version) -> Iterator[Complaint]:
    if flag.kind == "gates":
        yield from _check_gates(value, version)
        return
    nested = isinstance(value, list) and any(isinstance(item, list | Mapping) for item in value)
    if isinstance(value, Mapping) or nested or (isinstance(value, list) and flag.kind != "list"):
        yield Complaint(flag.name, f"`{flag.name}` takes one value; expected text or a number")
        return
    text = as_text(value)
    pattern, expected = KINDS.get(flag.kind, (re.compile(r"[^\x00-\x1f\x7f]*"), "one line of text"))
    if not pattern.fullmatch(text):
        yield Complaint(flag.name, f"`{flag.name}` is {text!r}; expected {expected}")
    elif flag.choices and text and text not in flag.choices:
        yield Complaint(flag.name, f"`{flag.name}` is {text!r}; expected {' or '.join(flag.choices)}")
    elif flag.name == "logger" and text == "capnslog" and version.line != "3.4":
        yield Complaint(flag.name, "capnslog was removed in 3.5; expected zap")


def _check_gates(value: Value, version: Version) -> Iterator[Complaint]:
    for gate, state in split_gates(value).items():
        if gate not in gates(version):
            hint = meant(gate, gates(version), f"one of {', '.join(gates(version))}")
            yield Complaint(GATES, f"etcd {version.line} has no feature gate `{gate}`; {hint}")
        elif state not in ("true", "false"):
            yield Complaint(GATES, f"feature gate `{gate}` is {state!r}; expected true or false")


def _absent(flag: Flag, version: Version) -> str:
    """Say why this release does not have the flag: removed before, or not yet there."""
    lines = [line for line in versions.lines() if line in flag.lines]
    if version.line in flag.lines:
        return f"`{flag.name}` needs etcd {version.line}.{flag.lines[version.line]} or newer, not {version}"
    earlier = [line for line in lines if (3, int(line.split(".")[1])) < (version.major, version.minor)]
    if earlier:
        gone = versions.after(earlier[-1])
        return f"`{flag.name}` was removed in etcd {gone}; {flag.successor or 'expected it to be left out'}"
    older = [f"`{other.name}`" for other in _ancestors(flag.name) if other.known_to(version)]
    instead = f"; {version.line} calls it {older[0]}" if older else "; expected it to be left out"
    return f"`{flag.name}` appears in etcd {lines[0]}, {version} does not have it{instead}"


def _ancestors(name: str) -> list[Flag]:
    return [flag for flag in flags().values() if flag.becomes == name]


def _twins(name: str) -> list[str]:
    """Other spellings of one setting: the old or the new flag, the feature gate."""
    flag = flags().get(name)
    own = [word for word in (flag.becomes, flag.gate) if word] if flag else []
    return own + [other.name for other in _ancestors(name)]


def _spellings(name: str, settings: Mapping[str, Value]) -> list[str]:
    """Later spellings of `name` that the same layer sets as well."""
    flag = flags().get(name)
    if flag is None or settings[name] is None:
        return []
    found = [flag.becomes] if flag.becomes and settings.get(flag.becomes) is not None else []
    if flag.gate and flag.gate in split_gates(settings.get(GATES) or ""):
        found.append(f"{GATES}: {flag.gate}")
    return found
