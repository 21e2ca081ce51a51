"""One round trip to a host: what real hosts said, and what torn or hostile answers become.

The files in `data/` are what the script printed on Debian 12 with etcd 3.6.14: on a fresh
host, after a deploy, with the two other members stopped, on a stopped member, and where the
data was wiped, another file put there, a drop-in added and the unit touched. `old-release` and
`from-memory` are etcd 3.4.23's, the latter right after the two other members were killed.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdctl_remote.desired.hostspec import UNIT_PATH
from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, PathsSpec, PortsSpec, Version
from etcdctl_remote.errors import Failed
from etcdctl_remote.observed.observe import ETCDCTL_TIMEOUT, Question, command, observe, parse
from etcdctl_remote.observed.state import (
    Data,
    Endpoint,
    HostState,
    Marker,
    Member,
    PathState,
    Told,
    UnitState,
)
from etcdctl_remote.plan.execute import FRESH
from etcdctl_remote.remote.host import Command, Result

DATA = Path(__file__).parent / "data"
CLUSTER_ID, N1, N2, N3 = 0x99820583F50C650A, 0x6AD76D62DA6A0E7E, 0xC15F70BB9A62D935, 0xAE3E67EB6E3CBEC7
DIGEST = "9a210587452da17ce324af6c8a6c59025fdfa56e9faadc889effb3b340714554"
ANSWERS = {path.stem: path.read_text("utf-8") for path in sorted(DATA.glob("*.txt"))}


def seen(name: str) -> HostState:
    """Return what a stored answer means."""
    return parse("n1", ANSWERS[name])


def member(name: str, id: int, last: int) -> Member:
    base = f"https://10.212.158.{last}"
    return Member(id, name, (f"{base}:2380",), (f"{base}:2379",))


def test_a_fresh_host() -> None:
    """Nothing is there, and everything says so."""
    found = seen("fresh")
    assert replace(found, clock=0.0) == HostState("n1", arch="amd64", unit=UnitState(result="success"))
    assert found.clock == 1795242735.594963345


def test_a_deployed_member() -> None:
    """Everything that decides, from one answer."""
    found = seen("deployed")
    assert found.unit == UnitState(
        "active", "running", "enabled", UNIT_PATH, False, "success", 445, 0, DIGEST, "/opt/etcd/v3.6.14/etcd"
    )
    assert (found.arch, found.user_exists, found.releases) == ("amd64", True, frozenset({"3.6.14"}))
    assert (found.data, found.wal, found.dropins_hash) == (Data.MEMBER, Data.ABSENT, "")
    assert found.marker == Marker("obs", CLUSTER_ID, N1, "n1")
    assert found.endpoint == Endpoint(CLUSTER_ID, N1, "3.6.14", N1, 2, 8, 8, 20480, 16384, False, 1)
    assert found.members == (member("n1", N1, 11), member("n3", N3, 13), member("n2", N2, 12))
    assert found.serving
    assert (found.endpoint_error, found.members_error) == ("", "")


def test_the_command_line_of_a_process() -> None:
    """Without the program itself; one that a drop-in gives is the operator's own."""
    line = "\n@@flags\n/usr/local/bin/etcd\n--name=n1\n--pre-vote=true\n"
    assert parse("n1", line).unit.flags == ("--name=n1", "--pre-vote=true")
    assert parse("n1", f"{line}\n@@commanded\n/etc/systemd/system/etcd.service.d/x.conf\n").unit.flags is None
    assert seen("deployed").unit.flags is None
    program = "/opt/etcd/v3.6.14/etcd"
    for emulator in ("/usr/bin/qemu-aarch64-static", f"/usr/libexec/qemu-binfmt/aarch64-binfmt-P\n{program}"):
        emulated = f"\n@@flags\n{emulator}\n{program}\n--name=n1\n--wal-dir=/wal/etcd\n"
        assert parse("n1", emulated).unit.flags == ("--name=n1", "--wal-dir=/wal/etcd")


def test_drop_ins_keep_their_names() -> None:
    """Blanks in a path are part of it, those around a key are not."""
    path = "/etc/systemd/system/etcd.service.d/my own.conf"
    found = parse(
        "n1", f"\n@@dropins\nabc  {path}\n@@emptied\n{path}:  ExecStartPost =\n@@missing\n/b/etcd\n"
    )
    assert (found.dropins, found.emptied, found.missing) == (
        (path,),
        (f"{path}:ExecStartPost=",),
        ("/b/etcd",),
    )


def test_the_paths_of_a_deployed_member() -> None:
    """Kinds, rights, sums, link targets; the content of what may be shown, and of nothing else."""
    paths = seen("deployed").paths
    assert paths["/var/lib/etcd"] == PathState("directory", 0o700, "etcd", "etcd")
    assert paths["/etc/etcd/pki/current"] == PathState(
        "link", 0o777, "root", "root", target="37a866c19eae721e"
    )
    unit = paths[UNIT_PATH]
    assert (unit.kind, unit.mode, unit.owner, unit.group) == ("file", 0o644, "root", "root")
    assert unit.sha256 == "d4db6ad853b32987ac836784abf7c4d07e2e587d00b8e9b10bf6282505a74855"
    assert unit.text
    assert "--initial-cluster-state=existing" in unit.text
    material = {path: state for path, state in paths.items() if path.endswith((".key", ".crt"))}
    assert len(material) == 8
    assert all(state.sha256 and state.text is None for state in material.values())
    assert {state.mode for path, state in material.items() if path.endswith(".key")} == {0o640}


def test_what_the_installed_unit_says() -> None:
    """Where things are and whose they are; nothing at all where no etcd of ours is installed."""
    lines = (
        "data=/d",
        "wal=",
        "config=/etc/etcd",
        "etcdctl=/b/etcdctl",
        "endpoint=https://[::1]:1",
        "token=ab",
    )
    told = parse("n1", "\n@@told\n" + "\n".join(lines)).told
    assert told == Told("/d", "", "/etc/etcd", "/b/etcdctl", "https://[::1]:1", "ab")
    assert parse("n1", "\n@@unit\n").told is None


def test_a_member_without_a_quorum() -> None:
    """It answers for itself, without a leader, and no member list can be read: not serving."""
    found = seen("no-quorum")
    assert found.endpoint
    assert (found.endpoint.leader, found.endpoint.errors) == (0, ("etcdserver: no leader",))
    assert found.members is None
    assert found.members_error == "context deadline exceeded"
    assert not found.serving
    assert found.unit.running


def test_a_release_that_lists_from_memory() -> None:
    """3.4 still names a leader and gives the list, and has no quorum: only a read tells that."""
    found = seen("from-memory")
    assert found.endpoint
    assert found.endpoint.leader not in (0, found.endpoint.member_id)
    assert '"members":[{"ID"' in ANSWERS["from-memory"]
    assert (found.members, found.members_error) == (None, "context deadline exceeded")
    assert not found.serving
    assert seen("old-release").serving


@pytest.mark.parametrize(
    ("was", "is_"),
    [
        ("\n@@read\n", "\n@@other\n"),
        ("\n@@read\n0\n", "\n@@read\n1\n"),
        ('"health":true', '"health":false'),
    ],
)
def test_a_list_from_memory_proves_nothing(was: str, is_: str) -> None:
    """Without a read that went through, a member of 3.4 does not serve, whatever else it says."""
    text = ANSWERS["old-release"]
    assert text.count(was) == 1
    found = parse("n1", text.replace(was, is_))
    assert (found.members, found.serving) == (None, False)
    assert found.members_error


def test_an_unknown_version_may_list_from_memory() -> None:
    """With a denied status only the program's path tells the version; any other path tells none."""
    assert seen("denied").serving
    for program in ("/opt/etcd/v3.4.45/etcd", "/usr/bin/etcd", ""):
        found = parse("n1", ANSWERS["denied"].replace("/opt/etcd/v3.5.30/etcd", program))
        assert (found.members, found.serving) == (None, False)


def test_a_stopped_member() -> None:
    """No process, so nothing was asked; the data and the marker are there."""
    found = seen("stopped")
    assert not found.unit.running
    assert found.unit.digest is None
    assert (found.endpoint, found.members, found.endpoint_error) == (None, None, "")
    assert (found.data, found.marker) == (Data.MEMBER, Marker("obs", CLUSTER_ID, N2, "n2"))


def test_a_wiped_member() -> None:
    """Files that are not etcd's, a marker, a drop-in, a unit that systemd has not read."""
    found = seen("wiped")
    assert (found.data, found.marker) == (Data.OTHER, Marker("obs", CLUSTER_ID, N3, "n3"))
    assert found.unit.needs_reload
    assert len(found.dropins_hash) == 64


# -- torn and hostile ------------------------------------------------------------------------


def test_nothing_is_unknown_not_absent() -> None:
    """An empty answer never looks like an empty data directory."""
    found = parse("n1", "")
    assert found.data is Data.UNKNOWN
    assert (found.endpoint, found.members, found.marker) == (None, None, None)
    assert not found.serving


def test_torn_answers_are_never_wrong() -> None:
    """Cut off anywhere, nothing is claimed that the whole answer does not say."""
    whole = seen("deployed")
    text = ANSWERS["deployed"]
    for cut in range(0, len(text), 29):
        found = parse("n1", text[:cut])
        assert found.data in (Data.UNKNOWN, whole.data)
        assert found.endpoint in (None, whole.endpoint)
        assert found.members in (None, whole.members)
        assert found.releases <= whole.releases


def test_a_torn_marker_is_still_a_marker() -> None:
    """What cannot be read says at least: a member lived here."""
    text = ANSWERS["deployed"]
    cut = text.index('"cluster_id"')
    assert parse("n1", text[:cut]).marker == Marker("", 0, 0, "")


@pytest.mark.parametrize(
    "content", ["{}", "[]", "7", "null", '{"cluster":"c","cluster_id":"zz","member_id":"1","name":"n"}']
)
def test_an_unreadable_marker_belongs_to_nobody(content: str) -> None:
    """It is neither absent nor ours."""
    assert parse("n1", f"@@marker\n{content}\n").marker == Marker("", 0, 0, "")


@pytest.mark.parametrize(
    "section",
    [
        "@@data\nsoon",
        "@@unit\nMainPID=many\nActiveState",
        "@@unit\nMainPID=" + "9" * 5000,
        "@@host\nx86_64\nyesterday",
        "@@host\nx86_64\nnan",
        "@@releases\nx\n/opt/etcd/v3.6.14\n/opt/etcd/v/.complete",
        "@@stat\n/etc|directory\n/x|directory|999|root|root\n|||||",
        "@@stat\n/x|regular file|644|root|root\n@@texts\n/x|not base64!\n/y",
        "@@links\nno bar",
        "@@sums\nno gap",
        "@@status\n0",
        "@@status\n0\n[7]",
        '@@status\n0\n{"header":1}',
        "@@members\n0\n[]",
        '@@members\n0\n{"header":{},"members":null}',
        "@@members\nboom",
        '@@members\n1\n{"broken\nError: x\x00y',
    ],
)
def test_hostile_sections(section: str) -> None:
    """Every section may hold anything: what cannot be read is unknown."""
    found = parse("n1", section + "\n")
    assert not found.serving
    assert found.data is Data.UNKNOWN
    assert (found.clock, found.unit.pid) == (0.0, 0)
    assert found.releases == frozenset()


NAMES = [
    "unit",
    "host",
    "user",
    "releases",
    "data",
    "process",
    "marker",
    "dropins",
    "emptied",
    "commanded",
    "flags",
    "stat",
    "links",
]
NAMES += ["sums", "texts", "status", "members", "end", "other"]
FRAGMENTS = st.sampled_from(
    [line for text in ANSWERS.values() for line in text.splitlines() if line and len(line) < 400]
)
LINE = FRAGMENTS | st.text(max_size=30) | st.sampled_from(["0", "1", "[]", "null", "{}", "[[", '{"header"'])


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.lists(LINE, max_size=4)), max_size=8))
@settings(deadline=None, max_examples=150)
def test_parse_never_fails(sections: list[tuple[str, list[str]]]) -> None:
    """Arbitrary lines in arbitrary sections give a state, and never one that serves by accident."""
    text = "".join(f"\n@@{name}\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections)
    found = parse("n1", text)
    assert found.node == "n1"
    assert isinstance(found.data, Data)


@given(st.randoms(use_true_random=False), st.sampled_from(sorted(ANSWERS)))
@settings(deadline=None, max_examples=100)
def test_shuffled_and_mutated_answers(chance: random.Random, name: str) -> None:
    """Real answers with lines lost, doubled, swapped or scratched never break the parser."""
    lines = ANSWERS[name].splitlines()
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(lines))
        change = chance.choice(["drop", "double", "swap", "scratch"])
        if change == "drop" and len(lines) > 1:
            del lines[at]
        elif change == "double":
            lines.insert(at, lines[at])
        elif change == "swap":
            other = chance.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif lines[at]:
            hit = chance.randrange(len(lines[at]))
            lines[at] = lines[at][:hit] + chance.choice('{}[]"|@\x00é0') + lines[at][hit + 1 :]
    assert parse("n1", "\n".join(lines)).node == "n1"


# -- asking ----------------------------------------------------------------------------------

NODE = NodeSpec("n1", "h1", address="10.0.0.1")


def cluster(paths: PathsSpec | None = None) -> ClusterSpec:
    return ClusterSpec(
        "demo", Version(3, 6, 14), (NODE,), Path("i.yaml"), paths=paths or PathsSpec(), ports=PortsSpec(12379)
    )


class Canned:
    """A host that answers what it was given."""

    name = "n1"

    def __init__(self, stdout: str, stderr: str = "") -> None:
        self.result = Result(0, stdout.encode(), stderr.encode())
        self.asked: list[Command] = []

    def run(self, command: Command, stdin: object = b"", **options: object) -> Result:
        self.asked.append(command)
        return self.result


def asked(host: Canned) -> HostState:
    return observe(cluster(), Question(NODE, ("/etc/etcd",)), host)  # type: ignore[arg-type]


def test_one_round_trip_that_only_reads() -> None:
    """One command, allowed on a read-only connection; paths and the endpoint are arguments."""
    stdout, stderr = ANSWERS["deployed"].split("\n@@end\n")
    host = Canned(stdout + "\n@@end\n", stderr)
    found = asked(host)
    (sent,) = host.asked
    assert not sent.writes
    assert "https://10.0.0.1:12379" in sent.args
    assert sent.args[-1] == "/etc/etcd"
    assert "10.0.0.1" not in sent.script
    assert replace(found, asked_at=0.0) == seen("deployed")
    assert found.asked_at > 0


def test_a_cut_off_answer_is_refused() -> None:
    """Without its last line an answer is no answer, whatever the exit code said."""
    stdout = ANSWERS["deployed"].split("\n@@end\n")[0]
    with pytest.raises(Failed, match="n1: observe: the answer was cut off after"):
        asked(Canned(stdout))


def test_a_hanging_member_does_not_spoil_the_observation() -> None:
    """etcdctl gives up before the whole observation is too old to decide anything."""
    assert FRESH >= ETCDCTL_TIMEOUT + 0.4
    assert f"{ETCDCTL_TIMEOUT:g}s" in command(cluster(), Question(NODE, ())).args
