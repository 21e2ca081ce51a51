"""The live display: the stage, one line a node, and what is being waited for.

Finished stages scroll away above it as plain lines. If the run ends well the display
vanishes; if it does not, its last state stays on the screen. This is the only module that
imports rich, and it is loaded only where a person watches.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ..plan.events import Event, StageStarted, StepDone, StepFailed, StepStarted, Transferred, Waiting
from .clean import one_line
from .output import Output
from .quantities import seconds, size

FRAMES = 10
"""Redraws a second: smooth enough for a spinner, and about 1 % of a core."""

BAR = 14
"""Cells of a transfer's bar: on 80 columns the step and the figures need the rest."""

_MARKS = {"idle": ("·", "dim"), "done": ("✓", "green"), "failed": ("✗", "red")}


@dataclass
class Node:
    """What one node is doing."""

    name: str
    state: str = "idle"
    """`idle`, `running`, `done` or `failed`."""
    step: str = ""
    began: float = 0.0
    took: float = 0.0
    done: int = 0
    total: int = 0

    def speed(self, now: float) -> float:
        """Bytes a second since the step began."""
        return self.done / max(now - self.began, 1e-3)


class Live:
    """A listener that redraws itself. Safe to call from several threads.

    It takes the terminal with the first stage, not before: until then the plan is shown and
    questions are asked, and a redraw would wipe the line the person types on.
    """

    def __init__(
        self,
        output: Output,
        monotonic: Callable[[], float] = time.monotonic,
        width: int | None = None,
    ) -> None:
        self._output, self._monotonic = output, monotonic
        self._lock = threading.Lock()
        self._stage: StageStarted | None = None
        self._began = 0.0
        self._nodes: dict[str, Node] = {}
        self._reason = ""
        self._spinner = Spinner("dots", style="cyan")
        self._console = Console(
            file=output.stderr,
            force_terminal=True,
            no_color=bool(output.environ.get("NO_COLOR")),
            highlight=False,
            markup=False,
            emoji=False,
            width=width,
        )
        self._screen = Screen(
            console=self._console,
            get_renderable=self.frame,
            refresh_per_second=FRAMES,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(kept=kind is not None)

    def close(self, *, kept: bool = True) -> None:
        """Stop drawing and give the cursor back; a second call does nothing.

        `kept` leaves the last state on the screen.
        """
        if not self._screen.is_started:
            return
        if not kept:
            self._finish_stage()
        self._screen.transient = not kept
        self._output.above = None
        self._screen.stop()

    def __call__(self, event: Event) -> None:
        """Take note of an event; the next frame shows it."""
        if isinstance(event, StageStarted):
            self._finish_stage()
        with self._lock:
            self._take(event)
        if isinstance(event, StageStarted):
            self._open()

    def _open(self) -> None:
        """Start to draw; starting again does nothing."""
        self._screen.start()
        self._output.above = self._above

    def _take(self, event: Event) -> None:
        now = self._monotonic()
        match event:
            case StageStarted():
                self._stage, self._began, self._reason = event, now, ""
                self._nodes = {host: Node(host) for host in event.hosts}
            case StepStarted(host, step):
                self._nodes[host] = Node(host, "running", one_line(step), began=now)
            case StepDone(host, step, took):
                self._nodes[host] = Node(host, "done", one_line(step), took=took)
            case StepFailed(host, step, error):
                self._nodes[host] = Node(host, "failed", one_line(f"{step}: {error}"))
            case Transferred(host, done, total):
                node = self._nodes.setdefault(host, Node(host, "running", began=now))
                node.done, node.total = done, total
            case Waiting(reason):
                self._reason = one_line(reason)

    def _finish_stage(self) -> None:
        """Move the finished stage above the display, as one line."""
        with self._lock:
            stage, self._stage = self._stage, None
            nodes, self._nodes, self._reason = tuple(self._nodes), {}, ""
            took = self._monotonic() - self._began
        if stage:
            line = f"[{stage.number}/{stage.total}] {one_line(stage.title)}"
            self._console.print(
                Text.assemble(("✓ ", "green"), f"{line} ({' '.join(nodes)}, {seconds(took)})")
            )

    def _above(self, text: str) -> None:
        self._console.print(Text.from_ansi(text), soft_wrap=True)

    def frame(self) -> RenderableType:
        """Render the present state."""
        with self._lock:
            if self._stage is None:
                return Text("")
            now = self._monotonic()
            title = f"[{self._stage.number}/{self._stage.total}] {one_line(self._stage.title)}"
            parts: list[RenderableType] = [
                Text.assemble((title, "bold"), (f"  {seconds(now - self._began)}", "dim"))
            ]
            parts.append(self._table(now))
            if self._reason:
                parts.append(Text(f"  waiting: {self._reason}", "yellow"))
            return Group(*parts)

    def _table(self, now: float) -> Table:
        moving = any(node.state == "running" and node.total for node in self._nodes.values())
        table = Table.grid(padding=(0, 1))
        for width in (1, None, None, *((BAR,) if moving else ()), None):
            table.add_column(width=width, no_wrap=True, overflow="ellipsis")
        for node in self._nodes.values():
            mark = self._spinner if node.state == "running" else Text(*_MARKS[node.state])
            bar = (_bar(node),) if moving else ()
            table.add_row(mark, Text(node.name, "cyan"), Text(node.step), *bar, _figures(node, now))
        return table


def _bar(node: Node) -> RenderableType:
    if node.state != "running" or not node.total:
        return ""
    return ProgressBar(total=node.total, completed=node.done, width=BAR)


def _figures(node: Node, now: float) -> Text:
    """Say how far a transfer is and how fast, or how long a finished step took."""
    if node.state == "done":
        return Text(seconds(node.took), "dim")
    if node.state != "running" or not node.total:
        return Text("")
    return Text(f"{size(node.done)} of {size(node.total)}, {size(node.speed(now))}/s", "dim")
