"""The script that observes a host, run in a real shell on this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, PathsSpec, Version
from etcdctl_remote.observed.observe import Question, command, parse
from etcdctl_remote.observed.state import Data, HostState, Marker

NODE = NodeSpec("n1", "h1", address="10.0.0.1")

SYSTEMCTL = r"""#!/bin/sh
printf '%s\n' MainPID=0 Result=success ActiveState=inactive SubState=dead FragmentPath= UnitFileState= \
  NeedDaemonReload=no "DropInPaths=$(echo "${0%/bin/*}"/*.conf)"
"""


def script(tmp_path: Path, *paths: Path, wal: Path | None = None) -> HostState:
    """Run the script here, with a systemctl that knows no unit."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    stub = tmp_path / "bin" / "systemctl"
    stub.write_text(SYSTEMCTL)
    stub.chmod(0o755)
    where = PathsSpec(
        config=f"{tmp_path}/config", data=f"{tmp_path}/data", wal=str(wal) if wal else None, bin="/nowhere"
    )
    cluster = ClusterSpec("demo", Version(3, 6, 14), (NODE,), Path("i.yaml"), paths=where)
    sent = command(cluster, Question(NODE, tuple(str(path) for path in paths)))
    path = f"{tmp_path}/bin:/usr/bin:/bin"
    done = subprocess.run(
        ["sh", "-c", sent.script, "sh", *sent.args],
        env={"PATH": path, "LC_ALL": "C"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.endswith("\n@@end\n")
    return parse("n1", done.stdout)


def test_the_script_tells_kinds_apart(tmp_path: Path) -> None:
    """Files, directories, links, links to nothing, things that are not there, odd names."""
    plain, odd, link, dangling = (tmp_path / name for name in ("plain", "with space|bar", "link", "dangling"))
    plain.write_text("hello\n")
    plain.chmod(0o640)
    odd.write_text("odd\n")
    link.symlink_to("plain")
    dangling.symlink_to("nothing")
    found = script(tmp_path, plain, odd, link, dangling, tmp_path / "absent", tmp_path).paths
    assert (found[str(plain)].kind, found[str(plain)].mode, found[str(plain)].text) == (
        "file",
        0o640,
        "hello\n",
    )
    assert found[str(odd)].kind == "file"
    assert (found[str(link)].kind, found[str(link)].target, found[str(link)].text) == ("link", "plain", None)
    assert (found[str(dangling)].kind, found[str(dangling)].target) == ("link", "nothing")
    assert found[str(tmp_path)].kind == "directory"
    assert str(tmp_path / "absent") not in found


def test_the_script_finds_guards_that_a_drop_in_clears(tmp_path: Path) -> None:
    """systemd empties a list at a key without a value; lines that are added take nothing away."""
    assert (script(tmp_path).dropins_hash, script(tmp_path).emptied) == ("", ())
    mine, other = tmp_path / "10-mine.conf", tmp_path / "20-other.conf"
    mine.write_text("[Service]\nExecStartPost=/bin/true\n#ExecStartPost=\nEnvironment=\nLimitCORE=\n")
    found = script(tmp_path)
    assert (len(found.dropins_hash), found.emptied) == (64, ())
    other.write_text("[Unit]\nAssertPathExistsGlob =\n[Service]\n ExecStartPost= \nExecStartPost=/bin/true\n")
    assert script(tmp_path).emptied == (f"{other}:AssertPathExistsGlob=", f"{other}:ExecStartPost=")
    assert script(tmp_path).dropins_hash != found.dropins_hash


def test_the_script_sends_the_lists_in_use_as_they_are(tmp_path: Path) -> None:
    """By way of the link, and byte for byte; those that lie beside by their sum alone."""
    (tmp_path / "ab12").mkdir()
    (tmp_path / "current").symlink_to("ab12")
    (tmp_path / "ab12" / "ca.crl").write_bytes(bytes(range(256)))
    used, beside = (tmp_path / name / "ca.crl" for name in ("current", "ab12"))
    found = script(tmp_path, used, beside, tmp_path / "current" / "peer-ca.crl").paths
    assert (found[str(used)].content, found[str(beside)].content) == (bytes(range(256)), None)
    assert found[str(used)].sha256 == found[str(beside)].sha256
    assert found[str(used)].text is None
    assert set(found) == {str(used), str(beside)}


def test_the_script_sends_no_secret_and_no_binary(tmp_path: Path) -> None:
    """Of keys and certificates only the sum; of a big file too: a foreign binary would be 25 MB."""
    key, big = tmp_path / "server.key", tmp_path / "etcd"
    key.write_text("PRIVATE")
    big.write_bytes(b"\0" * 100_000)
    found = script(tmp_path, key, big).paths
    assert found[str(key)].sha256
    assert found[str(key)].text is None
    assert found[str(big)].sha256
    assert found[str(big)].text is None


@pytest.mark.parametrize(
    ("made", "holds"),
    [
        ((), Data.ABSENT),
        (("",), Data.EMPTY),
        (("lost+found/",), Data.EMPTY),
        (("member/wal/0-0.wal",), Data.MEMBER),
        (("member/wal/0-0.wal", "notes"), Data.MEMBER),
        (("member/",), Data.EMPTY),
        (("member/wal.tmp/0.tmp",), Data.EMPTY),
        (("member/snap/db",), Data.TORN),
        (("member/", "notes"), Data.OTHER),
        (("moved-aside.20261121T050000/",), Data.EMPTY),
        (("notes",), Data.OTHER),
        ((".hidden",), Data.OTHER),
        (("lost+found/", "x"), Data.OTHER),
    ],
)
def test_the_script_looks_into_the_data_directory(tmp_path: Path, made: tuple[str, ...], holds: Data) -> None:
    """A member is known by its log; a fresh disk's lost+found is nothing; a database without its
    log is no member and not nothing, but for one that never held anything.
    """
    data = tmp_path / "data"
    for name in made:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/") or not name:
            (data / name).mkdir(exist_ok=True)
        else:
            path, _, size = name.partition("*")
            (data / path).write_bytes(b"x" * int(size or 1))
    assert script(tmp_path).data is holds


@pytest.mark.parametrize(
    ("made", "holds"),
    [
        ("lost+found", Data.EMPTY),
        ("wal/1-1.wal", Data.MEMBER),
        ("wal", Data.EMPTY),
        ("wal.tmp", Data.EMPTY),
        ("notes", Data.OTHER),
    ],
)
def test_the_script_looks_into_the_wal_directory(tmp_path: Path, made: str, holds: Data) -> None:
    """Only if there is one of its own; a log that etcd never finished making is none."""
    wal = tmp_path / "wal"
    assert script(tmp_path, wal=wal).wal is Data.ABSENT
    (wal / made).mkdir(parents=True)
    assert script(tmp_path, wal=wal).wal is holds
    assert script(tmp_path).wal is Data.ABSENT


def test_what_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    """Neither absent nor empty: a path through a file gives another error than "no such file"."""
    (tmp_path / "file").touch()
    assert script(tmp_path, wal=tmp_path / "file" / "wal").wal is Data.UNKNOWN


def test_the_script_finds_the_marker(tmp_path: Path) -> None:
    """Through its link; a link to nothing is a marker too, one that cannot be read."""
    config = tmp_path / "config"
    config.mkdir()
    (config / "member").symlink_to("identity")
    assert script(tmp_path).marker == Marker("", 0, 0, "")
    text = '{"cluster": "demo", "cluster_id": "c1", "member_id": "a1", "name": "n1"}\n'
    (config / "identity").write_text(text)
    assert script(tmp_path).marker == Marker("demo", 0xC1, 0xA1, "n1")
    (config / "member").unlink()
    assert script(tmp_path).marker is None
