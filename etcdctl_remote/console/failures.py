"""Show what went wrong: what was seen, on which hosts, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import Problem
from .clean import clean
from .output import Output
from .style import Paint, plain


@dataclass(frozen=True)
class Failure:
    """A problem to be shown."""

    problem: Problem

    def text(self, paint: Paint = plain, width: int | None = None) -> str:
        """Render the message, one line a host, and the way out."""
        lines = [f"{paint('error:', 'red')} {_indented(self.problem.message, '  ')}"]
        for host, seen in self.problem.hosts.items():
            lines.append(f"  {paint(host, 'cyan')}: {_indented(seen, '    ')}")
        if self.problem.hint:
            lines.append(paint(f"  → {_indented(self.problem.hint, '    ')}", "yellow"))
        return "\n".join(lines)


def show(output: Output, problem: Problem) -> None:
    """Write the failure for the person and, with JSON, as the run's document."""
    output.inform(Failure(problem))
    if output.format == "json" and not output.documented:
        output.result("", document(problem))


def document(problem: Problem) -> dict[str, object]:
    """Return the JSON shape of an error."""
    return {
        "error": clean(problem.message),
        "hint": clean(problem.hint),
        "hosts": {host: clean(seen) for host, seen in problem.by_host.items()},
    }


def _indented(text: str, by: str) -> str:
    return f"\n{by}".join(clean(text).strip().splitlines())
