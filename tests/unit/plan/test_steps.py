"""Steps: what they say, and what their scripts do, in a real shell below a test's folder."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from etcdctl_remote.desired.spec import FileSpec
from etcdctl_remote.errors import CommandFailed
from etcdctl_remote.plan.steps import (
    CreateUser,
    ForgetUnit,
    InstallRelease,
    InstallUnit,
    LoadUnit,
    MoveAside,
    MoveLeader,
    Remove,
    RestartEtcd,
    StartEtcd,
    StopEtcd,
)
from etcdctl_remote.remote import units
from etcdctl_remote.remote.host import Host
from tests.unit.operations.here import Canned, Local, said


def quiet(done: int, total: int) -> None:
    """Tell nobody."""


def host(folder: Path, **programs: str) -> Host:
    """This machine, its /opt, /var and /etc below a folder; `programs` are stubs that log their call."""
    stubs = folder / "stubs"
    stubs.mkdir(exist_ok=True)
    for name, body in programs.items():
        program = stubs / name.replace("_", "-")
        program.write_text(f'#!/bin/sh\nprintf "%s %s\\n" "${{0##*/}}" "$*" >>{folder}/calls\n{body}\n')
        program.chmod(0o755)

    def below(arg: str) -> str:
        return f"{folder}{arg}" if arg.startswith(("/opt", "/var", "/etc")) else arg

    local = Local("n1", path=f"{stubs}:/usr/bin:/bin:/usr/sbin:/sbin", rename=below)
    return cast("Host", local)


def calls(folder: Path) -> list[str]:
    log = folder / "calls"
    return log.read_text().splitlines() if log.exists() else []


# -- releases --------------------------------------------------------------------------------


def archive(
    path: Path, *, etcd: str = "#!/bin/sh\necho etcd Version: 3.6.14\n", without: str = ""
) -> InstallRelease:
    """A release archive, laid out as the official ones are, and the step that installs it."""
    files = {"etcd": etcd, "etcdctl": "#!/bin/sh\n", "Documentation/README.md": "read me"}
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            if name == without:
                continue
            member = tarfile.TarInfo(f"etcd-v3.6.14-linux-amd64/{name}")
            member.size, member.mode, member.uid = len(text), 0o700, 1234
            tar.addfile(member, io.BytesIO(text.encode()))
    data = path.read_bytes()
    return InstallRelease("n1", "3.6.14", path, hashlib.sha256(data).hexdigest(), len(data))


def test_installs_a_release(tmp_path: Path) -> None:
    """Complete or not there at all; readable by all; the archive is gone, its progress was told."""
    step = archive(tmp_path / "etcd-v3.6.14-linux-amd64.tar.gz")
    told: list[tuple[int, int]] = []
    step.run(host(tmp_path), lambda done, total: told.append((done, total)))
    release = tmp_path / "opt/etcd/v3.6.14"
    assert (release / ".complete").exists()
    assert (release / "etcd").stat().st_mode & 0o777 == 0o755
    assert (release / "Documentation/README.md").read_text() == "read me"
    assert sorted(path.name for path in release.parent.iterdir()) == ["v3.6.14"]
    assert told == [(step.size, step.size)]
    assert str(step) == "install etcd 3.6.14 into /opt/etcd/v3.6.14"


def test_installing_twice_keeps_what_was_there(tmp_path: Path) -> None:
    """The directory that was not complete is moved aside: somebody may run from it."""
    step = archive(tmp_path / "etcd-v3.6.14-linux-amd64.tar.gz")
    half = tmp_path / "opt/etcd/v3.6.14"
    half.mkdir(parents=True)
    (half / "half").touch()
    (half.parent / "v3.6.14.new.77").mkdir()
    step.run(host(tmp_path), quiet)
    assert (half / "etcd").exists()
    (broken,) = [path for path in half.parent.iterdir() if path != half]
    assert broken.name.startswith("v3.6.14.broken.")
    assert (broken / "half").exists()


def test_a_binary_of_another_architecture_is_not_installed(tmp_path: Path) -> None:
    """It is tried before the directory gets its name."""
    step = archive(tmp_path / "etcd-v3.6.14-linux-amd64.tar.gz", etcd="\x7fELFnot really")
    with pytest.raises(CommandFailed, match="does not run on this host") as caught:
        step.run(host(tmp_path), quiet)
    assert str(step.archive) in caught.value.hint
    assert not (tmp_path / "opt/etcd/v3.6.14").exists()
    assert not list((tmp_path / "opt/etcd").glob("v3.6.14.new.*"))


@pytest.mark.parametrize("missing", ["etcd", "etcdctl"])
def test_an_archive_of_something_else_is_not_installed(tmp_path: Path, missing: str) -> None:
    """Its sum was right, it was meant: the error names the file on the laptop, and the key that chose it."""
    step = archive(tmp_path / "prometheus.tar.gz", without=missing)
    with pytest.raises(CommandFailed, match=f"holds no {missing} one folder down") as caught:
        step.run(host(tmp_path), quiet)
    assert str(tmp_path / "prometheus.tar.gz") in caught.value.hint
    assert "`release` in the inventory" in caught.value.hint
    assert list((tmp_path / "opt/etcd").iterdir()) == []


def test_an_archive_that_changed_on_the_way(tmp_path: Path) -> None:
    """Verified on the host: nothing is unpacked, nothing is left."""
    step = replace(archive(tmp_path / "etcd-v3.6.14-linux-amd64.tar.gz"), sha256="0" * 64)
    with pytest.raises(CommandFailed, match="not what was sent"):
        step.run(host(tmp_path), quiet)
    assert list((tmp_path / "opt/etcd").iterdir()) == []


FULL = """echo Filesystem 1024-blocks Used Available Capacity Mounted on; echo /dev/vdb 90 89 1 99% /opt"""


def test_a_disk_that_is_full_while_unpacking(tmp_path: Path) -> None:
    """What df says and the way out, as of any other write; what was unpacked so far is gone."""
    step = archive(tmp_path / "etcd-v3.6.14-linux-amd64.tar.gz")
    with pytest.raises(CommandFailed, match=r"/opt has 1 KiB free, \d+ KiB are needed") as caught:
        step.run(host(tmp_path, tar="exit 2", df=FULL), quiet)
    assert "free some space" in caught.value.hint
    assert list((tmp_path / "opt/etcd").iterdir()) == []


def test_what_tar_says_is_told_while_there_is_room(tmp_path: Path) -> None:
    """A disk that fails, say: nothing of ours explains it."""
    step = archive(tmp_path / "etcd-v3.6.14-linux-amd64.tar.gz")
    with pytest.raises(CommandFailed, match="Input/output error") as caught:
        step.run(host(tmp_path, tar="echo tar: Input/output error >&2; exit 2"), quiet)
    assert caught.value.exit_status == 1


# -- leadership ------------------------------------------------------------------------------

STATUS = """
case "$*" in
*"endpoint status"*) echo '%s' ;;
esac
"""


def leading(folder: Path, answer: str) -> list[str]:
    """Run the step where etcdctl answers this; return the calls after the status."""
    etcdctl = host(folder, etcdctl=STATUS % answer)
    MoveLeader("n1", "n2", 0xA2, ("etcdctl", "--endpoints=https://10.0.0.1:2379")).run(etcdctl, quiet)
    return calls(folder)[1:]


@pytest.mark.parametrize(
    ("leader", "member", "moves"),
    [("11525266799836537009", "11525266799836537009", True), ("42", "11525266799836537009", False)],
)
def test_only_a_leader_hands_over(tmp_path: Path, leader: str, member: str, moves: bool) -> None:
    """Whoever led when the plan was made may not lead any more: the member itself is asked."""
    header = f'"header":{{"cluster_id":7,"member_id":{member},"revision":8,"raft_term":2}}'
    answer = f'[{{"Endpoint":"x","Status":{{{header},"version":"3.6.14","leader":{leader},"raftIndex":14}}}}]'
    expected = ["etcdctl --endpoints=https://10.0.0.1:2379 move-leader a2"] if moves else []
    assert leading(tmp_path, answer) == expected


def test_without_a_leader_there_is_nothing_to_hand_over(tmp_path: Path) -> None:
    """Zero is left out of the answer."""
    assert (
        leading(tmp_path, '[{"Status":{"header":{"cluster_id":7,"member_id":9},"version":"3.6.14"}}]') == []
    )


def test_a_failed_question_fails_the_step(tmp_path: Path) -> None:
    """Not knowing is not "does not lead"."""
    with pytest.raises(CommandFailed):
        MoveLeader("n1", "n2", 0xA2, ("etcdctl",)).run(host(tmp_path, etcdctl="exit 1"), quiet)


# -- data and files --------------------------------------------------------------------------


def test_data_is_moved_aside_once(tmp_path: Path) -> None:
    """A rename; done again, or without data, it is nothing."""
    data = tmp_path / "var/lib/etcd"
    (data / "member").mkdir(parents=True)
    step = MoveAside("n1", "/var/lib/etcd", "20261121T050000")
    for _ in range(2):
        step.run(host(tmp_path), quiet)
    assert sorted(path.name for path in data.parent.iterdir()) == ["etcd.20261121T050000"]
    assert (data.parent / "etcd.20261121T050000/member").is_dir()


def test_whose_data_it_is_goes_along(tmp_path: Path) -> None:
    """A destroy can be undone only if the data still says whose it is."""
    data = tmp_path / "var/lib/etcd"
    (data / "member").mkdir(parents=True)
    (tmp_path / "etc/etcd").mkdir(parents=True)
    (tmp_path / "etc/etcd/identity").write_text("{}")
    MoveAside("n1", "/var/lib/etcd", "S", str(tmp_path / "etc/etcd/identity")).run(host(tmp_path), quiet)
    assert (data.parent / "etcd.S/etcdctl-remote.identity").read_text() == "{}"


def test_data_never_goes_into_data_moved_before(tmp_path: Path) -> None:
    """Where the name is taken the step fails, and nothing is lost."""
    data = tmp_path / "var/lib/etcd"
    for folder in (data, data.with_name("etcd.S")):
        (folder / "member").mkdir(parents=True)
    with pytest.raises(CommandFailed):
        MoveAside("n1", "/var/lib/etcd", "S").run(host(tmp_path), quiet)
    assert (data / "member").is_dir()


def test_remove_removes_what_is_named(tmp_path: Path) -> None:
    """A link, not what it points to; what is gone already is no error."""
    etc = tmp_path / "etc"
    (etc / "pki/g1").mkdir(parents=True)
    (etc / "kept").write_text("x")
    (etc / "link").symlink_to("kept")
    Remove("n1", "remove", ("/etc/pki", "/etc/link", "/etc/gone", "/etc/-rf")).run(host(tmp_path), quiet)
    assert [path.name for path in etc.iterdir()] == ["kept"]


def test_remove_takes_empty_parents_along(tmp_path: Path) -> None:
    """A directory that still holds somebody's file stays."""
    for folder in ("etc/etcd/pki", "opt/etcd/v3.6.14"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "opt/etcd/theirs").touch()
    parents = ("/etc/etcd", "/opt/etcd")
    Remove("n1", "remove", ("/etc/etcd/pki", "/opt/etcd/v3.6.14"), parents).run(host(tmp_path), quiet)
    assert not (tmp_path / "etc/etcd").exists()
    assert [path.name for path in (tmp_path / "opt/etcd").iterdir()] == ["theirs"]


def test_data_of_a_mount_point_moves_inside_it(tmp_path: Path) -> None:
    """The mount point stays; done again nothing moves."""
    data = tmp_path / "var/lib/etcd"
    for name in ("member", "lost+found", ".hidden"):
        (data / name).mkdir(parents=True)
    for _ in range(2):
        MoveAside("n1", "/var/lib/etcd", "S").run(host(tmp_path, mountpoint=""), quiet)
    assert sorted(path.name for path in data.iterdir()) == ["lost+found", "moved-aside.S"]
    assert sorted(path.name for path in (data / "moved-aside.S").iterdir()) == [".hidden", "member"]


def test_a_mount_point_is_emptied_not_removed(tmp_path: Path) -> None:
    """`--delete-data` where the data has a disk of its own."""
    data = tmp_path / "var/lib/etcd"
    (data / "member/wal").mkdir(parents=True)
    Remove("n1", "delete", ("/var/lib/etcd",)).run(host(tmp_path, mountpoint=""), quiet)
    assert list(data.iterdir()) == []


# -- systemd ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "asked"),
    [
        (RestartEtcd("n1"), "restart --no-block etcd.service"),
        (StopEtcd("n1"), "stop etcd.service"),
    ],
)
def test_restart_stop(tmp_path: Path, step: RestartEtcd | StopEtcd, asked: str) -> None:
    """Nobody waits for readiness but the gate; a stop is waited for."""
    step.run(host(tmp_path, systemctl=""), quiet)
    assert calls(tmp_path) == [f"systemctl {asked}"]


@pytest.mark.parametrize(
    ("state", "verb"), [("dead", "start"), ("running", "start"), ("auto-restart", "restart")]
)
def test_start(tmp_path: Path, state: str, verb: str) -> None:
    """A start would be queued while systemd waits to try a crashed unit again: that is restarted."""
    StartEtcd("n1").run(host(tmp_path, systemctl=f'[ "$1" != show ] || echo {state}'), quiet)
    assert calls(tmp_path)[1:] == [f"systemctl {verb} --no-block etcd.service"]


@pytest.mark.parametrize(
    ("state", "then"), [("enabled", "daemon-reload"), ("disabled", "enable --quiet etcd.service")]
)
def test_load_unit(tmp_path: Path, state: str, then: str) -> None:
    """Enabling reloads too, so there is one reload either way."""
    LoadUnit("n1").run(host(tmp_path, systemctl=f'[ "$1" != is-enabled ] || echo {state}'), quiet)
    assert calls(tmp_path) == ["systemctl is-enabled etcd.service", f"systemctl {then}"]


def test_a_unit_that_systemd_complains_of_is_mended_in_the_inventory() -> None:
    """The way out is told; a full disk keeps its own."""
    unit = FileSpec("/etc/systemd/system/etcd.service", b"")
    for status, hint in ((units.MISFIT, "mend it under `service`"), (28, "free some space")):
        there = Canned("n1", {"write": said(stderr="what was seen", exit=status)})
        with pytest.raises(CommandFailed, match="what was seen") as caught:
            InstallUnit("n1", unit).run(cast("Host", there), quiet)
        assert hint in caught.value.hint


def test_forget_unit(tmp_path: Path) -> None:
    """Disabled while the file is there, then removed; drop-ins stay; done again it is no error."""
    unit = tmp_path / "etc/systemd/system/etcd.service"
    dropin = unit.with_name("etcd.service.d") / "mine.conf"
    dropin.parent.mkdir(parents=True)
    dropin.touch()
    unit.touch()
    machine = host(tmp_path, systemctl='[ "$1" != reset-failed ]')
    ForgetUnit("n1").run(machine, quiet)
    assert not unit.exists()
    assert dropin.exists()
    assert [call.split()[1] for call in calls(tmp_path)] == ["disable", "daemon-reload", "reset-failed"]
    machine.run(units.forget_unit("/etc/systemd/system/etcd.service"))
    assert [call.split()[1] for call in calls(tmp_path)[3:]] == ["daemon-reload", "reset-failed"]


def test_create_user(tmp_path: Path) -> None:
    """A system user that cannot log in; one that exists is left as it is."""
    made = host(tmp_path, getent="exit 2", id="exit 1", groupadd="", useradd="")
    CreateUser("n1", "etcd", "/srv/etcd").run(made, quiet)
    group, user = (call for call in calls(tmp_path) if call.startswith(("groupadd", "useradd")))
    assert group == "groupadd --system -- etcd"
    assert "--system --no-create-home --home-dir /srv/etcd --gid etcd" in user
    assert user.endswith("-- etcd")
    (tmp_path / "calls").unlink()
    there = host(tmp_path, getent="", id="", groupadd="", useradd="")
    CreateUser("n1", "etcd", "/srv/etcd").run(there, quiet)
    assert [call.split()[0] for call in calls(tmp_path)] == ["getent", "id"]


def test_steps_are_verb_phrases() -> None:
    """As they stand in a plan."""
    assert [
        str(step)
        for step in (
            CreateUser("n1", "etcd", "/d"),
            StartEtcd("n1"),
            MoveLeader("n1", "n2", 1, ()),
            MoveAside("n1", "/d", "S"),
            LoadUnit("n1"),
        )
    ] == [
        "create system user etcd",
        "start etcd",
        "hand leadership over to n2, if n1 leads",
        "move /d aside to /d.S",
        "load and enable etcd.service",
    ]
