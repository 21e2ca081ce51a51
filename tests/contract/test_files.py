"""Files arrive whole or not at all, with their final owner and mode, whatever their names."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from etcdctl_remote.desired.spec import DirSpec, FileSpec, LinkSpec
from etcdctl_remote.errors import CommandFailed, ConnectionLost, UsageError
from etcdctl_remote.remote import files
from etcdctl_remote.remote.ssh_host import SshHost
from etcdctl_remote.secret import Secret

from .sshd import Sshd

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="changes owners, so it runs as root only")
EVERY_BYTE = bytes(range(256)) * 33
ODD = "a 'q' \"d\" $HOME `id` \\ !x *;é -n"

pytestmark = needs_root


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def left_over(folder: Path) -> list[str]:
    """Temporary files that were not removed."""
    return [
        str(path) for path in folder.rglob("*") if ".etcdctl-remote." in path.name or ".part-" in path.name
    ]


def await_cleaning(folder: Path) -> None:
    """Give a script whose link was cut the time to clean up; who asserts it then sees what is left."""
    end = time.monotonic() + 5
    while left_over(folder) and time.monotonic() < end:
        time.sleep(0.05)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_many_files_dirs_and_links_in_one_round_trip(host: SshHost, tmp_path: Path) -> None:
    """All of it lands: contents byte for byte, owners, modes, links; nothing else stays behind."""
    root = tmp_path / "node"
    files.write(
        host,
        files=[
            FileSpec(f"{root}/pki/key", Secret(EVERY_BYTE), 0o640, "root", "daemon"),
            FileSpec(f"{root}/pki/empty", b"", 0o444, "nobody", "daemon"),
            FileSpec(f"{root}/unit", b"[Unit]\n"),
        ],
        dirs=[DirSpec(str(root), 0o755), DirSpec(f"{root}/pki", 0o750, "root", "daemon")],
        links=[LinkSpec(f"{root}/current", "pki"), LinkSpec(f"{root}/dangling", "/no/where")],
    )
    key, empty = root / "pki/key", root / "pki/empty"
    assert key.read_bytes() == EVERY_BYTE
    assert (mode(key), mode(empty), mode(root / "unit")) == (0o640, 0o444, 0o644)
    assert (mode(root), mode(root / "pki")) == (0o755, 0o750)
    assert key.stat().st_gid == (root / "pki").stat().st_gid == grp.getgrnam("daemon").gr_gid
    assert empty.stat().st_uid == pwd.getpwnam("nobody").pw_uid
    assert (root / "current").readlink() == Path("pki")
    assert (root / "dangling").readlink() == Path("/no/where")
    assert abs((root / "unit").stat().st_mtime - time.time()) < 60
    assert left_over(root) == []


def test_odd_paths(host: SshHost, tmp_path: Path) -> None:
    """Quotes, dollars, spaces, backslashes, a leading dash and a newline are only names."""
    for name in (ODD, "-rf", "two\nlines", "end\n", " "):
        place = f"{tmp_path}/{name}"
        files.write(
            host, [FileSpec(f"{place}/{name}", b"x")], [DirSpec(place, 0o700)], [LinkSpec(f"{place}/l", name)]
        )
        assert Path(f"{place}/{name}").read_bytes() == b"x"
        assert os.readlink(f"{place}/l") == name  # noqa: PTH115 (Path would change odd targets)


@pytest.mark.parametrize("path", ["relative", "/ends/", "/nul\0"])
def test_paths_that_cannot_be(host: SshHost, path: str) -> None:
    """A path that is no absolute path of a file is refused before anything is sent."""
    with pytest.raises(UsageError):
        files.write(host, [FileSpec(path, b"x")])


def test_existing_entries_are_replaced_not_followed(host: SshHost, tmp_path: Path) -> None:
    """A link over a link swaps the link; a file over a link replaces it and leaves its target alone."""
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "current").symlink_to("target")
    (tmp_path / "file").symlink_to("kept")
    files.write(
        host, [FileSpec(f"{tmp_path}/file", b"new")], links=[LinkSpec(f"{tmp_path}/current", "other")]
    )
    assert (tmp_path / "current").readlink() == Path("other")
    assert list(target.iterdir()) == []
    assert (tmp_path / "kept").read_text() == "kept"
    assert (tmp_path / "file").read_bytes() == b"new"
    assert not (tmp_path / "file").is_symlink()


def test_directory_in_the_way_is_not_entered(host: SshHost, tmp_path: Path) -> None:
    """A file or link where a directory stands fails; the directory stays as it was."""
    (tmp_path / "dir").mkdir()
    with pytest.raises(CommandFailed):
        files.write(host, [FileSpec(f"{tmp_path}/dir", b"x")])
    with pytest.raises(CommandFailed):
        files.write(host, links=[LinkSpec(f"{tmp_path}/dir", "x")])
    assert list((tmp_path / "dir").iterdir()) == []
    assert left_over(tmp_path) == []


def test_unknown_owner_fails_before_the_old_file_is_touched(host: SshHost, tmp_path: Path) -> None:
    """A user the host does not have never silently becomes root."""
    old = tmp_path / "old"
    old.write_text("old")
    with pytest.raises(CommandFailed, match="no-such-user"):
        files.write(host, [FileSpec(str(old), b"new", owner="no-such-user")])
    assert old.read_text() == "old"
    assert left_over(tmp_path) == []


def test_key_is_never_readable_by_others(host: SshHost, tmp_path: Path) -> None:
    """Watched while it is written over and over, a key never has a mode it should not have."""
    seen: set[int] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            with suppress(OSError):  # a temporary directory goes while we look
                seen.update(mode(path) & 0o007 for path in tmp_path.rglob("key*"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(15):
        files.write(host, [FileSpec(f"{tmp_path}/key", Secret(os.urandom(200_000)), 0o640, "root", "daemon")])
    stop.set()
    watcher.join()
    assert seen == {0}


def test_secret_is_in_no_argument(host: SshHost, tmp_path: Path) -> None:
    """Contents go over standard input: no process and no error shows them."""
    command, payload = files.written([FileSpec(f"{tmp_path}/key", Secret(b"hunter2"))], [], [], "0")
    assert b"hunter2" in payload
    assert "hunter2" not in repr(command)


def test_interrupted_write_leaves_the_old_file(server: Sshd, host: SshHost, tmp_path: Path) -> None:
    """The link dies in the middle of the contents: the old file stays, the temporary one goes."""
    old = tmp_path / "old"
    old.write_text("old")
    command, payload = files.written([FileSpec(str(old), b"n" * 5_000_000)], [], [], "77")
    held = host.hold(
        type(command)("echo started; " + command.script, command.args, about=command.about, timeout=20),
        payload[: len(payload) // 2],
    )
    assert held.first_line == "started"
    for pid in server.sessions():
        os.kill(pid, signal.SIGKILL)
    await_cleaning(tmp_path)
    assert old.read_text() == "old"
    assert left_over(tmp_path) == []


def test_truncated_write_is_noticed(host: SshHost, tmp_path: Path) -> None:
    """Fewer bytes than announced, or others: nothing takes its place."""
    old = tmp_path / "old"
    old.write_text("old")
    command, payload = files.written([FileSpec(str(old), b"n" * 5000)], [], [], "78")
    for wrong in (payload[:4000], payload.replace(b"nnnn", b"mmmm", 1)):
        result = host.run(command, wrong, check=False)
        assert result.exit == files.BAD_SUM
    assert old.read_text() == "old"
    assert left_over(tmp_path) == []


def test_upload_is_verified_and_replaces_atomically(host: SshHost, tmp_path: Path) -> None:
    """A big file arrives exactly, progress adds up, a second upload replaces it."""
    local, remote = tmp_path / "local", tmp_path / "opt" / ODD / "release"
    local.write_bytes(os.urandom(3_000_001))
    sizes: list[int] = []
    for _ in range(2):
        files.upload(host, local, str(remote), digest(local), sent=sizes.append)
    assert remote.read_bytes() == local.read_bytes()
    assert mode(remote) == 0o644
    assert sum(sizes) == 2 * 3_000_001
    assert left_over(tmp_path) == []


def test_upload_with_a_wrong_sum_leaves_the_old_file(host: SshHost, tmp_path: Path) -> None:
    """What arrived is not what was promised: refused, and said so."""
    local, remote = tmp_path / "local", tmp_path / "remote"
    local.write_bytes(b"new" * 100_000)
    remote.write_text("old")
    with pytest.raises(CommandFailed, match="not what was sent") as caught:
        files.upload(host, local, str(remote), "0" * 64)
    assert "run the task again" in caught.value.hint
    assert remote.read_text() == "old"
    assert left_over(tmp_path) == []


def test_interrupted_upload_leaves_the_old_file(server: Sshd, host: SshHost, tmp_path: Path) -> None:
    """The link dies half-way through: ConnectionLost, the old file stays, the part goes."""
    local, remote = tmp_path / "local", tmp_path / "remote"
    with local.open("wb") as file:
        file.truncate(400_000_000)
    remote.write_text("old")
    sum_ = "0" * 64

    def cut(_: int) -> None:
        for pid in server.sessions():
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(ConnectionLost):
        files.upload(host, local, str(remote), sum_, sent=cut)
    await_cleaning(tmp_path)
    assert remote.read_text() == "old"
    assert left_over(tmp_path) == []


def test_full_disk_is_named(host: SshHost, tmp_path: Path) -> None:
    """No space left: the error names the file system, what it has and what is needed; nothing is left."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"this machine does not allow mounts: {mounted.stderr.strip()}")
    try:
        local = tmp_path / "local"
        local.write_bytes(os.urandom(3_000_000))
        too_big = [FileSpec(f"{small}/file", local.read_bytes())]
        seen = rf"{small} has \d+ KiB free, \d+ KiB are needed"
        with pytest.raises(CommandFailed, match=seen) as caught:
            files.upload(host, local, f"{small}/release", digest(local))
        assert caught.value.exit_status == files.NO_SPACE
        assert "free some space" in caught.value.hint
        with pytest.raises(CommandFailed, match=seen):
            files.write(host, too_big)
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


FLAT = """
import resource, sys
from pathlib import Path
from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, SshSpec, Version
from etcdctl_remote.remote import files
from etcdctl_remote.remote.fleet import Fleet
user, port, key, known, local, remote, digest = sys.argv[1:]
ssh = SshSpec(user=user, port=int(port), key=Path(key), known_hosts=Path(known))
cluster = ClusterSpec("demo", Version(3, 6, 14), (NodeSpec("n1", "127.0.0.1", ssh=ssh),), Path("x"))
fleet, _ = Fleet.connect(cluster)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
files.upload(fleet.hosts["n1"], Path(local), remote, digest)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
fleet.close()
"""


def test_memory_is_flat_for_200_megabytes(server: Sshd, tmp_path: Path) -> None:
    """Sending 200 MB grows the tool by no more than a few pieces."""
    local = tmp_path / "local"
    with local.open("wb") as file:
        file.truncate(200_000_000)
    args = (
        server.ssh().user,
        server.port,
        server.key,
        server.known_hosts,
        local,
        tmp_path / "remote",
        digest(local),
    )
    words = [str(arg) for arg in args]
    done = subprocess.run([sys.executable, "-c", FLAT, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 16 * 1024
    assert (tmp_path / "remote").stat().st_size == 200_000_000


def test_what_is_not_accepted_takes_no_place(host: SshHost, tmp_path: Path) -> None:
    """A command that belongs to a write sees the new file beside its place, under its own name, and can refuse it."""
    place = tmp_path / ODD
    place.mkdir()
    (place / "unit").write_text("old")
    around = files.Around(accept="grep -q good --", then=f"touch {tmp_path}/loaded")
    with pytest.raises(CommandFailed):
        files.write(host, [FileSpec(f"{place}/unit", b"bad\n")], around=around)
    assert (place / "unit").read_text() == "old"
    assert not (tmp_path / "loaded").exists()
    files.write(host, [FileSpec(f"{place}/unit", b"good\n")], around=around)
    assert (place / "unit").read_text() == "good\n"
    assert (tmp_path / "loaded").exists()
    assert left_over(tmp_path) == []


def test_the_parent_of_a_link_is_made_and_an_existing_one_left_alone(host: SshHost, tmp_path: Path) -> None:
    """It may be anybody's directory, with a mode of its own."""
    theirs = tmp_path / "tmp"
    theirs.mkdir()
    theirs.chmod(0o1777)
    places = [tmp_path / "new" / "bin", theirs]
    files.write(host, links=[LinkSpec(f"{place}/etcd", "/nowhere/etcd") for place in places])
    assert [(place / "etcd").readlink() for place in places] == [Path("/nowhere/etcd")] * 2
    assert [mode(place) for place in places] == [0o755, 0o1777]


def test_a_switch_retires_old_generations(host: SshHost, tmp_path: Path) -> None:
    """With the write that switches the link: the new one and the one before stay."""
    for digit in "123":
        place = f"{tmp_path}/pki/{digit * 16}"
        files.write(
            host,
            files=[FileSpec(f"{place}/peer.key", Secret(b"key"), 0o640)],
            dirs=[DirSpec(place, 0o750)],
            links=[LinkSpec(f"{tmp_path}/pki/current", digit * 16)],
        )
    assert {path.name for path in (tmp_path / "pki").iterdir()} == {"2" * 16, "3" * 16, "current"}
