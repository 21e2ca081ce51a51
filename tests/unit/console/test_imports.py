"""What the console loads: start-up time is part of every command."""

import subprocess
import sys

import pytest

HEAVY = ("rich", "paramiko", "fabric", "cryptography", "pydantic", "jinja2", "yaml")
MODULES = (
    "ask",
    "certificates",
    "clean",
    "failures",
    "history",
    "logs",
    "output",
    "plans",
    "progress",
    "quantities",
    "reports",
    "style",
    "tables",
)


@pytest.mark.parametrize("module", MODULES)
def test_nothing_heavy_is_imported(module: str) -> None:
    """All but the live display do without rich, and without anything of the floors' libraries."""
    assert loaded(f"import etcdctl_remote.console.{module}") == []


def test_a_run_without_a_terminal_never_loads_rich() -> None:
    """Lines, tables, plans and failures are shown in plain text by ourselves."""
    used = (
        "from etcdctl_remote.console import failures, output, plans, progress, tables\n"
        "from etcdctl_remote.errors import Failed\n"
        "from etcdctl_remote.plan.events import StageStarted\n"
        "from etcdctl_remote.plan.step import Plan\n"
        "out = output.Output(stdout=sys.stderr)\n"
        "with progress.progress(out) as tell: tell(StageStarted(1, 1, 'Install', ('n1',)))\n"
        "out.show(plans.PlanView(Plan('deploy')))\n"
        "out.result(tables.Table(('A',), (('b',),)), {})\n"
        "failures.show(out, Failed('no'))"
    )
    assert loaded(used) == []


def loaded(code: str) -> list[str]:
    """Run code in a fresh interpreter; return which of the heavy packages it loaded."""
    script = f"import sys\n{code}\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split()
