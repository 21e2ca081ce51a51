"""`status`, `health` and `check` as they are shown."""

from __future__ import annotations

import json

import pytest

from etcdctl_remote.console import reports
from etcdctl_remote.console.style import ansi, plain
from etcdctl_remote.observed.etcdctl import milliseconds
from etcdctl_remote.observed.findings import Finding, Result
from etcdctl_remote.observed.report import EndpointHealth, Health, Status, StatusRow

STATUS = Status(
    "demo",
    0xC1,
    "3.6.14",
    "n1",
    0,
    (
        StatusRow("n1", 0xA1, "leader", "3.6.14", 20480, 16384, 3, 1000, 0, cert_days=365),
        StatusRow("n2", 0xA2, "voter", "3.6.14", 26214400, 16384, 3, 998, 2, ("NOSPACE",), 12),
        StatusRow("n3", 0xA3, "unreachable", error="timed out"),
        StatusRow(None, 0xA4, "unstarted", error="a stranger"),
    ),
    ("do something",),
)

SHOWN = """\
demo, cluster id c1, etcd 3.6.14, leader n1
NODE  MEMBER ID  ROLE         VERSION  DB SIZE  IN USE  TERM  INDEX  LAG  ALARMS   CERT DAYS  ERROR
n1    a1         leader       3.6.14    20 KiB  16 KiB     3   1000    0  none           365
n2    a2         voter        3.6.14    25 MiB  16 KiB     3    998    2  NOSPACE         12
n3    a3         unreachable  -              -       -     -      -    -  -                -  timed out
-     a4         unstarted    -              -       -     -      -    -  -                -  a stranger
tolerates the loss of 0 more: one more lost member stops all writes
→ do something"""


def test_status_is_one_table() -> None:
    """Every column the operator asks for; a dash is what was not seen."""
    assert reports.status_table(STATUS).text(plain) == SHOWN


def test_status_of_a_healthy_cluster_has_no_error_column() -> None:
    """An empty column would only take width."""
    healthy = Status("demo", 1, "3.6.14", "n1", 1, STATUS.members[:1])
    lines = reports.status_table(healthy).text(plain).splitlines()
    assert lines[1].endswith("CERT DAYS")
    assert lines[-1] == "tolerates the loss of 1 more"


def test_a_lost_quorum_is_said_plainly() -> None:
    """No arithmetic with -1."""
    text = reports.status_table(Status("demo", None, None, None, -1, STATUS.members[2:3])).text(plain)
    assert text.splitlines()[0] == "demo, no cluster id seen, no version seen, no leader"
    assert text.splitlines()[-1] == (
        "there is no quorum: the cluster takes no writes until lost members are back"
    )


def test_what_cannot_be_told_is_not_called_lost() -> None:
    """Where etcd denies the answer, nobody knows of a quorum, or of no leader."""
    text = reports.status_table(Status("demo", 0xC1, None, None, None, STATUS.members[2:3])).text(plain)
    assert text.splitlines()[0] == "demo, cluster id c1, no version seen, no leader seen"
    assert text.splitlines()[-1] == (
        "it cannot be told whether there is a quorum: etcd's auth denies the answer"
    )


def test_trouble_is_red_on_a_terminal() -> None:
    """Leader green; unreachable, alarms and short-lived certificates red."""
    text = reports.status_table(STATUS).text(ansi)
    assert "\x1b[32mleader\x1b[0m" in text
    for red in ("unreachable", "NOSPACE", "12"):
        assert f"\x1b[31m{red}\x1b[0m" in text


def test_the_status_document() -> None:
    """Ids are hex strings, null is what was not seen, and it survives JSON."""
    document = reports.status_document(STATUS)
    assert json.loads(json.dumps(document)) == document
    assert {key: document[key] for key in ("cluster", "cluster_id", "version", "leader", "tolerates")} == {
        "cluster": "demo",
        "cluster_id": "c1",
        "version": "3.6.14",
        "leader": "n1",
        "tolerates": 0,
    }
    members = document["members"]
    assert isinstance(members, list)
    assert members[1] == {
        "node": "n2",
        "id": "a2",
        "role": "voter",
        "version": "3.6.14",
        "db_size": 26214400,
        "db_in_use": 16384,
        "raft_term": 3,
        "raft_index": 998,
        "applied_lag": 2,
        "alarms": ["NOSPACE"],
        "cert_days": 12,
        "error": None,
        "denied": False,
    }
    assert (members[3]["node"], members[2]["version"]) == (None, None)


HEALTH = Health(
    "demo",
    (
        EndpointHealth("n1", "https://172.27.129.105:2379", True, 2.192932),
        EndpointHealth("n2", "https://172.27.129.111:2379", False, 5000.1, "context deadline exceeded"),
        EndpointHealth("n3", "https://172.27.129.112:2379", False, None, "Active Alarm(s): NOSPACE "),
    ),
)


def test_health_speaks_etcdctls_words() -> None:
    """Line for line what `etcdctl endpoint health` prints (printer_simple.go)."""
    assert reports.health_table(HEALTH).text(plain) == (
        "https://172.27.129.105:2379 is healthy: successfully committed proposal: took = 2.192932ms\n"
        "https://172.27.129.111:2379 is unhealthy: failed to commit proposal: context deadline exceeded\n"
        "https://172.27.129.112:2379 is unhealthy: failed to commit proposal: Active Alarm(s): NOSPACE"
    )


@pytest.mark.parametrize("took", ["812.4µs", "2.192932ms", "1.000000001s", "5.0123s", "1m2.5s"])
def test_the_time_is_etcdctls_own(took: str) -> None:
    """What etcdctl told in JSON comes out as it went in."""
    health = Health("demo", (EndpointHealth("n1", "https://a:2379", True, milliseconds(took)),))
    assert reports.health_table(health).text(plain).endswith(f"took = {took}")


def test_a_member_that_could_not_be_asked_failed_nothing() -> None:
    """etcdctl's words are for what etcd was asked."""
    health = Health("demo", (EndpointHealth("n1", "https://a:2379", False, None, "no sudo", asked=False),))
    assert reports.health_table(health).text(plain) == (
        "https://a:2379 is unhealthy: it could not be asked: no sudo"
    )


def test_the_health_document() -> None:
    """The shape that scripts rely on."""
    assert reports.health_document(HEALTH) == {
        "cluster": "demo",
        "healthy": False,
        "endpoints": [
            {
                "node": "n1",
                "endpoint": "https://172.27.129.105:2379",
                "healthy": True,
                "took_ms": 2.192932,
                "error": None,
            },
            {
                "node": "n2",
                "endpoint": "https://172.27.129.111:2379",
                "healthy": False,
                "took_ms": 5000.1,
                "error": "context deadline exceeded",
            },
            {
                "node": "n3",
                "endpoint": "https://172.27.129.112:2379",
                "healthy": False,
                "took_ms": None,
                "error": "Active Alarm(s): NOSPACE ",
            },
        ],
    }


def test_check_ends_with_what_fails() -> None:
    """Passes are shown too, failures stand right above the summary."""
    found = (
        Finding("n1", "disk", Result.FAIL, "1 GiB free, 2 needed"),
        Finding("n1", "ssh", Result.PASS, "ops@10.0.0.11"),
        Finding("n2", "clock", Result.WARN, "0.7 s ahead"),
    )
    assert reports.findings_table(found).text(plain) == (
        "NODE  CHECK  RESULT  MESSAGE\n"
        "n1    ssh    pass    ops@10.0.0.11\n"
        "n2    clock  warn    0.7 s ahead\n"
        "n1    disk   fail    1 GiB free, 2 needed\n"
        "1 passed, 1 warned, 1 failed on n1"
    )
    assert (
        reports.findings_table(found[1:2]).text(ansi).endswith("\x1b[32m1 passed, 0 warned, 0 failed\x1b[0m")
    )
