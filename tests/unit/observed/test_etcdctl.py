"""etcdctl's answers, as etcdctl 3.4.23, 3.5.33, 3.6.14 and 3.7.1 really gave them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdctl_remote.desired.model import ClusterSpec, NodeSpec, PathsSpec, Version
from etcdctl_remote.observed import etcdctl
from etcdctl_remote.observed.state import Endpoint, Member

# One member, its quota of 1 MiB used up. 3.7 puts the spaces elsewhere.
ALARMED = {
    "3.4": '[{"Endpoint":"http://127.0.0.1:23790","Status":{"header":{"cluster_id":2631374622657682990,'
    '"member_id":11525266799836537009,"revision":8,"raft_term":2},"version":"3.4.23","dbSize":1826816,'
    '"leader":11525266799836537009,"raftIndex":14,"raftTerm":2,"raftAppliedIndex":14,'
    '"errors":["memberID:11525266799836537009 alarm:NOSPACE "],"dbSizeInUse":1826816}}]',
    "3.5": '[{"Endpoint":"http://127.0.0.1:23800","Status":{"header":{"cluster_id":7520572625155070378,'
    '"member_id":16481994070185819801,"revision":7,"raft_term":2},"version":"3.5.33","dbSize":2228224,'
    '"leader":16481994070185819801,"raftIndex":15,"raftTerm":2,"raftAppliedIndex":15,'
    '"errors":["memberID:16481994070185819801 alarm:NOSPACE "],"dbSizeInUse":1830912}}]',
    "3.6": '[{"Endpoint":"http://127.0.0.1:23810","Status":{"header":{"cluster_id":15396102115517207231,'
    '"member_id":18345667825416254370,"revision":8,"raft_term":2},"version":"3.6.14","dbSize":1826816,'
    '"leader":18345667825416254370,"raftIndex":15,"raftTerm":2,"raftAppliedIndex":15,'
    '"errors":["memberID:18345667825416254370 alarm:NOSPACE "],"dbSizeInUse":1826816,'
    '"storageVersion":"3.6.0","dbSizeQuota":1048576,"downgradeInfo":{}}}]',
    "3.7": '[{"Endpoint":"http://127.0.0.1:23820","Status":{"header":{"cluster_id":17577281218704458792,'
    '"member_id":15077012241364510018,"revision":7,"raft_term":2},"version":"3.7.1","dbSize":1228800,'
    '"leader":15077012241364510018,"raftIndex":15,"raftTerm":2,"raftAppliedIndex":15,'
    '"errors":["memberID:15077012241364510018  alarm:NOSPACE"],"dbSizeInUse":1224704,'
    '"storageVersion":"3.7.0","dbSizeQuota":1048576,"downgradeInfo":{}}}]',
}
SEEN = {
    "3.4": Endpoint(
        2631374622657682990, 11525266799836537009, "3.4.23", 11525266799836537009,
        2, 14, 14, 1826816, 1826816, False, 8, ("memberID:11525266799836537009 alarm:NOSPACE ",),
    ),
    "3.5": Endpoint(
        7520572625155070378, 16481994070185819801, "3.5.33", 16481994070185819801,
        2, 15, 15, 2228224, 1830912, False, 7, ("memberID:16481994070185819801 alarm:NOSPACE ",),
    ),
    "3.6": Endpoint(
        15396102115517207231, 18345667825416254370, "3.6.14", 18345667825416254370,
        2, 15, 15, 1826816, 1826816, False, 8, ("memberID:18345667825416254370 alarm:NOSPACE ",),
    ),
    "3.7": Endpoint(
        17577281218704458792, 15077012241364510018, "3.7.1", 15077012241364510018,
        2, 15, 15, 1228800, 1224704, False, 7, ("memberID:15077012241364510018  alarm:NOSPACE",),
    ),
}  # fmt: skip

# The member itself, and a learner that was added but never started: no name, no client URLs.
LISTS = {
    "3.4": '{"header":{"cluster_id":2631374622657682990,"member_id":11525266799836537009,"raft_term":2},'
    '"members":[{"ID":11525266799836537009,"name":"n1","peerURLs":["http://127.0.0.1:23791"],'
    '"clientURLs":["http://127.0.0.1:23790"]},{"ID":13082596876723482640,"peerURLs":["http://127.0.0.1:1"],'
    '"isLearner":true}]}',
    "3.5": '{"header":{"cluster_id":7520572625155070378,"member_id":16481994070185819801,"raft_term":2},'
    '"members":[{"ID":11085259441337947737,"peerURLs":["http://127.0.0.1:1"],"isLearner":true},'
    '{"ID":16481994070185819801,"name":"n1","peerURLs":["http://127.0.0.1:23801"],'
    '"clientURLs":["http://127.0.0.1:23800"]}]}',
    "3.6": '{"header":{"cluster_id":15396102115517207231,"member_id":18345667825416254370,"raft_term":2},'
    '"members":[{"ID":13064239948058862472,"peerURLs":["http://127.0.0.1:1"],"isLearner":true},'
    '{"ID":18345667825416254370,"name":"n1","peerURLs":["http://127.0.0.1:23811"],'
    '"clientURLs":["http://127.0.0.1:23810"]}]}',
    "3.7": '{"header":{"cluster_id":17577281218704458792,"member_id":15077012241364510018,"raft_term":2},'
    '"members":[{"ID":12205187936605073962,"peerURLs":["http://127.0.0.1:1"],"isLearner":true},'
    '{"ID":15077012241364510018,"name":"n1","peerURLs":["http://127.0.0.1:23821"],'
    '"clientURLs":["http://127.0.0.1:23820"]}]}',
}

# Asked while nobody listened: 3.4 and 3.5 print an empty list, later ones null.
NOBODY = {"3.4": "[]", "3.5": "[]", "3.6": "null", "3.7": "null"}

REFUSED = (
    '{"level":"warn","ts":"2026-11-21T06:28:09.007557Z","logger":"etcd-client","caller":'
    '"v3@v3.6.14/retry_interceptor.go:68","msg":"retrying of unary invoker failed","target":'
    '"etcd-endpoints://0x125c73262f00/127.0.0.1:23810","attempt":0,"error":"rpc error: code = '
    'DeadlineExceeded desc = latest balancer error: connection error: desc = \\"transport: Error while '
    'dialing: dial tcp 127.0.0.1:23810: connect: connection refused\\""}'
)

LINES = list(ALARMED)


@pytest.mark.parametrize("line", LINES)
def test_endpoint_status(line: str) -> None:
    """Every field of every release; ids are exact although they are beyond what a float holds."""
    found = etcdctl.endpoint(ALARMED[line])
    assert found == SEEN[line]
    assert found.member_id > 2**53


@pytest.mark.parametrize("line", LINES)
def test_nobody_answers(line: str) -> None:
    """An endpoint that does not answer is None: never an endpoint full of zeros."""
    assert etcdctl.endpoint(NOBODY[line]) is None


def test_zero_fields_are_left_out() -> None:
    """Without a leader, as a member that has lost its quorum says it of itself."""
    text = (
        '[{"Endpoint":"https://10.0.0.1:2379","Status":{"header":{"cluster_id":11061409699085444362,'
        '"member_id":7698742359351758462,"raft_term":2},"version":"3.6.14","raftIndex":8,"raftTerm":2,'
        '"errors":["etcdserver: no leader"]}}]'
    )
    assert etcdctl.endpoint(text) == Endpoint(
        11061409699085444362, 7698742359351758462, "3.6.14", 0, 2, 8, 0, 0, 0, False, 0,
        ("etcdserver: no leader",),
    )  # fmt: skip


def test_a_learner_says_so() -> None:
    """`isLearner` is there only when it is true."""
    status = json.loads(ALARMED["3.6"])
    status[0]["Status"]["isLearner"] = True
    found = etcdctl.endpoint(json.dumps(status))
    assert found == replace(SEEN["3.6"], learner=True)


@pytest.mark.parametrize("line", LINES)
def test_member_list(line: str) -> None:
    """Ordered by id; the learner that never started has neither a name nor client URLs."""
    found = etcdctl.members(LISTS[line])
    assert [member.id for member in found] == sorted(member.id for member in found)
    (learner,) = [member for member in found if member.learner]
    (voter,) = [member for member in found if not member.learner]
    assert learner == Member(learner.id, "", ("http://127.0.0.1:1",), (), learner=True)
    assert not learner.started
    assert voter.name == "n1"
    assert voter.started
    assert voter.id == SEEN[line].member_id


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ('[{"endpoint":"http://127.0.0.1:1","health":true,"took":"1.383097ms"}]', (True, 1.383097, "")),
        (
            '[{"endpoint":"http://127.0.0.1:1","health":false,"took":"3.051666ms",'
            '"error":"Active Alarm(s): NOSPACE "}]',
            (False, 3.051666, "Active Alarm(s): NOSPACE "),
        ),
        (
            '[{"endpoint":"http://127.0.0.1:1","health":false,"took":"2.001384914s",'
            '"error":"context deadline exceeded"}]',
            (False, 2001.384914, "context deadline exceeded"),
        ),
        ('[{"health":true}]', (True, None, "")),
        ('[{"health":"true"}]', (False, None, "")),
    ],
)
def test_endpoint_health(text: str, seen: tuple[bool, float | None, str]) -> None:
    """Healthy, how long it took in milliseconds, and why not; only a plain `true` is healthy."""
    assert etcdctl.health(text) == seen


READERS = (etcdctl.endpoint, etcdctl.members, etcdctl.health)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "etcdctl: not found",
        '"text"',
        "7",
        "[7]",
        "[[]]",
        '[{"Status":{}}]',
        '[{"Status":{"header":{"cluster_id":"12","member_id":1}}}]',
        '[{"Status":{"header":{"cluster_id":true,"member_id":1}}}]',
        '{"members":null}',
        '{"members":[{}]}',
        '{"members":[{"ID":1.5}]}',
        "[" * 100_000,
    ],
)
def test_other_answers_are_no_answers(reader: Any, text: str) -> None:
    """Garbage is one documented error, so that a caller can say "unknown"."""
    with pytest.raises(ValueError, match="not an answer to"):
        reader(text)


@pytest.mark.parametrize("text", [*ALARMED.values(), *LISTS.values()])
def test_a_torn_answer_is_no_answer(text: str) -> None:
    """Cut off anywhere, an answer is refused: half of it is never taken for all of it."""
    reader = etcdctl.endpoint if text.startswith("[") else etcdctl.members
    for cut in range(len(text) - 1):
        with pytest.raises(ValueError, match="not an answer to"):
            reader(text[:cut])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Status", "header", "members", "ID", "cluster_id", "member_id", "health"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
@settings(deadline=None, max_examples=150)
def test_any_json_is_read_or_refused(value: object) -> None:
    """Whatever comes: a value or a ValueError."""
    for reader in READERS:
        try:
            reader(json.dumps(value))
        except ValueError as error:
            assert "not an answer to" in str(error)  # noqa: PT017 (both ways are right)


# -- durations -------------------------------------------------------------------------------


def go(nanoseconds: int) -> str:
    """Write a duration as Go's `time.Duration.String` does."""
    if nanoseconds == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 10**3), ("ms", 10**6)):
        if nanoseconds < size * 1000:
            return f"{decimal(nanoseconds, size)}{unit}"
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = f"{decimal(rest, 10**9)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def decimal(value: int, size: int) -> str:
    """Divide exactly, without trailing zeros."""
    whole, rest = divmod(value, size)
    digits = str(rest).rjust(len(str(size)) - 1, "0").rstrip("0") if size > 1 else ""
    return f"{whole}.{digits}" if digits else str(whole)


@given(st.integers(0, 10**15))
@settings(deadline=None, max_examples=300)
def test_go_durations(nanoseconds: int) -> None:
    """Any duration that Go writes is read back to the nanosecond."""
    assert etcdctl.milliseconds(go(nanoseconds)) == pytest.approx(nanoseconds / 1e6, abs=1e-6, rel=1e-12)


@pytest.mark.parametrize(
    ("took", "seen"),
    [
        ("812.4µs", 0.8124),
        ("812.4us", 0.8124),
        ("1m2.5s", 62500.0),
        ("1h0m0.000000001s", 3600000.000001),
        ("5m", 300000.0),
        ("5ms", 5.0),
        ("", None),
        ("soon", None),
    ],
)
def test_durations_one_by_one(took: str, seen: float | None) -> None:
    """Minutes are not milliseconds, and nothing at all is no duration."""
    assert etcdctl.milliseconds(took) == seen


# -- errors ----------------------------------------------------------------------------------


ERRORS = Path(__file__).parent / "errors"
"""What etcdctl printed on real nodes when it failed, `@@what was wrong: what was asked` before each."""

FAILED = {
    (path.stem, title): text
    for path in sorted(ERRORS.glob("*.txt"))
    for title, _, text in (block.partition("\n") for block in path.read_text("utf-8").split("@@")[1:])
}
CAUSES = {
    "closed port": "dial tcp 10.230.244.11:2999: connect: connection refused",
    "wrong ca": "authentication handshake failed: tls: failed to verify certificate: "
    "x509: certificate signed by unknown authority",
    "no quorum": "context deadline exceeded",
    "auth": "etcdserver: user name not found",
}
OLD = "authentication handshake failed: x509: certificate signed by unknown authority"


@pytest.mark.parametrize(("version", "title"), FAILED)
def test_the_cause_is_told(version: str, title: str) -> None:
    """Not that time ran out, but what was tried meanwhile; 3.4 tells the cause to `endpoint status` only."""
    wrong, _, asked = title.partition(": ")
    told = CAUSES[wrong]
    if version == "3.4.23" and wrong in ("closed port", "wrong ca"):
        told = "no connection to etcd could be made"
        if asked == "status":
            told = CAUSES[wrong] if wrong == "closed port" else OLD
    assert etcdctl.error_line(FAILED[version, title]) == told


def test_every_line_of_releases_is_among_them() -> None:
    """Each minor says it in its own way."""
    assert {version[:3] for version, _ in FAILED} == {"3.4", "3.5", "3.6", "3.7"}


@pytest.mark.parametrize(
    ("stderr", "told"),
    [
        (
            f"{REFUSED}\nError: context deadline exceeded\n",
            "dial tcp 127.0.0.1:23810: connect: connection refused",
        ),
        (
            f"null\n{REFUSED}\nFailed to get the status of endpoint http://x (etcdserver: no leader)\n",
            "etcdserver: no leader",
        ),
        (REFUSED, "dial tcp 127.0.0.1:23810: connect: connection refused"),
        ("Error: rpc error: code = Unknown desc = context deadline exceeded", "context deadline exceeded"),
        ("Error: unhealthy cluster", "unhealthy cluster"),
        ("[]\n\n", ""),
        ("", ""),
        ('{"level":"warn","msg":"unrecognized environment variable"}', ""),
        ('{"torn":', ""),
        ("{not json}", ""),
        ('{"error":null}\n{"error":7}', "7"),
        ("/usr/local/bin/etcdctl: not found", "/usr/local/bin/etcdctl: not found"),
    ],
)
def test_error_line(stderr: str, told: str) -> None:
    """The last word of etcdctl: plain text first, unless it is vague; else the last error it logged."""
    assert etcdctl.error_line(stderr) == told


@given(st.text(alphabet='{}[]":,\nernol 1', max_size=60))
@settings(deadline=None, max_examples=200)
def test_error_line_never_fails(stderr: str) -> None:
    """It is called when something is wrong already."""
    assert isinstance(etcdctl.error_line(stderr), str)


def test_argv() -> None:
    """The node's own endpoint and certificates; an IPv6 address has its brackets."""
    node = NodeSpec("n1", "h1", address="fd00::1")
    cluster = ClusterSpec(
        "demo", Version(3, 6, 14), (node,), Path("i.yaml"), paths=PathsSpec("/opt/bin", "/srv/etcd")
    )
    assert etcdctl.argv(cluster, node) == (
        "/opt/bin/etcdctl",
        "--endpoints=https://[fd00::1]:2379",
        "--cacert=/srv/etcd/pki/current/ca.crt",
        "--cert=/srv/etcd/pki/current/etcdctl.crt",
        "--key=/srv/etcd/pki/current/etcdctl.key",
    )
