"""Desired minus observed: each difference alone leads to the one step that mends it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdctl_remote.desired.hostspec import UNIT_PATH
from etcdctl_remote.desired.spec import DirSpec, FileSpec, HostSpec, LinkSpec
from etcdctl_remote.observed.state import HostState, PathState, Told, UnitState
from etcdctl_remote.plan.reconcile import files
from etcdctl_remote.plan.steps import InstallUnit, LoadUnit, WriteFiles, titles
from etcdctl_remote.secret import Secret

ENV = FileSpec("/etc/etcd/etcdctl.env", b"A=1\nB=2\n", 0o640, group="etcd")
KEY = FileSpec("/etc/etcd/pki/g1/server.key", Secret(b"key material"), 0o640, group="etcd")
CRT = FileSpec("/etc/etcd/pki/g1/server.crt", b"certificate\n")
UNIT = FileSpec(UNIT_PATH, b"[Service]\nExecStart=etcd\n")
CONFIG = DirSpec("/etc/etcd", 0o750, "root", "etcd")
DATA = DirSpec("/var/lib/etcd", 0o700, "etcd", "etcd")
CURRENT = LinkSpec("/etc/etcd/pki/current", "g1")
WANT = HostSpec("n1", (CONFIG, DATA), (UNIT, ENV, KEY, CRT), (CURRENT,), "digest")
RIGHT = UnitState(enabled="enabled")


def as_it_should_be() -> HostState:
    """A host that is exactly as wanted."""
    paths = {each.path: PathState("directory", each.mode, each.owner, each.group) for each in WANT.dirs}
    for file in WANT.files:
        text = None if file.secret or file.path.endswith(".crt") else file.data.decode()
        paths[file.path] = PathState("file", file.mode, file.owner, file.group, file.sha256, text)
    paths[CURRENT.path] = PathState("link", 0o777, "root", "root", target=CURRENT.target)
    return HostState("n1", paths=paths, unit=RIGHT)


def but(path: str, **changes: object) -> HostState:
    """As it should be, but for one path."""
    now = as_it_should_be()
    return replace(now, paths={**now.paths, path: replace(now.paths[path], **changes)})  # type: ignore[arg-type]


def without(path: str) -> HostState:
    """As it should be, but one path is not there."""
    now = as_it_should_be()
    return replace(now, paths={name: state for name, state in now.paths.items() if name != path})


def written(now: HostState) -> WriteFiles:
    """The one step, which writes."""
    (step,) = files(WANT, now)
    assert isinstance(step, WriteFiles)
    return step


def touched_by(step: WriteFiles) -> set[str]:
    """Every path that a step writes."""
    return {*(f.path for f in step.files), *(d.path for d in step.dirs), *(link.path for link in step.links)}


def test_no_difference_is_no_step() -> None:
    """Nothing to do means nothing at all."""
    assert files(WANT, as_it_should_be()) == []


def test_paths_nobody_asked_for_are_left_alone() -> None:
    """More files on the host than wanted are not ours to judge."""
    now = as_it_should_be()
    more = {**now.paths, "/etc/etcd/notes": PathState("file", 0o777, "joe", "joe", "ff", "x")}
    assert files(WANT, replace(now, paths=more)) == []


OTHER = {"mode": 0o600, "owner": "joe", "group": "joe"}


@pytest.mark.parametrize("file", [ENV, KEY, CRT], ids=lambda file: file.path)
@pytest.mark.parametrize(
    "change", [{"sha256": "0" * 64}, {"sha256": None}, {"kind": "link"}, {"kind": "directory"}]
)
def test_other_content_writes_that_file_only(file: FileSpec, change: dict[str, object]) -> None:
    """Other bytes, or no regular file at all."""
    step = written(but(file.path, **change))
    assert (step.files, step.dirs, step.links) == ((file,), (), ())
    assert str(step) == f"write {file.path}"
    assert file.path in step.diff


@pytest.mark.parametrize("file", [ENV, KEY, CRT], ids=lambda file: file.path)
@pytest.mark.parametrize("aspect", OTHER)
def test_other_rights_write_that_file_only(file: FileSpec, aspect: str) -> None:
    """Mode, owner or group; the diff shows rights, and the key's nothing else."""
    step = written(but(file.path, **{aspect: OTHER[aspect]}))
    assert step.files == (file,)
    if not file.secret:
        assert step.diff == (
            f"{file.path}: "
            + {"mode": "0600 root", "owner": f"{file.mode:04o} joe", "group": f"{file.mode:04o} root"}[aspect]
            + (":joe" if aspect == "group" else f":{file.group}")
            + f" → {file.mode:04o} root:{file.group}"
        )


@pytest.mark.parametrize("path", [ENV.path, KEY.path, CRT.path, CONFIG.path, DATA.path, CURRENT.path])
def test_what_is_missing_is_made(path: str) -> None:
    """Each kind alone."""
    step = written(without(path))
    assert touched_by(step) == {path}
    assert path in step.diff


@pytest.mark.parametrize("directory", [CONFIG, DATA], ids=lambda each: each.path)
@pytest.mark.parametrize("change", [*({aspect: OTHER[aspect]} for aspect in OTHER), {"kind": "file"}])
def test_a_directory_with_other_rights(directory: DirSpec, change: dict[str, object]) -> None:
    """Only the directory itself is mended; what is in it stays."""
    step = written(but(directory.path, **change))
    assert (step.files, step.dirs, step.links) == ((), (directory,), ())
    assert step.diff == f"{directory.path}/: {directory.mode:04o} {directory.owner}:{directory.group}"


@pytest.mark.parametrize("change", [{"target": "g0"}, {"kind": "file", "target": None}])
def test_a_link_that_points_elsewhere(change: dict[str, object]) -> None:
    """Or that is no link."""
    step = written(but(CURRENT.path, **change))
    assert (step.files, step.dirs, step.links) == ((), (), (CURRENT,))
    assert step.diff.endswith("→ g1")


def test_the_rights_of_a_link_are_no_difference() -> None:
    """Links have none."""
    assert files(WANT, but(CURRENT.path, owner="joe", mode=0o755)) == []


@pytest.mark.parametrize("change", [{"sha256": "0" * 64, "text": "[Service]\nNice=1\n"}, {"mode": 0o600}])
def test_another_unit_is_installed_alone(change: dict[str, object]) -> None:
    """The unit has a step of its own: it is linted first and read by systemd afterwards."""
    (step,) = files(WANT, but(UNIT_PATH, **change))
    assert isinstance(step, InstallUnit)
    assert step.unit == UNIT


@pytest.mark.parametrize(("was", "said"), [("/usr/local/bin", False), ("/opt/bin", True)])
def test_links_of_a_former_place_are_told_to_stay(was: str, said: bool) -> None:
    """Others may use them by now, and the member's own etcdctl is called by them until it restarts."""
    link = LinkSpec("/usr/local/bin/etcdctl", "/opt/etcd/v3.6.14/etcdctl")
    now = replace(
        but(UNIT_PATH, sha256="0" * 64), told=Told("/var/lib/etcd", "", "/etc/etcd", f"{was}/etcdctl", "")
    )
    step = files(replace(WANT, links=(CURRENT, link)), now)[-1]
    assert ("etcdctl.sh in /opt/bin stay" in str(step)) is said


def test_the_unit_goes_last() -> None:
    """It must never name a file that is not there yet."""
    write, install = files(WANT, HostState("n1"))
    assert isinstance(write, WriteFiles)
    assert isinstance(install, InstallUnit)
    assert UNIT not in write.files
    assert (write.dirs, write.links) == (WANT.dirs, WANT.links)


@pytest.mark.parametrize("unit", [replace(RIGHT, needs_reload=True), replace(RIGHT, enabled="disabled")])
def test_a_unit_that_systemd_has_not_taken_up(unit: UnitState) -> None:
    """Not read, or not enabled: what a cut-off run left undone."""
    assert files(WANT, replace(as_it_should_be(), unit=unit)) == [LoadUnit("n1")]


def test_a_new_unit_is_loaded_once() -> None:
    """Installing it loads and enables it: no second step for that."""
    now = replace(without(UNIT_PATH), unit=UnitState(needs_reload=True))
    (step,) = files(WANT, now)
    assert isinstance(step, InstallUnit)


def test_the_diff_of_a_text() -> None:
    """As `diff -u` would show it."""
    step = written(but(ENV.path, sha256="0" * 64, text="A=1\nB=3\n"))
    assert step.diff.splitlines() == [
        "--- /etc/etcd/etcdctl.env", "+++ /etc/etcd/etcdctl.env", "@@ -1,2 +1,2 @@", " A=1", "-B=3", "+B=2",
    ]  # fmt: skip


def test_a_difference_that_no_line_shows() -> None:
    """A missing line end at the end of the file, or those of another system."""
    for text in ("A=1\nB=2", "A=1\r\nB=2\r\n"):
        step = written(but(ENV.path, sha256="0" * 64, text=text))
        assert step.diff == "/etc/etcd/etcdctl.env: 0640 root:etcd (only line ends differ)"


def test_titles() -> None:
    """The first three and how many more."""
    assert titles(["/a", "/b"]) == "/a, /b"
    assert titles(["/a", "/b", "/c", "/d", "/e"]) == "/a, /b, /c and 2 more"


ASPECTS = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from([0o600, 0o777]),
        "owner": st.sampled_from(["joe", "root"]),
        "group": st.sampled_from(["joe", "etcd", "root"]),
        "sha256": st.sampled_from([None, "0" * 64]),
        "kind": st.sampled_from(["file", "link", "directory", "other"]),
        "target": st.sampled_from([None, "g0", "g1"]),
    },
)


@given(st.dictionaries(st.sampled_from(sorted(as_it_should_be().paths)), st.none() | ASPECTS))
@settings(deadline=None, max_examples=150)
def test_any_mixture_is_mended_in_one_go(changes: dict[str, dict[str, object] | None]) -> None:
    """Carrying the steps out leaves nothing to do, and touches nothing that was right."""
    now = as_it_should_be()
    paths = dict(now.paths)
    for path, change in changes.items():
        if change is None:
            del paths[path]
        else:
            paths[path] = replace(paths[path], **change)  # type: ignore[arg-type]
    touched: set[str] = set()
    for step in files(WANT, replace(now, paths=paths)):
        if isinstance(step, WriteFiles):
            touched |= touched_by(step)
        elif isinstance(step, InstallUnit):
            touched.add(step.unit.path)
    assert touched <= set(changes)
    right = as_it_should_be().paths
    mended = {**paths, **{path: right[path] for path in touched}}
    assert files(WANT, replace(now, paths=mended)) == []
