"""The plan, as text and as a document: what `plan`, a dry run and the question show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..plan.step import Plan, Stage, Step
from .clean import clean, one_line
from .style import Paint, plain

SHORT = 12
"""Changed lines: a diff up to this long is shown in the question too, a longer one counted."""

_STYLES = {"+": "green", "-": "red", "@": "cyan"}


@dataclass(frozen=True)
class Change:
    """One step on all the hosts where it is the same."""

    hosts: tuple[str, ...]
    title: str
    diff: str
    size: str
    """`+12 −1`; empty without a diff of lines."""


@dataclass(frozen=True)
class PlanView:
    """A plan to be shown; `diffs` False leaves out new files and long changes."""

    plan: Plan
    diffs: bool = True

    def text(self, paint: Paint = plain, width: int | None = None) -> str:
        """Render the title, the notes, the stages, and how many changes there are."""
        lines = [paint(one_line(self.plan.title), "bold")]
        lines += [paint(f"note: {one_line(note)}", "yellow") for note in self.plan.notes]
        stages = [stage for stage in self.plan.stages if stage.steps]
        for number, stage in enumerate(stages, 1):
            lines += ["", paint(f"{number}. {one_line(stage.title)}", "bold")]
            lines += self._stage(stage, paint)
        return "\n".join([*lines, *([""] if stages else []), summary(self.plan)])

    def _stage(self, stage: Stage, paint: Paint) -> Iterator[str]:
        changes = grouped(stage.steps, whole=self.diffs)
        column = max(len(" ".join(change.hosts)) for change in changes)
        for change in changes:
            hosts = " ".join(change.hosts).ljust(column)
            size = f"  {paint(change.size, 'dim')}" if change.size else ""
            yield f"   {paint(hosts, 'cyan')}  {change.title}{size}"
            if self.diffs or _worth_asking_about(change.diff):
                yield from (f"       {_painted(line, paint)}" for line in change.diff.splitlines())


def text(plan: Plan, paint: Paint = plain, *, diffs: bool = True) -> str:
    """Render a plan; without `diffs` the short form, for the question before a deploy."""
    return PlanView(plan, diffs).text(paint)


def summary(plan: Plan) -> str:
    """Say how much there is to do."""
    if not plan and plan.incomplete:
        return "nothing to do, but not every member serves"
    if not plan:
        return "nothing to do: every host is as the inventory says"
    hosts = {step.host for stage in plan.stages for step in stage.steps}
    return f"{_many(plan.changes, 'change')} on {_many(len(hosts), 'host')}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def document(plan: Plan) -> dict[str, object]:
    """Return the JSON shape of `plan` and `--dry-run`."""
    stages = [
        {
            "title": stage.title,
            "steps": [{"host": step.host, "step": str(step), "diff": step.diff} for step in stage.steps],
        }
        for stage in plan.stages
        if stage.steps
    ]
    found = {"changes": plan.changes, "notes": list(plan.notes), "stages": stages}
    return found | ({"incomplete": True} if plan.incomplete else {})


def grouped(steps: Iterable[Step], *, whole: bool) -> tuple[Change, ...]:
    """Fold equal steps of several hosts into one, in the order of their first mention.

    Equal means the same title, and the same diff where the diff is shown, else the same
    number of lines: files that differ only in the node's own address are one line then.
    """
    found: dict[tuple[str, str], list[Step]] = {}
    for step in steps:
        diff = step.diff if whole or _worth_asking_about(step.diff) else counts(step.diff)
        found.setdefault((one_line(str(step)), diff), []).append(step)
    return tuple(
        Change(
            hosts=tuple(dict.fromkeys(step.host for step in same)),
            title=title,
            diff=clean(same[0].diff),
            size=counts(same[0].diff),
        )
        for (title, _), same in found.items()
    )


def counts(diff: str) -> str:
    """Count the lines of a unified diff: `+12 −1`."""
    lines = _changed(diff)
    added = sum(line.startswith("+") for line in lines)
    removed = len(lines) - added
    return " ".join(part for part in (f"+{added}" * bool(added), f"−{removed}" * bool(removed)) if part)


def _changed(diff: str) -> list[str]:
    """Return the added and removed lines; a file's header comes in pairs, before its first @@."""
    lines = diff.splitlines()
    heads = {i for i, line in enumerate(lines) if _heads(lines, i)}
    return [line for i, line in enumerate(lines) if line[:1] in ("+", "-") and i not in heads]


def _heads(lines: list[str], at: int) -> bool:
    """Whether a line is one of the two `---`, `+++` right above a hunk."""
    first = at if lines[at].startswith("--- ") else at - 1
    three = lines[first : first + 3] if first >= 0 else []
    return len(three) == 3 and all(
        line.startswith(mark) for line, mark in zip(three, ("--- ", "+++ ", "@@ "), strict=True)
    )


def _worth_asking_about(diff: str) -> bool:
    """Whether the question shows it: a short change of a file that is there already."""
    hunks = [line for line in diff.splitlines() if line.startswith("@@ ")]
    return any(not hunk.startswith("@@ -0,0 ") for hunk in hunks) and len(_changed(diff)) <= SHORT


def _painted(line: str, paint: Paint) -> str:
    return paint(line, _STYLES.get(line[:1], "dim"))
