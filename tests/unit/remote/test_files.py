"""What is sent for a set of files: names and sums in the command, contents only in the payload."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

from etcdctl_remote.desired.spec import DirSpec, FileSpec, LinkSpec
from etcdctl_remote.remote import files
from etcdctl_remote.secret import Secret

KEY = FileSpec("/etc/etcd/pki/1/peer.key", Secret(b"key"), 0o640, "root", "etcd")
UNIT = FileSpec("/etc/systemd/system/etcd.service", b"[Unit]\n")
LINK = LinkSpec("/etc/etcd/pki/current", "1")


def test_payload_is_a_tar_under_temporary_names() -> None:
    """Each entry waits beside its place, root's and with its final mode."""
    _, payload = files.written([KEY, UNIT], [], [LINK], "77")
    with tarfile.open(fileobj=io.BytesIO(payload)) as tar:
        members = {member.name: member for member in tar.getmembers()}
    assert list(members) == [
        "etc/etcd/pki/1/.etcdctl-remote.77/peer.key",
        "etc/systemd/system/.etcdctl-remote.77/etcd.service",
        "etc/etcd/pki/.etcdctl-remote.77/current",
    ]
    key, _, link = members.values()
    assert (key.mode, key.uid, key.size) == (0o640, 0, 3)
    assert (link.issym(), link.linkname) == (True, "1")


def test_command_names_sum_owners_and_moves_in_order() -> None:
    """Directories first, then owners, then one rename a directory, links last."""
    command, _ = files.written([KEY, UNIT], [DirSpec("/etc/etcd", 0o750, "root", "etcd")], [LINK], "77")
    assert command.args[1] == hashlib.sha256(b"key[Unit]\n").hexdigest()
    assert command.args[4:8] == ("dir", "/etc/etcd", "750", "root:etcd")
    assert command.args[8:11] == ("own", "root:etcd", "/etc/etcd/pki/1/.etcdctl-remote.77/peer.key")
    assert command.args[11:14] == (
        "sweep /etc/etcd/pki/1",
        "sweep /etc/systemd/system",
        "sweep /etc/etcd/pki",
    )
    assert command.args[14] == "former=$(readlink -- /etc/etcd/pki/current || :)"
    assert command.args[15:18] == (
        "mv -f -t /etc/etcd/pki/1 -- /etc/etcd/pki/1/.etcdctl-remote.77/peer.key",
        "mv -f -t /etc/systemd/system -- /etc/systemd/system/.etcdctl-remote.77/etcd.service",
        "mv -f -t /etc/etcd/pki -- /etc/etcd/pki/.etcdctl-remote.77/current",
    )
    assert command.writes
    assert command.root


def test_about_names_the_paths() -> None:
    """A few by name, the rest by number."""
    command, _ = files.written([UNIT], [], [], "1")
    assert command.about == "write /etc/systemd/system/etcd.service"
    many = [FileSpec(f"/f{number}", b"") for number in range(5)]
    assert files.written(many, [], [], "1")[0].about == "write /f0, /f1, /f2 and 2 more"


def test_secret_is_shown_nowhere_but_in_the_payload() -> None:
    """Neither by the command nor by its text."""
    command, payload = files.written([FileSpec("/k", Secret(b"hunter2"))], [], [], "1")
    assert b"hunter2" in payload
    assert "hunter2" not in repr(command)


def run(words: str, *args: str) -> None:
    """Run the scripts' own functions."""
    subprocess.run(["sh", "-eu", "-c", files._SWEEP + words, "sh", *args], check=True)


def test_keys_of_old_generations_do_not_stay(tmp_path: Path) -> None:
    """The current generation and the one before stay, and so does what is none."""
    names = [digit * 16 for digit in "1234"]
    for name in (*names, "a-directory-of-16", "0" * 15):
        (tmp_path / name).mkdir()
    (tmp_path / "current").symlink_to(names[3])
    run('retire "$1" "$2"', str(tmp_path), names[2])
    kept = {"current", names[2], names[3], "a-directory-of-16", "0" * 15}
    assert {path.name for path in tmp_path.iterdir()} == kept
    for former in ("", names[3]):  # the first write, and one that changes nothing
        run('retire "$1" "$2"', str(tmp_path), former)
        assert {path.name for path in tmp_path.iterdir()} == kept


def test_leftovers_of_a_power_cut_are_swept(tmp_path: Path) -> None:
    """After an hour: what is younger may be somebody's work under way."""
    for name in (".etcdctl-remote.0123456789ab", ".etcdctl-remote.ab0123456789", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "peer.key").touch()
    for name in ("etcd.tar.gz.part-0123456789ab", "etcd.tar.gz.part-ab0123456789", "etcd.tar.gz"):
        (tmp_path / name).touch()
    young = {".etcdctl-remote.ab0123456789", "etcd.tar.gz.part-ab0123456789"}
    for path in tmp_path.iterdir():
        if path.name not in young:
            os.utime(path, (0, 0))
    run('sweep "$1"', str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == young | {"other", "etcd.tar.gz"}
