"""What went wrong, shown."""

import json

from etcdctl_remote.console import failures
from etcdctl_remote.errors import CommandFailed, Unreachable, gather
from tests.unit.console.streams import files, terminals

LOST = Unreachable(
    "connect failed on 2 hosts",
    "check the addresses",
    {"n1": "10.0.0.11:22: timed out", "n2": "10.0.0.12:22: \x1b[31mrefused"},
)


def test_every_host_has_its_line() -> None:
    """The message, one line a host, the way out; on standard error only."""
    output, out, err = files()
    failures.show(output, LOST)
    assert out.getvalue() == ""
    assert err.getvalue() == (
        "error: connect failed on 2 hosts\n"
        "  n1: 10.0.0.11:22: timed out\n"
        "  n2: 10.0.0.12:22: refused\n"
        "  → check the addresses\n"
    )


def test_json_has_the_document_too() -> None:
    """Scripts get error, hint and hosts; the person still reads the text."""
    output, out, err = files("json")
    failures.show(output, LOST)
    assert json.loads(out.getvalue()) == {
        "error": "connect failed on 2 hosts",
        "hint": "check the addresses",
        "hosts": {"n1": "10.0.0.11:22: timed out", "n2": "10.0.0.12:22: refused"},
    }
    assert err.getvalue().startswith("error: connect failed on 2 hosts\n")


def test_one_host_is_named_once() -> None:
    """The person reads it in the message, scripts find it among the hosts."""
    output, out, err = files("json")
    failures.show(output, gather({"n3": Unreachable("n3: timed out", "see that it is up")}, "connect"))
    assert json.loads(out.getvalue()) == {
        "error": "n3: timed out",
        "hint": "see that it is up",
        "hosts": {"n3": "timed out"},
    }
    assert err.getvalue() == "error: n3: timed out\n  → see that it is up\n"


def test_a_failure_after_the_document_is_text_only() -> None:
    """A run that has given its document and then fails does not write a second one."""
    output, out, err = files("json")
    output.result("a plan", {"changes": 1})
    failures.show(output, LOST)
    assert json.loads(out.getvalue()) == {"changes": 1}
    assert err.getvalue().count("connect failed") == 1


def test_colours_on_a_terminal() -> None:
    """Red for the word, a colour for hosts and the hint."""
    output, _, err = terminals()
    failures.show(output, LOST)
    assert err.getvalue() == (
        "\x1b[31merror:\x1b[0m connect failed on 2 hosts\n"
        "  \x1b[36mn1\x1b[0m: 10.0.0.11:22: timed out\n"
        "  \x1b[36mn2\x1b[0m: 10.0.0.12:22: refused\n"
        "\x1b[33m  → check the addresses\x1b[0m\n"
    )


def test_a_long_stderr_is_indented() -> None:
    """The lines of a remote command's stderr stay below its message."""
    output, _, err = files()
    failures.show(output, CommandFailed("n1", "start etcd", 1, "Job failed.\nSee journalctl."))
    assert err.getvalue() == "error: n1: start etcd: exit 1: Job failed.\n  See journalctl.\n"
