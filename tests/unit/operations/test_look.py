"""The operations that only look, or hand on: health, status, etcdctl."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdctl_remote.desired.model import PathsSpec
from etcdctl_remote.errors import ConnectionLost, LoginFailed, Problem, TimedOut, Unreachable, UsageError
from etcdctl_remote.observed.etcdctl import INSTALLED
from etcdctl_remote.observed.report import EndpointHealth
from etcdctl_remote.operations.health import health
from etcdctl_remote.operations.run_etcdctl import choose, run_etcdctl, verb
from etcdctl_remote.operations.session import Session
from etcdctl_remote.operations.status import status
from etcdctl_remote.remote.host import Result
from tests.unit.operations.here import Canned, Local, cluster, said, session

HEALTHY = said('[{"endpoint":"https://10.0.0.1:2379","health":true,"took":"1.383097ms"}]')
ALARMED = said(
    '[{"endpoint":"x","health":false,"took":"3.05ms","error":"Active Alarm(s): NOSPACE "}]',
    '{"level":"warn","msg":"x"}\nError: unhealthy cluster\n',
    1,
)
MISSING = said("", "etcd is not installed here: run deploy\n", 127)
GONE = Unreachable("n3: no route to host", "is it up?")


# -- health ----------------------------------------------------------------------------------


def test_every_endpoint_has_a_line() -> None:
    """Healthy, unhealthy, not installed, out of reach: in the inventory's order, none left out."""
    spec = cluster(4)
    hosts = [
        Canned(name, {"health": answer})
        for name, answer in (("n4", MISSING), ("n2", ALARMED), ("n1", HEALTHY))
    ]
    found = health(session(*hosts, unreachable={"n3": GONE}, spec=spec))
    assert found.endpoints == (
        EndpointHealth("n1", "https://10.0.0.1:2379", True, 1.383097, ""),
        EndpointHealth("n2", "https://10.0.0.2:2379", False, 3.05, "Active Alarm(s): NOSPACE "),
        EndpointHealth("n3", "https://10.0.0.3:2379", False, None, "no route to host", asked=False),
        EndpointHealth("n4", "https://10.0.0.4:2379", False, None, "etcd is not installed here: run deploy"),
    )
    assert not found.healthy


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (said("[]", "Error: nobody\n", 1), "nobody"),
        (said("null"), "no answer"),
        (said('[{"health":'), "no answer"),
        (said("[{}]"), "no answer"),
        (said("", "{broken", 1), "no answer"),
        (said("\x00\xff[", "Error: \x1b[31mred", 1), "\x1b[31mred"),
        (TimedOut("n1: health: nothing came in 15 s"), "health: nothing came in 15 s"),
        (ConnectionLost("n1: the link broke"), "the link broke"),
    ],
)
def test_what_is_no_answer_is_unhealthy(answer: Result | Problem, error: str) -> None:
    """One member's nonsense is its own: the other endpoint's health is told all the same."""
    found = health(
        session(Canned("n1", {"health": answer}), Canned("n2", {"health": HEALTHY}), spec=cluster(2))
    )
    first, second = found.endpoints
    assert (first.healthy, first.took_ms, first.error) == (False, None, error)
    assert second.healthy


def test_hosts_that_let_nobody_ask() -> None:
    """Where it is all of them, nothing is known of etcd: exit 3, and the way out; else only their own line tells."""
    barred = {"health": LoginFailed("n1: sudo asks for a password", "allow NOPASSWD")}
    with pytest.raises(Unreachable, match="no node could be asked") as caught:
        health(session(Canned("n1", barred), unreachable={"n2": GONE}, spec=cluster(2)))
    assert caught.value.hosts["n1"] == "sudo asks for a password"
    assert caught.value.hint == "is it up?; allow NOPASSWD"
    first, second = health(
        session(Canned("n1", barred), Canned("n2", {"health": HEALTHY}), spec=cluster(2))
    ).endpoints
    assert (first.asked, first.error, second.healthy) == (False, "sudo asks for a password", True)


def test_health_only_reads() -> None:
    """So it works on a connection that refuses everything else; on the member's own endpoint."""
    host = Canned("n2", {"health": HEALTHY})
    health(session(host, spec=cluster(2), unreachable={"n1": GONE}))
    (asked,) = host.asked
    assert not asked.writes
    assert "--endpoints=https://10.0.0.2:2379" in asked.args
    assert asked.args[-3:] == ("-w", "json", "endpoint")


def answering(cluster_id: int, *errors: str) -> Canned:
    """A member that answers a read, and tells its status."""
    told = [{"Status": {"header": {"cluster_id": cluster_id, "member_id": 1}, "errors": list(errors)}}]
    return Canned("n1", {"health": said(f"{HEALTHY.text}\n\n@@status\n{json.dumps(told)}\n")})


def test_an_alarm_is_no_health() -> None:
    """A read goes through while nothing can be written: etcdctl 3.4 calls that healthy."""
    found = health(session(answering(7, "memberID:7  alarm:NOSPACE "), spec=cluster(1)))
    assert not found.healthy
    assert found.endpoints[0].error == "active alarm: NOSPACE; see `status`"


def test_members_of_different_clusters_are_no_health() -> None:
    """Each answers for its own; the message says who is where."""
    second = replace(answering(0xB), name="n2")
    found = health(session(answering(0xA), second, spec=cluster(2)))
    assert [endpoint.healthy for endpoint in found.endpoints] == [False, False]
    assert found.endpoints[0].error == "the members are in different clusters (a: n1; b: n2)"
    assert health(session(answering(0xA), replace(answering(0xA), name="n2"), spec=cluster(2))).healthy


def test_health_asks_for_both(tmp_path: Path) -> None:
    """In one round trip; the status only where the read went through."""
    program = tmp_path / "etcdctl"
    program.write_text(
        f"#!/bin/sh\nfor last; do :; done\n[ $last = health ] && echo '{HEALTHY.text}' || echo null\n"
    )
    program.chmod(0o755)
    assert health(session(Local("n1"), spec=cluster(1, PathsSpec(bin=str(tmp_path))))).healthy


@pytest.mark.parametrize("operation", [health, status])
def test_nobody_in_reach(operation: Callable[[Session], object]) -> None:
    """Every host's reason, and the exit code of unreachable hosts."""
    with pytest.raises(Unreachable) as caught:
        operation(session(unreachable={"n1": GONE, "n2": Unreachable("refused")}))
    assert caught.value.hosts == {"n1": "n3: no route to host", "n2": "refused"}
    assert caught.value.hint == "is it up?"


# -- status ----------------------------------------------------------------------------------


def test_status_of_hosts_that_say_nothing() -> None:
    """Garbage and errors are unknown; an unreachable node has its row."""
    found = status(
        session(
            Canned("n1", {"observe": said("nonsense\n@@end\n")}),
            Canned("n2", {"observe": TimedOut("late")}),
            unreachable={"n3": GONE},
        )
    )
    assert [row.node for row in found.members] == ["n1", "n2", "n3"]
    assert found.members[2].error == "no route to host"
    assert found.tolerates == -1
    assert found.leader is None


def test_a_broken_certificate_does_not_spoil_the_status() -> None:
    """Its days are unknown; everything else is told."""
    broken = on_disk("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    found = status(
        session(Canned("n1", {"observe": said("\n@@end\n"), "read certificates": broken}), spec=cluster(1))
    )
    assert found.members[0].cert_days is None


def test_days_to_the_first_expiry() -> None:
    """Of the node's own leaves the one that ends first."""
    answers = {
        "observe": said("\n@@end\n"),
        "read certificates": on_disk(*(certificate(days) for days in (300, 20, 90))),
    }
    found = status(session(Canned("n1", answers), spec=cluster(1)))
    assert found.members[0].cert_days == 19


def on_disk(*pems: str) -> Result:
    """What a host answers that holds these as its leaves."""
    named = dict(zip(("server.crt", "peer.crt", "etcdctl.crt"), pems, strict=False))
    stat = "".join(f"{name}|644|root|root\n" for name in named)
    coded = "".join(f"{name}|{base64.b64encode(pem.encode()).decode()}\n" for name, pem in named.items())
    return said(f"\n@@stat\n{stat}\n@@certificates\n{coded}\n@@end\n")


def certificate(days: int) -> str:
    """A certificate that ends in so many days."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "n1")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days)
    )
    signed = built.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


# -- etcdctl ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def echoing(tmp_path_factory: pytest.TempPathFactory) -> PathsSpec:
    """A folder with an etcdctl that prints its arguments, one a NUL."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "etcdctl"
    program.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\necho to-stderr >&2\nexit 7\n")
    program.chmod(0o755)
    return PathsSpec(bin=str(folder))


def words(result: Result) -> list[str]:
    """What etcdctl was called with, after our own flags."""
    return [word for word in result.stdout.decode().split("\0")[:-1] if not word.startswith(OWN)]


OWN = ("--endpoints=https://10.0.0.1", "--cacert=/etc/etcd", "--cert=/etc/etcd", "--key=/etc/etcd")


def etcdctl(opened: Session, arguments: str, node: str = "") -> Result:
    """Run it, and gather what is handed on."""
    out, err = bytearray(), bytearray()
    code = run_etcdctl(opened, arguments, node, out=out.extend, err=err.extend)
    return Result(code, bytes(out), bytes(err))


def test_output_and_exit_code_are_passed_on(echoing: PathsSpec) -> None:
    """As they are, failure or not."""
    found = etcdctl(session(Local("n1"), spec=cluster(1, echoing)), "get /a --prefix")
    assert (found.exit, found.stderr) == (7, b"to-stderr\n")
    assert words(found) == ["get", "/a", "--prefix"]


ARGUMENT = st.text(
    alphabet=st.sampled_from("ab $`'\"\\;|&<>(){}*?!#~\n\té-="), min_size=0, max_size=12
).filter(lambda text: not text.startswith("-"))


@given(given=st.lists(ARGUMENT, min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_no_shell_reads_the_arguments(echoing: PathsSpec, given: list[str]) -> None:
    """Whatever is quoted arrives as it was meant: nothing is expanded, run or split again."""
    found = etcdctl(session(Local("n1"), spec=cluster(1, echoing)), shlex.join(given))
    assert words(found) == given


def test_arguments_are_never_pasted_into_the_script() -> None:
    """They are arguments of the script, one each."""
    host = Canned("n1")
    etcdctl(session(host, spec=cluster(1)), "put k '$(reboot)'")
    (asked,) = host.asked
    assert asked.script == INSTALLED + 'exec "$@"'
    assert asked.args[-3:] == ("put", "k", "$(reboot)")


@pytest.mark.parametrize(
    ("arguments", "dropped"),
    [
        ("--endpoints=https://a:1 get k", "--endpoints"),
        ("--endpoints https://a:1 get k", "--endpoints"),
        ("get k --cert /tmp/c --key=/tmp/k", "--cert --key"),
        ("put --cacert=/x k v", "--cacert"),
        ("put k -- --key=v", ""),
        ("get k", ""),
    ],
)
def test_flags_that_are_given_win(arguments: str, dropped: str) -> None:
    """etcdctl would take the last one anyway, or refuse both; after `--` nothing is a flag."""
    host = Canned("n1")
    etcdctl(session(host, spec=cluster(1)), arguments)
    own = host.asked[0].args[1 : -len(shlex.split(arguments))]
    assert {flag.split("=")[0] for flag in own} == {"--endpoints", "--cacert", "--cert", "--key"} - set(
        dropped.split()
    )


@pytest.mark.parametrize(
    ("arguments", "why"), [("", "no etcdctl arguments"), ("  ", "no etcdctl"), ("get 'k", "cannot be split")]
)
def test_arguments_that_are_none(arguments: str, why: str) -> None:
    """Wrong usage, before anything is run."""
    host = Canned("n1")
    with pytest.raises(UsageError, match=why):
        etcdctl(session(host), arguments)
    assert not host.asked


def test_a_password_on_the_line_is_not_in_an_error() -> None:
    """What was asked is not said: it may hold --user root:secret."""
    host = Canned("n1")
    etcdctl(session(host), "--user root:hunter2 member list")
    assert "hunter2" not in host.asked[0].about


@pytest.mark.parametrize(
    ("arguments", "noted"),
    [
        ("put k hunter2", "put"),
        ("--user=root:hunter2 get k", ""),
        ("alarm disarm", "alarm"),
        ("'", ""),
        ("", ""),
    ],
)
def test_the_journal_gets_the_first_word_only(arguments: str, noted: str) -> None:
    """What follows may be a secret, and so may the value of a flag."""
    assert verb(arguments) == noted


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("get k", b"n1's etcd does not answer (connection refused); another node: --node n2\n"),
        ("--endpoints=https://10.0.0.9:2379 get k", b""),
        ("endpoint health --cluster", b""),
    ],
)
def test_a_node_whose_etcd_is_down_names_another(arguments: str, hint: bytes) -> None:
    """Nothing is run a second time elsewhere; where others were asked, nothing is guessed."""
    seen = b"dial tcp 10.0.0.1:2379: connect: connection refused\n"
    down, other = Canned("n1", {"etcdctl": said("", seen.decode(), 1)}), Canned("n2")
    found = etcdctl(session(down, other), arguments)
    assert (found.exit, found.stderr) == (1, seen + hint)
    assert not other.asked


def test_where_no_etcdctl_is(tmp_path: Path) -> None:
    """As `health` says it, not as a shell does."""
    found = etcdctl(session(Local("n1"), spec=cluster(1, PathsSpec(bin=str(tmp_path)))), "get k")
    assert (found.exit, found.stderr) == (127, b"etcd is not installed here: run deploy\n")


def test_which_node(tmp_path: Path) -> None:
    """The one asked for, or the inventory's first that can be reached; never another one silently."""
    opened = session(Canned("n3"), Canned("n2"), unreachable={"n1": GONE})
    assert choose(opened, "") == "n2"
    assert choose(opened, "n3") == "n3"
    with pytest.raises(Unreachable) as caught:
        choose(opened, "n1")
    assert caught.value is GONE
    with pytest.raises(UsageError, match=r"there is no node n9 in inventory\.yaml") as wrong:
        choose(opened, "n9")
    assert wrong.value.hint == "choose one of n1, n2, n3"


@pytest.mark.parametrize("node", ["", "n1"])
def test_no_node_at_all(node: str) -> None:
    """Exit code 3, not a traceback."""
    with pytest.raises(Unreachable):
        etcdctl(session(unreachable={"n1": GONE}), "member list", node)
