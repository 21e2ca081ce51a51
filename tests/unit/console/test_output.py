"""The two streams."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading

from etcdctl_remote.console.output import Output
from etcdctl_remote.console.tables import Cell, Table
from tests.unit.console.streams import files, terminals


def test_text_goes_where_a_pipe_expects_it() -> None:
    """Results on standard output; notes and warnings on standard error."""
    output, out, err = files()
    output.say("a line")
    output.note("a note")
    output.warn("mind this")
    output.result("the result", {"never": "shown"})
    assert out.getvalue() == "a line\nthe result\n"
    assert err.getvalue() == "a note\nwarning: mind this\n"


def test_json_is_one_document_on_standard_output() -> None:
    """All else is on standard error, a second document too: a parser sees exactly one."""
    output, out, err = files("json")
    output.say("a line")
    output.show("a plan")
    output.result("text of the first", {"changes": 1, "name": "größer"})
    output.result("text of the second", {"changes": 2})
    assert json.loads(out.getvalue()) == {"changes": 1, "name": "größer"}
    assert err.getvalue() == "a line\na plan\ntext of the second\n"


def test_remote_text_cannot_steer_the_terminal() -> None:
    """Escape sequences of a host are gone before ours are added."""
    output, out, err = terminals()
    output.say("from \x1b[2J\x1b]0;title\x07the host", "red")
    output.note("[red]not markup[/red]")
    assert out.getvalue() == "\x1b[31mfrom the host\x1b[0m\n"
    assert err.getvalue() == "[red]not markup[/red]\n"


def test_no_color_and_dumb_terminals_are_honoured() -> None:
    """NO_COLOR with any value, TERM=dumb, and a file get no escape sequence."""
    for environ in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        output, out, err = terminals(environ=environ)
        output.say("green", "green")
        output.warn("plain")
        assert (out.getvalue(), err.getvalue()) == ("green\n", "warning: plain\n")
    output, file, _ = files()
    output.say("green", "green")
    assert file.getvalue() == "green\n"


def test_each_stream_has_its_own_colours() -> None:
    """`status | less` with notes on the terminal: the result is plain, the notes are not."""
    _, _, terminal = terminals()
    out = io.StringIO()
    output = Output("text", out, terminal, {"TERM": "xterm"})
    output.result(Table((), (), before=(Cell("healthy", "green"),)), {})
    output.warn("old")
    assert out.getvalue() == "healthy\n"
    assert terminal.getvalue() == "\x1b[33mwarning: old\x1b[0m\n"


def test_a_terminal_without_unicode_still_gets_the_line() -> None:
    """A character that the stream cannot write becomes a question mark, not a traceback."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Output("text", stream, io.StringIO(), {}).say("✓ größer")
    assert raw.getvalue() == b"? gr??er\n"


def test_lines_of_many_threads_do_not_mix() -> None:
    """Every line comes out whole."""
    output, _, err = files()
    lines = [f"{number} " + "x" * 200 for number in range(5)]

    def work(line: str) -> None:
        for _ in range(100):
            output.note(line)

    threads = [threading.Thread(target=work, args=(line,)) for line in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = err.getvalue().splitlines()
    assert len(written) == 500
    assert set(written) == set(lines)


def test_a_reader_that_leaves_ends_the_task_quietly() -> None:
    """`logs | head -1`: no traceback, and the exit code that SIGPIPE would give."""
    script = "from etcdctl_remote.console.output import Output\nfor i in range(100000): Output().say(f'line {i}')\n"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"line 0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=20) == 141


def test_lost_notes_do_not_stop_a_change() -> None:
    """Nobody reads standard error any more: the run goes on."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    out = io.StringIO()
    output = Output("text", out, Gone(), {})
    output.note("n1 | start etcd … done")
    output.say("deployed")
    assert out.getvalue() == "deployed\n"
