"""Dial from a node by its own bash: where SSH may not, or does not say why it could not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from ..remote.fleet import Fleet
from ..remote.host import Command, Host
from .ways import DIAL_SECONDS, Trial, Way

# Each argument is `number host port`: the kernel's own words, where SSH only says "failed".
_BY_HAND = r"""
exec 3<&0; life=$1; shift; wanted=$#
{
  for way do
    number=${way%% *} rest=${way#* }
    timeout "$life" bash -c 'if exec 4<>"/dev/tcp/$1/$2"; then echo open; exec sleep "$0" >/dev/null; fi' \
      "$life" "${rest% *}" "${rest##* }" 2>&1 </dev/null 3<&- |
      { read -r first; echo "$number ${first##*: }"; cat >/dev/null; } &
    pids="$pids $!"
  done
  timeout "$life" cat <&3 >/dev/null
} | {
  said=
  while read -r line; do
    said="$said|$line"; wanted=$((wanted - 1))
    if [ $wanted = 0 ]; then echo "$said"; fi
  done
}
"""


def look_again(
    fleet: Fleet, hosts: Mapping[str, Host], trials: Sequence[Trial], stack: ExitStack
) -> list[Trial]:
    """Dial what failed, or what sshd forbids, once more by the node's own bash: it tells why."""
    again = [trial for trial in trials if trial.outcome in ("refused", "unknown")]
    by_source = {name: [t for t in again if t.way.source == name] for name in {t.way.source for t in again}}

    def look(host: Host) -> dict[Way, str]:
        ways_ = [trial.way for trial in by_source[host.name]]
        args = [f"{number} {way.host} {way.port}" for number, way in enumerate(ways_)]
        held = host.hold(
            Command(
                _BY_HAND, (f"{DIAL_SECONDS + 1:g}", *args), about="dial", root=False, writes=False, timeout=10
            )
        )
        stack.callback(held.close)
        said = (entry.partition(" ") for entry in held.first_line.split("|")[1:])
        return {ways_[int(number)]: text for number, _, text in said}

    if not again:
        return list(trials)
    found = fleet.spread({name: hosts[name] for name in by_source}, look)
    seen = {
        way: text for answer in found.values() if isinstance(answer, dict) for way, text in answer.items()
    }
    return [judge(trial, seen.get(trial.way)) if trial in again else trial for trial in trials]


def judge(trial: Trial, said: str | None) -> Trial:
    """Put what bash said beside what SSH said. Empty: it was still trying when its time was up."""
    if said is None or "not found" in said:
        return trial
    if said == "open":
        return Trial(trial.way, "tcp", trial.seen)
    if said == "":
        return Trial(trial.way, "lost", f"no answer in {DIAL_SECONDS:g} s")
    return Trial(trial.way, "refused", said)
