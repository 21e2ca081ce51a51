"""Commands: exact bytes, true exit codes, the same in any login shell, nothing left running."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import paramiko
import pytest

from etcdctl_remote.errors import CommandFailed, ConnectionLost, LoginFailed, Refused, TimedOut
from etcdctl_remote.remote.host import Command
from etcdctl_remote.remote.ssh_host import SshHost
from etcdctl_remote.remote.wire import Patience

from .conftest import Connect, Start
from .sshd import Sshd

ODD = 'it\'s "odd" $HOME `id` \\n %s !x * \t\n and ünïcode; end'


@pytest.fixture
def host(server: Sshd, connect: Connect) -> SshHost:
    """One connected host, with the product's own patience: a busy machine is no frozen peer."""
    found = connect(server, patience=Patience()).hosts["n1"]
    assert isinstance(found, SshHost)
    found.sudo = False
    return found


def command(script: str, *args: str, timeout: float = 20.0) -> Command:
    return Command(script, args, about="the test", root=False, writes=False, timeout=timeout)


def still_running(text: str) -> bool:
    """Whether any process of this machine has this in its arguments."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                return True
        except OSError:
            continue
    return False


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether something comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_output_of_eight_megabytes_is_exact(host: SshHost) -> None:
    """Both outputs are read at once, all of it, undecoded."""
    script = 'head -c 8388608 /dev/urandom >"$1"; tee /dev/stderr <"$1"'
    path = f"/tmp/etcdctl-remote-test-{time.monotonic_ns()}"
    try:
        result = host.run(command(script, path))
        assert len(result.stdout) == 8388608
        assert result.stdout == result.stderr == Path(path).read_bytes()
    finally:
        Path(path).unlink()


def test_input_is_binary_safe(host: SshHost) -> None:
    """Every byte value goes in and comes out, with and without a thread for the input."""
    for size in (1, 100_000, 3_000_000):
        data = (bytes(range(256)) * (size // 256 + 1))[:size]
        assert host.run(command("cat"), data).stdout == data
        assert host.run(command("cat"), io.BytesIO(data)).stdout == data


def test_progress_of_the_input(host: SshHost) -> None:
    """`sent` hears of every byte."""
    sizes: list[int] = []
    host.run(command("sha256sum"), b"x" * 1_000_000, sent=sizes.append)
    assert sum(sizes) == 1_000_000
    assert len(sizes) > 2


def test_command_that_does_not_read_its_input(host: SshHost) -> None:
    """Input nobody reads blocks nothing; the exit code tells."""
    result = host.run(command("exit 7"), b"x" * 9_000_000, check=False)
    assert result.exit == 7


def test_input_may_be_closed_once_run_returns(host: SshHost) -> None:
    """A command that stops reading early leaves no thread that still reads the input."""

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            time.sleep(0.01)
            return super().read(size)

    with Slow(b"x" * 50_000_000) as stream:
        host.run(command("exit 7"), stream, check=False)
        assert not [thread for thread in threading.enumerate() if thread.name == "ssh-stdin"]


def test_arguments_are_never_read_by_a_shell(host: SshHost) -> None:
    """Quotes, dollars, backslashes, newlines: as given."""
    assert host.run(command('printf %s "$1"', ODD)).text == ODD


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "tcsh", "fish"])
def test_any_login_shell(start: Start, connect: Connect, shell: str) -> None:
    """The line means the same to each shell, though it chatters at login."""
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    server = start("shell", f'ForceCommand echo Welcome to this host; {path} -c "$SSH_ORIGINAL_COMMAND"')
    host = connect(server).hosts["n1"]
    result = host.run(command('printf %s "$1"; umask; exit 9', ODD), check=False)
    assert (result.exit, result.text) == (9, ODD + "0022\n")


def test_environment_is_ours(start: Start, connect: Connect) -> None:
    """No proxy, no locale, no PATH, no umask of the login is seen by a command."""
    server = start("env", "SetEnv http_proxy=http://x LANG=de_DE.UTF-8 LC_ALL=de_DE.UTF-8 PATH=/nowhere")
    text = connect(server).hosts["n1"].run(command("env | sort; umask; pwd")).text
    assert "proxy" not in text
    assert "LC_ALL=C\n" in text
    assert "LANG" not in text
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n" in text
    assert text.endswith("0022\n/\n")


@pytest.mark.parametrize(("signal", "code"), [("KILL", 137), ("TERM", 143), ("SEGV", 139)])
def test_killed_process_has_128_plus_n(host: SshHost, signal: str, code: int) -> None:
    """A process killed by a signal is told from a broken connection, `exec` or not."""
    assert host.run(command(f"sh -c 'kill -{signal} $$'"), check=False).exit == code
    assert host.run(command(f"exec sh -c 'kill -{signal} $$'"), check=False).exit == code


def test_failure_says_host_command_code_and_message(host: SshHost) -> None:
    """CommandFailed carries all four."""
    with pytest.raises(CommandFailed) as caught:
        host.run(command("echo alas >&2; exit 5"))
    assert str(caught.value) == "n1: the test: exit 5: alas"


def test_timeout_ends_the_remote_process_too(host: SshHost) -> None:
    """A command over its time raises TimedOut, and nothing of it is left on the host."""
    began = time.monotonic()
    with pytest.raises(TimedOut, match="not done after 1 s"):
        host.run(command("sleep 4317", timeout=1.0))
    assert time.monotonic() - began < 4
    assert not still_running("sleep\0004317")


def test_background_child_that_keeps_the_output_open(host: SshHost) -> None:
    """A daemon started by a command does not hold us up."""
    began = time.monotonic()
    result = host.run(command("sleep 5.1234 & echo started"))
    assert result.text == "started\n"
    assert time.monotonic() - began < 4


def test_read_only_refuses_to_write_and_names_the_command(server: Sshd, connect: Connect) -> None:
    """On a connection that only reads, a command that writes is refused before it is sent."""
    host = connect(server, read_only=True).hosts["n1"]
    marker = server.folder / "written"
    wants = Command('touch "$1"', (str(marker),), about="touch the marker", root=False)
    for attempt in (host.run, host.hold, lambda wanted: list(host.lines(wanted))):
        with pytest.raises(Refused, match="touch the marker"):
            attempt(wants)
    assert host.run(command("echo reads")).text == "reads\n"
    assert not marker.exists()


def test_lines_come_as_they_are_written(host: SshHost) -> None:
    """A stream yields each line at once, and the last one without its newline."""
    stream = host.lines(command("echo a; sleep 1; echo b; printf ü"))
    began = time.monotonic()
    assert next(stream) == "a"
    assert time.monotonic() - began < 0.9
    assert list(stream) == ["b", "ü"]


def test_closed_stream_ends_its_command(host: SshHost) -> None:
    """Following stops on the host when we stop listening."""
    stream = host.lines(command("echo going; sleep 4319"))
    assert next(stream) == "going"
    assert within(3, lambda: still_running("sleep\0004319"))
    stream.close()  # type: ignore[attr-defined]
    assert within(3, lambda: not still_running("sleep\0004319"))


def test_stream_that_fails_says_so(host: SshHost) -> None:
    """A stream's exit code is not lost."""
    stream = host.lines(command("echo one; echo alas >&2; exit 4"))
    assert next(stream) == "one"
    with pytest.raises(CommandFailed, match="exit 4: alas"):
        next(stream)


def test_outputs_are_handed_on_as_they_come(host: SshHost) -> None:
    """Both of them, with the exit code, and the input where there is any."""
    out: list[tuple[float, bytes]] = []
    err = bytearray()
    script = "echo a; echo alas >&2; sleep 1; cat; exit 7"

    def take(data: bytes) -> None:
        out.append((time.monotonic(), data))

    assert host.stream(command(script, timeout=0.1), io.BytesIO(b"given"), take, err.extend) == 7
    assert (b"".join(data for _, data in out), bytes(err)) == (b"a\ngiven", b"alas\n")
    assert out[-1][0] - out[0][0] > 0.8
    assert host.stream(command("cat; exit 5"), None, take, err.extend) == 5


@pytest.mark.parametrize("given", ["nothing", "an end", "no end"])
def test_a_stream_that_is_left_ends_its_command(host: SshHost, given: str) -> None:
    """Ctrl-C on a watch leaves nothing running, whatever our own input is."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as pipe, os.fdopen(writing, "wb", buffering=0) as end:
        stdin = {"nothing": None, "an end": io.BytesIO(b"given"), "no end": pipe}[given]
        end.write(b"given")

        def leave(data: bytes) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            host.stream(command("echo going; exec sleep 4321"), stdin, leave, leave)
        assert within(3, lambda: not still_running("sleep\0004321"))


def test_a_cut_link_ends_a_streamed_command(server: Sshd, host: SshHost) -> None:
    """Nothing runs on when the laptop is gone, not even what ignores SIGTERM."""

    def cut(data: bytes) -> None:
        for pid in server.sessions():
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(ConnectionLost):
        host.stream(command("trap '' TERM; echo going; sleep 4322"), io.BytesIO(), cut, cut)
    assert within(5, lambda: not still_running("sleep\0004322"))


def test_a_stream_takes_input_of_any_size(host: SshHost) -> None:
    """Every byte arrives; a command that does not read it all gives its exit code as ever."""
    data, got = os.urandom(3_000_000), bytearray()
    assert host.stream(command("cat"), io.BytesIO(data), got.extend, got.extend) == 0
    assert got == data
    assert host.stream(command("exit 7"), io.BytesIO(data), got.extend, got.extend) == 7
    assert host.stream(command("kill -9 $$"), io.BytesIO(data), got.extend, lambda said: None) == 137
    assert got == data


def test_login_shell_that_refuses(start: Start, connect: Connect) -> None:
    """An account without a usable shell is a login failure that quotes what it said."""
    server = start("nologin", "ForceCommand echo This account is not available; exit 1")
    with pytest.raises(LoginFailed, match="This account is not available"):
        connect(server).hosts["n1"].run(command("true"))


def test_a_refusal_whose_reason_another_thread_took_is_tried_again(
    host: SshHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two channels are refused at once, and paramiko tells one thread only why."""
    transport = host.link.transport
    for name in ("open_session", "open_channel"):
        really, refused = getattr(transport, name), [paramiko.SSHException("Unable to open channel.")]

        def once(*args: object, really=really, refused=refused, **more: object) -> object:  # type: ignore[no-untyped-def]
            if refused:
                raise refused.pop()
            return really(*args, **more)

        monkeypatch.setattr(transport, name, once)
        if name == "open_session":
            assert host.run(command("echo here")).text == "here\n"
        else:
            host.dial("127.0.0.1", host.link.server.port, 5.0).close()
        assert refused == []
        monkeypatch.undo()


def test_many_commands_at_once_on_one_connection(host: SshHost) -> None:
    """Threads may share a host."""
    from concurrent.futures import ThreadPoolExecutor

    def digest(number: int) -> bool:
        data = bytes([number]) * 400_000
        return (
            host.run(command("sha256sum", timeout=60.0), data).text.split()[0]
            == hashlib.sha256(data).hexdigest()
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(digest, range(32)))
