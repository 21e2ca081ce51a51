"""Gates: pure statements about one observation, tried on every state there is."""

from __future__ import annotations

import hashlib
import itertools
import ssl
from collections.abc import Iterator
from dataclasses import replace

import pytest

from etcdctl_remote.observed.state import ClusterState, HostState, Served, UnitState, Wire, quorum
from etcdctl_remote.plan import gates
from etcdctl_remote.plan.step import Gate
from tests.unit.plan.clusters import Voter, lost, observed

KINDS = (
    Voter(),
    Voter(alive=False),
    Voter(alive=False, started=False),
    Voter(alive=False, host=False),
    Voter(alive=False, started=False, host=False),
)
"""A voter serves, is down, never started, is a ghost of no inventory, or a ghost that never started."""


def states(voters: int) -> Iterator[tuple[Voter, ...]]:
    """Every cluster of so many voters, in every order."""
    return itertools.product(KINDS, repeat=voters)


def serving(now: ClusterState, but: str = "") -> int:
    """Count the voters that serve when `but` is down, independently of the gate."""
    voters = {member.id for member in now.voters}
    return sum(
        host.serving and name != but and host.endpoint is not None and host.endpoint.member_id in voters
        for name, host in now.hosts.items()
    )


@pytest.mark.parametrize("size", range(3, 8))
def test_no_allowed_stop_costs_the_quorum(size: int) -> None:
    """In every state of 3 to 7 voters: whoever may stop leaves a majority of all listed voters.

    And the other way round: what leaves a majority is allowed. Up to five voters every order
    of states is tried; with six and seven every combination, on each kind of target.
    """
    every = states(size) if size < 6 else itertools.combinations_with_replacement(KINDS, size)
    allowed = 0
    for members in every:
        now = observed(members)
        for node in now.hosts:
            reason = gates.may_stop(node)(now)
            left = serving(now, but=node)
            assert (reason is None) == (left >= quorum(size)), (members, node, reason)
            allowed += reason is None
    assert allowed


@pytest.mark.parametrize("size", [1, 2])
def test_small_clusters_may_restart_only_whole(size: int) -> None:
    """They have no member to spare: one may go down only while all of them serve."""
    for members in states(size):
        now = observed(members)
        for node in now.hosts:
            assert (gates.may_stop(node)(now) is None) == (serving(now) == size)


@pytest.mark.parametrize("size", range(1, 6))
@pytest.mark.parametrize("learner", [Voter(learner=True), Voter(alive=False, started=False, learner=True)])
def test_learners_change_nothing(size: int, learner: Voter) -> None:
    """They neither count towards the quorum nor cost it; with them the same voters may stop."""
    for members in itertools.combinations_with_replacement(KINDS, size):
        without, with_one = observed(members), observed((*members, learner))
        for node in without.hosts:
            closed = gates.may_stop(node)(without) is None, gates.may_stop(node)(with_one) is None
            assert closed[0] == closed[1], (members, node)


@pytest.mark.parametrize("size", range(3, 6))
def test_stopping_a_learner_needs_only_the_quorum(size: int) -> None:
    """No vote is lost with it."""
    for members in itertools.combinations_with_replacement(KINDS, size):
        now = observed((*members, Voter(learner=True)))
        node = f"n{size + 1}"
        assert (gates.may_stop(node)(now) is None) == (serving(now) >= quorum(size))


def test_without_a_quorum_nothing_may_stop() -> None:
    """Nobody can even be counted."""
    now = observed([Voter(), Voter(alive=False), Voter(alive=False)])
    assert gates.may_stop("n1")(now) == "no member answers a linearizable read: the quorum is lost"


def test_two_clusters_close_the_gate() -> None:
    """Whose quorum would be kept?"""
    now = observed([Voter(), Voter(), Voter(cluster=0xC2)])
    assert gates.may_stop("n1")(now) == "2 different clusters answer"


@pytest.mark.parametrize(("kind", "closed"), [("CORRUPT", True), ("NOSPACE", False)])
def test_corrupt_data_closes_the_gate(kind: str, closed: bool) -> None:
    """Whoever raised it counts for nothing, and one that compares itself with it may not come back."""
    now = observed([Voter()] * 5)
    told = now.hosts["n2"].endpoint
    assert told
    knows = replace(now.hosts["n2"], endpoint=replace(told, errors=(f"memberID:3  alarm:{kind} ",)))
    reason = gates.may_stop("n1")(replace(now, hosts={**now.hosts, "n2": knows}))
    assert reason == ("n3 raised the alarm CORRUPT: see `status` first" if closed else None)


def test_restarting_all_at_once_needs_every_answer() -> None:
    """Whoever was not seen may be the quorum."""
    now = observed([Voter(alive=False)] * 3)
    assert gates.no_quorum(now) is None
    assert gates.no_quorum(lost(now, "n2")) == "n2: timed out"


def test_a_host_that_was_not_observed_closes_the_gate() -> None:
    """What is not known is not restarted, even if the others would do."""
    now = lost(observed([Voter()] * 5), "n2")
    assert gates.may_stop("n2")(now) == "n2: timed out"
    assert gates.may_stop("n9")(now) == "n9: not observed"


def test_unreachable_voters_count_as_dead() -> None:
    """Three of five are seen: none of them may go."""
    now = lost(lost(observed([Voter()] * 5), "n4"), "n5")
    assert gates.may_stop("n1")(now) == (
        "without n1 only 2 of 5 voters would serve, 3 are needed (n4, n5 not serving)"
    )


def test_the_reason_names_who_is_missing() -> None:
    """By name, or by id where a member never had one."""
    now = observed([Voter(), Voter(), Voter(alive=False, started=False)])
    assert gates.may_stop("n2")(now) == (
        "without n2 only 1 of 3 voters would serve, 2 are needed (3 not serving)"
    )


# -- all_serve -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(1, 5))
def test_all_serve_is_all(size: int) -> None:
    """It holds if and only if every one of the nodes serves; each silent one is named."""
    for members in states(size):
        now = observed(members)
        names = [f"n{number}" for number in range(1, size + 1)]
        reason = gates.all_serve(names)(now)
        silent = [name for name in names if name not in now.hosts or not now.hosts[name].serving]
        assert (reason is None) == (not silent)
        assert all(f"{name}: " in (reason or "") for name in silent)


def test_all_serve_in_one_cluster() -> None:
    """Everybody serves, but not the same."""
    now = observed([Voter(), Voter(), Voter(cluster=0xC2)])
    assert gates.all_serve(["n1", "n2", "n3"])(now) == "more than one cluster answers: c1 on n1 n2, c2 on n3"


@pytest.mark.parametrize(
    ("host", "why"),
    [
        (HostState("n1"), "n1: etcd is inactive (dead, )"),
        (
            HostState("n1", unit=UnitState("failed", "failed", result="exit-code")),
            "n1: etcd is failed (failed, exit-code)",
        ),
        (HostState("n1", unit=UnitState("activating", "start", pid=7)), "n1: etcd does not answer yet"),
        (
            HostState("n1", unit=UnitState("active", pid=7), endpoint_error="refused", members_error="late"),
            "n1: refused",
        ),
        (HostState("n1", unit=UnitState("active", pid=7), members_error="late"), "n1: late"),
    ],
)
def test_why_silent(host: HostState, why: str) -> None:
    """What systemd says of a process that is not there; what etcdctl says of one that is."""
    assert gates.why_silent(ClusterState({"n1": host}), "n1") == why


def test_why_silent_of_the_unseen() -> None:
    """The reason of the connection."""
    assert gates.why_silent(ClusterState({}, {"n1": "no route"}), "n1") == "n1: no route"
    assert gates.why_silent(ClusterState({}), "n1") == "n1: not observed"
    assert gates.why_silent(observed([Voter()]), "n1") is None


# -- caught_up and restarted -----------------------------------------------------------------


def outdated(unit: UnitState) -> bool:
    """Whether a process was started before the change."""
    return unit.digest != "new"


@pytest.mark.parametrize(
    ("applied", "late"),
    [
        ((1000, 1000, 1000), None),
        ((9000, 4000, 4000), None),
        ((9000, 3999, 9000), "n2 is 5001 entries behind"),
        ((9000, 0, 0), "n2 is 9000 entries behind; n3 is 9000 entries behind"),
    ],
)
def test_caught_up(applied: tuple[int, ...], late: str | None) -> None:
    """Measured against the furthest of all members, not of the named ones."""
    now = observed([Voter(applied=index) for index in applied])
    assert gates.caught_up(["n2", "n3"])(now) == late


def test_caught_up_needs_service() -> None:
    """A member that does not serve has no lag to speak of."""
    now = observed([Voter(), Voter(), Voter(alive=False)])
    assert gates.caught_up(["n3"])(now) == "n3: etcd is failed (failed, exit-code)"
    assert gates.caught_up(["n1"])(lost(now, "n1")) == "n1: timed out"


def test_caught_up_enumerated() -> None:
    """Every lag of three members, seen from each of them."""
    for applied in itertools.product((0, 10, 11), repeat=3):
        now = observed([Voter(applied=index) for index in applied])
        for number, index in enumerate(applied, 1):
            behind = max(applied) - index
            assert (gates.caught_up([f"n{number}"], lag=10)(now) is None) == (behind <= 10)


@pytest.mark.parametrize("alive", [True, False])
@pytest.mark.parametrize("digest", ["new", "old"])
@pytest.mark.parametrize("applied", [100, 9000])
def test_restarted_is_new_serving_and_caught_up(alive: bool, digest: str, applied: int) -> None:
    """All three, in every combination."""
    others = Voter(applied=applied)
    now = observed([Voter(alive=alive, digest=digest), others, others])
    holds = gates.restarted("n1", outdated)(now) is None
    assert holds == (alive and digest == "new" and applied == 100)


def test_restarted_says_what_is_missing() -> None:
    """The old process, the silence, or the host."""
    old = observed([Voter(digest="old"), Voter(), Voter()])
    gate = gates.restarted("n1", outdated)
    assert gate(old) == "n1: the process still runs with the old configuration"
    bare = replace(old.hosts["n1"], unit=UnitState("active", pid=7))
    assert gate(replace(old, hosts={**old.hosts, "n1": bare})) is not None
    assert gate(lost(old, "n1")) == "n1: timed out"


def leaf(name: str) -> tuple[bytes, str]:
    """A certificate as far as a fingerprint goes: PEM, and the fingerprint of it."""
    pem = ssl.DER_cert_to_PEM_cert(name.encode()).encode()
    return pem, hashlib.sha256(name.encode()).hexdigest()


SERVER, PEER, OTHER = leaf("server"), leaf("peer"), leaf("other")
GOOD = Wire(Served(SERVER[0], True), Served(PEER[0], True), frozenset((2, 3)))
"""What n1 of three shows when all is well."""


def dialled(wire: Wire | None, *voters: Voter) -> ClusterState:
    """Three members, or these, and n1 dialled anew."""
    now = observed(voters or [Voter()] * 3)
    return replace(now, hosts={**now.hosts, "n1": replace(now.hosts["n1"], wire=wire)})


def shown(wire: Wire | None) -> str | None:
    return gates.shows("n1", SERVER[1], PEER[1])(dialled(wire))


def test_a_member_shows_what_it_was_given() -> None:
    """Both ports, by their own certificate, to connections that are made anew."""
    assert shown(GOOD) is None


def test_what_nobody_has_dialled_is_not_shown() -> None:
    """A stage that forgot to dial, or a host that was lost: never taken for shown."""
    assert shown(None) == "n1: nobody has dialled it"
    gate = gates.shows("n1", SERVER[1], PEER[1])
    assert gate(lost(dialled(GOOD), "n1")) == "n1: timed out"


@pytest.mark.parametrize("port", ["client", "peer"])
@pytest.mark.parametrize(
    ("served", "reason"),
    [
        (Served(error="connection refused"), "what its {} port shows was not seen: connection refused"),
        (Served(OTHER[0], True), "its {} port still shows another certificate"),
        (Served(OTHER[0], False, "bad certificate"), "its {} port still shows another certificate"),
    ],
)
def test_either_port_is_looked_at(port: str, served: Served, reason: str) -> None:
    """Unseen, or another certificate: which port it is stands in the reason."""
    wire = replace(GOOD, client=served) if port == "client" else replace(GOOD, peer=served)
    assert shown(wire) == f"n1: {reason.format(port)}"


def test_the_ports_are_not_confused() -> None:
    """The peer certificate on the client port is another certificate."""
    assert shown(replace(GOOD, client=GOOD.peer)) == "n1: its client port still shows another certificate"


@pytest.mark.parametrize("port", ["client", "peer"])
def test_the_right_certificate_and_ours_refused_is_not_enough(port: str) -> None:
    """Whoever shows the new one and takes nobody's has not the right bundle."""
    served = Served((SERVER if port == "client" else PEER)[0], False, "tls alert unknown ca")
    wire = replace(GOOD, client=served) if port == "client" else replace(GOOD, peer=served)
    assert shown(wire) == f"n1: its {port} port does not take our certificate: tls alert unknown ca"


def test_a_member_that_shows_all_and_lost_a_link_is_not_done() -> None:
    """It stays healthy while it has one link of two."""
    cut = replace(GOOD, links=frozenset((3,)))
    assert shown(cut) == "n1: it has no link to n2 (etcd_network_active_peers)"
    assert gates.linked("n1")(dialled(cut)) == shown(cut)
    alone = replace(GOOD, links=frozenset())
    assert gates.linked("n1")(dialled(alone)) == "n1: it has no link to n2, n3 (etcd_network_active_peers)"


def test_links_to_members_that_do_not_serve_are_not_missed() -> None:
    """n3 is down: nobody has a link to it."""
    cut = replace(GOOD, links=frozenset((2,)))
    assert gates.linked("n1")(dialled(cut, Voter(), Voter(), Voter(alive=False))) is None


@pytest.mark.parametrize("wire", [None, replace(GOOD, links=None)])
def test_links_of_which_nothing_is_known_pass(wire: Wire | None) -> None:
    """Metrics may be switched off, or on another port: a gate cannot wait for what never comes."""
    assert gates.linked("n1")(dialled(wire)) is None
    assert gates.linked("n9")(dialled(wire)) is None


def test_every_gate_has_to_hold() -> None:
    """The first that does not says why, and those behind it are not asked."""
    now, asked = observed([Voter()] * 3), []

    def gate(reason: str | None) -> Gate:
        def ask(_: ClusterState) -> str | None:
            asked.append(reason)
            return reason

        return ask

    assert gates.every()(now) is None
    assert gates.every(gate(None), gate(None))(now) is None
    assert gates.every(gate(None), gate("first"), gate("second"))(now) == "first"
    assert asked == [None, None, None, "first"]
