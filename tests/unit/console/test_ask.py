"""Questions and consent."""

import io
from dataclasses import replace
from typing import NoReturn

import pytest
from invoke.exceptions import Exit

from etcdctl_remote.command import reported
from etcdctl_remote.console.ask import Asker
from etcdctl_remote.errors import LeftAtQuestion, UsageError
from etcdctl_remote.secret import Secret
from tests.unit.console.streams import Terminal, files, terminals


def asker(answer: str) -> tuple[Asker, Terminal]:
    """Return somebody at a terminal who answers so, and what they see."""
    output, _, err = terminals(environ={"NO_COLOR": "1"})
    return Asker(output, Terminal(answer), lambda prompt: answer.strip()), err


@pytest.mark.parametrize(
    ("answer", "agreed"),
    [("y\n", True), ("YES\n", True), ("\n", False), ("n\n", False), ("yep\n", False), ("", False)],
)
def test_only_yes_is_yes(answer: str, agreed: bool) -> None:
    """Enter, Ctrl-D and a typing mistake all mean no."""
    asked, err = asker(answer)
    assert asked.confirm("Carry out these 14 steps?") is agreed
    assert err.getvalue().startswith("Carry out these 14 steps? [y/N]: ")


def test_ctrl_c_at_a_question_says_that_nothing_happened(capsys: pytest.CaptureFixture[str]) -> None:
    """It stays an interrupt, so that no frozen host is waited for."""

    class Pressed(Terminal):
        def readline(self, size: int | None = -1, /) -> NoReturn:
            raise KeyboardInterrupt

    asked, _ = asker("")
    with pytest.raises(LeftAtQuestion):
        replace(asked, stdin=Pressed("")).confirm("Go on?")
    with pytest.raises(Exit), reported("text", changes=True):
        raise LeftAtQuestion
    assert capsys.readouterr().err == "error: interrupted at the question; nothing was changed\n"


def test_an_abort_echoes_the_answer() -> None:
    """The person sees how the answer was understood, and that nothing happened."""
    asked, err = asker("yep\n")
    asked.confirm("Go on?")
    assert err.getvalue() == "Go on? [y/N]: aborted (the answer was 'yep'): nothing was changed\n"


def test_data_needs_the_clusters_name() -> None:
    """Neither `yes` nor another name will do."""
    for answer, agreed in (("demo\n", True), ("yes\n", False), ("demo2\n", False), ("", False)):
        asked, err = asker(answer)
        assert asked.typed("demo", "the data of demo is moved aside") is agreed
        assert err.getvalue().startswith(
            "warning: the data of demo is moved aside\nType the name of the cluster (demo) to continue: "
        )


def test_a_password_is_a_secret() -> None:
    """It comes back as a type that never shows itself."""
    asked, err = asker("hunter2\n")
    assert asked.password("sudo password for ops") == Secret(b"hunter2")
    assert "hunter2" not in err.getvalue()


@pytest.mark.parametrize("blind", ["stdin", "stderr"])
def test_without_a_terminal_the_flag_is_named(blind: str) -> None:
    """A pipe on either side: nobody is asked, nothing is read, the error says what to give."""
    output, _, _ = files() if blind == "stderr" else terminals()
    stdin = io.StringIO("y\n") if blind == "stdin" else Terminal("y\n")
    asked = Asker(output, stdin, lambda prompt: pytest.fail("asked for a password"))
    with pytest.raises(UsageError) as yes:
        asked.confirm("Carry out these 14 steps?")
    with pytest.raises(UsageError) as name:
        asked.typed("demo", "data is lost")
    with pytest.raises(UsageError) as password:
        asked.password("sudo password", hint="allow sudo without one")
    assert "--yes" in yes.value.hint
    assert yes.value.message == "Carry out these 14 steps? There is no terminal to ask on"
    assert name.value.message == "data is lost: there is no terminal to ask on"
    assert "--confirm demo" in name.value.hint
    assert password.value.hint == "allow sudo without one"
    assert stdin.tell() == 0
