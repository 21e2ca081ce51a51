"""Revocation: what may be revoked, where it is in vain, what it restarts, and when it is proven."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from etcdctl_remote.acquire import Archive
from etcdctl_remote.desired import inventory, versions
from etcdctl_remote.desired.model import Version
from etcdctl_remote.errors import Refused, UsageError
from etcdctl_remote.observed.state import ClusterState
from etcdctl_remote.operations import converge, leaves
from etcdctl_remote.operations.certs_issue import issue
from etcdctl_remote.operations.certs_revoke import FIRST, LATER, OPEN, Wanted, found, listed, planner
from etcdctl_remote.operations.wish import Wish
from etcdctl_remote.pki import crl
from etcdctl_remote.pki.applications import Asked
from etcdctl_remote.pki.authority import Authority, load_key
from etcdctl_remote.pki.generation import Due, Generation
from etcdctl_remote.pki.issued import Issued
from etcdctl_remote.pki.profiles import Kind
from etcdctl_remote.pki.store import Store
from etcdctl_remote.plan.step import Plan
from etcdctl_remote.plan.steps import RestartEtcd
from etcdctl_remote.secret import Secret
from tests.unit.operations.test_deploy import bare
from tests.unit.operations.world import World, run

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
CLIENTS = FIRST.format("clients")
INVENTORY = """
cluster: demo
version: "{version}"
nodes: {{n1: 10.0.0.1, n2: 10.0.0.2, n3: 10.0.0.3}}
{extra}
"""


def wish(tmp_path: Path, version: str = "3.6.14", extra: str = "") -> Wish:
    """What a deploy wants, with a saved store."""
    cluster = inventory.parse(INVENTORY.format(version=version, extra=extra), tmp_path / "inventory.yaml")
    store = Store.beside(cluster)
    store.save(store.prepare(cluster, NOW))
    return Wish(cluster, held(Wish(cluster, store.prepare(cluster, NOW), {})), {})


def held(want: Wish) -> Generation:
    kept = Store.beside(want.cluster).load()
    assert kept is not None
    return kept


def deployed(want: Wish) -> World:
    world = bare(want)
    with_archive = replace(want, archives={"amd64": Archive(Path("etcd.tar.gz"), "0" * 64, 1)})
    run(converge.plan(with_archive, world.observe()), world)
    world.write("first")
    return world


def app(want: Wish, name: str = "app") -> Issued:
    return issue(want.cluster, Asked(name), NOW).certificate


def targets(want: Wish, wanted: Wanted, now: datetime = NOW) -> Any:
    return found(Store.beside(want.cluster).root, held(want), wanted, now)


def revoking(want: Wish, wanted: Wanted) -> tuple[Wish, Any]:
    """What is wanted then, saved, and what is revoked."""
    before, chosen = held(want), targets(want, wanted)
    later = replace(before, revocations=listed(before, chosen, wanted, NOW), issued=("revoked",))
    Store.beside(want.cluster).save(later)
    return replace(want, generation=held(want)), planner(before, chosen)


def restarts(todo: Plan) -> list[str]:
    return [step.host for stage in todo.stages for step in stage.steps if isinstance(step, RestartEtcd)]


def test_the_first_revocation_restarts_one_by_one_and_the_next_none(tmp_path: Path) -> None:
    """It converges, plans nothing then, and never costs the quorum."""
    want = wish(tmp_path)
    world = deployed(want)
    app(want), app(want, "other")
    first, plan = revoking(want, Wanted("app"))
    todo = plan(first, world.observe())
    assert sorted(restarts(todo)) == ["n1", "n2", "n3"]
    assert [note for note in (CLIENTS, LATER, OPEN) if note in todo.notes] == [CLIENTS, OPEN]
    assert "app (serial" in todo.title
    world.forget()
    run(todo, world)
    assert world.lowest_alive == 2
    assert not plan(first, world.observe())
    assert not converge.plan(first, world.observe())

    second, plan = revoking(want, Wanted("other"))
    todo = plan(second, world.observe())
    assert todo
    assert restarts(todo) == []
    assert [note for note in (CLIENTS, LATER, OPEN) if note in todo.notes] == [LATER, OPEN]
    assert [stage.title for stage in todo.stages] == [
        f"Switch {name} to its new list of revoked certificates" for name in ("n1", "n2", "n3")
    ]
    assert leaves.turning(todo) == ("n1", "n2", "n3"), "known again as what changes under a running member"
    assert all(len(stage.hosts) == 1 for stage in todo.stages)
    assert all(stage.until for stage in todo.stages)


def test_killed_after_each_step_the_rest_is_planned(tmp_path: Path) -> None:
    """The store has it from the first moment: running again goes on."""
    want = wish(tmp_path)
    start = deployed(want)
    app(want)
    later, plan = revoking(want, Wanted("app"))
    total = plan(later, start.observe()).changes
    for cut in range(total):
        world = deployed(want)
        run(replace(todo := plan(later, world.observe()), stages=todo.stages[:cut]), world)
        again = planner(later.generation, targets(want, Wanted("app")))
        run(again(later, world.observe()), world)
        assert not again(later, world.observe())
        assert world.has_quorum()


def test_the_first_list_of_peers_is_said_to_be_that(tmp_path: Path) -> None:
    """It restarts every member like the first of clients; it is not the first revocation."""
    want = wish(tmp_path)
    world = deployed(want)
    app(want)
    later, plan = revoking(want, Wanted("app"))
    run(plan(later, world.observe()), world)
    later, plan = revoking(want, Wanted(serial="abc"))
    todo = plan(later, world.observe())
    assert sorted(restarts(todo)) == ["n1", "n2", "n3"]
    assert FIRST.format("peers") in todo.notes
    assert not [note for note in todo.notes if "first revocation" in note or "for clients" in note]


@pytest.mark.parametrize(
    ("release", "fixed"), [("3.4.23", "3.5.32"), ("3.5.31", "3.5.32"), ("3.6.12", "3.6.13")]
)
def test_releases_that_ignore_lists_are_refused(tmp_path: Path, release: str, fixed: str) -> None:
    """Both the one that is wanted and the one that runs, with the release that helps."""
    assert fixed in versions.deaf_to_lists(Version.parse(release))
    want = wish(tmp_path)
    world = deployed(want)
    app(want)
    later, plan = revoking(want, Wanted("app"))
    old = replace(later, cluster=replace(want.cluster, version=Version.parse(release)))
    with pytest.raises(Refused) as caught:
        plan(old, world.observe())
    assert fixed in caught.value.hosts["inventory"]
    with pytest.raises(Refused) as caught:
        plan(later, running(world.observe(), "n2", release))
    assert list(caught.value.hosts) == ["n2"]
    assert fixed in caught.value.hosts["n2"]


@pytest.mark.parametrize("release", ["3.5.32", "3.5.33", "3.6.13", "3.7.0", "3.7.1"])
def test_releases_that_honour_lists_are_not(release: str) -> None:
    """Each line from its fix on."""
    assert versions.deaf_to_lists(Version.parse(release)) == ""


def running(now: ClusterState, node: str, release: str) -> ClusterState:
    """The same with one member of another release."""
    host = now.hosts[node]
    assert host.endpoint
    other = replace(host, endpoint=replace(host.endpoint, version=release))
    return replace(now, hosts={**now.hosts, node: other})


def test_what_does_not_tell_its_release_is_not_trusted(tmp_path: Path) -> None:
    """Its program tells as well; if that is not ours either, nobody knows."""
    want = wish(tmp_path)
    now = deployed(want).observe()
    app(want)
    later, plan = revoking(want, Wanted("app"))
    host = replace(now.hosts["n1"], endpoint=None)
    assert plan(later, replace(now, hosts={**now.hosts, "n1": host}))
    strange = replace(host, unit=replace(host.unit, program="/usr/bin/etcd"))
    with pytest.raises(Refused) as caught:
        plan(later, replace(now, hosts={**now.hosts, "n1": strange}))
    assert "does not tell its release" in caught.value.hosts["n1"]


def test_without_a_quorum_or_a_cluster_nothing_is_done(tmp_path: Path) -> None:
    """As a deploy refuses; and a cluster that does not run yet proves nothing."""
    want = wish(tmp_path)
    world = deployed(want)
    app(want)
    later, plan = revoking(want, Wanted("app"))
    with pytest.raises(Refused, match="does not run yet"):
        plan(later, bare(want).observe())
    world.stop_all()
    with pytest.raises(Refused, match="lost its quorum"):
        plan(later, world.observe())


def test_what_else_is_to_do_goes_along_and_is_said(tmp_path: Path) -> None:
    """Unless the certificate may be one that a node still uses: then the nodes come first."""
    want = wish(tmp_path)
    world = deployed(want)
    one = app(want)
    changed = replace(want, cluster=wish(tmp_path, extra="settings: {heartbeat-interval: 150}").cluster)
    later, plan = revoking(changed, Wanted("app"))
    assert any("goes along" in note for note in plan(later, world.observe()).notes)
    unknown = planner(held(want), targets(want, Wanted(serial="abc")))
    with pytest.raises(Refused, match="may still use a certificate"):
        unknown(later, world.observe())
    assert one.leaf.serial in held(want).revocations.serials


def test_a_certificate_that_a_node_uses_is_refused(tmp_path: Path) -> None:
    """It would be cut off; once it is replaced, it may be revoked on the port where it counts."""
    want = wish(tmp_path)
    leaf = held(want).leaf("n2", Kind.PEER)
    with pytest.raises(Refused, match="the peer certificate that n2 uses") as caught:
        targets(want, Wanted(serial=leaf.serial))
    assert "rotate-certs --node n2 --force" in caught.value.hint
    with pytest.raises(Refused, match="is a CA"):
        targets(want, Wanted(serial=f"{held(want).authorities.peer.parsed.serial_number:x}"))
    store = Store.beside(want.cluster)
    store.save(store.prepare(want.cluster, NOW, Due(force=True)))
    (target,) = targets(want, Wanted(serial=leaf.serial))
    assert (target.revoked.ports, target.accounted) == (("peer",), False)
    assert target.credential is not None
    assert "peer certificate of n2" in str(target)


def test_one_ca_for_all_means_one_list_for_all(tmp_path: Path) -> None:
    """An application's certificate would be accepted on the peer port, too."""
    want = wish(tmp_path, extra="pki: {peer_ca: same}")
    app(want)
    later, _ = revoking(want, Wanted("app"))
    assert set(later.generation.revocations.files) == {"ca.crl", "peer-ca.crl"}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(), "one of --name and --serial"),
        (Wanted("app", "77"), "one of --name and --serial"),
        (Wanted("nobody"), "there are: app"),
        (Wanted(serial="xyz"), "--serial xyz"),
        (Wanted(serial="-1"), "--serial -1"),
        (Wanted(serial="0"), "--serial 0"),
        (Wanted(serial="f" * 41), "is no serial"),
    ],
)
def test_bad_input_is_told(tmp_path: Path, wanted: Wanted, said: str) -> None:
    want = wish(tmp_path)
    app(want)
    with pytest.raises(UsageError, match=said):
        targets(want, wanted)


def test_serials_are_read_as_others_write_them(tmp_path: Path) -> None:
    """openssl in capitals, browsers with colons; whose it is stands in the register."""
    want = wish(tmp_path)
    serial = app(want).leaf.serial
    padded = serial.upper().zfill(40)
    for text in (
        serial,
        padded,
        f"0x{serial}",
        f"serial={padded}",
        ":".join(padded[i : i + 2] for i in range(0, 40, 2)),
    ):
        (target,) = targets(want, Wanted(serial=text))
        assert (target.revoked.name, target.revoked.serial) == ("app", serial)


def test_by_name_all_that_has_not_ended_is_revoked(tmp_path: Path) -> None:
    """An expired one needs no list; if nothing else is left, that is said."""
    want = wish(tmp_path)
    short = issue(want.cluster, Asked("app", days=1), NOW).certificate.leaf.serial
    later = NOW + timedelta(days=2)
    for wanted in (Wanted("app"), Wanted(serial=short)):
        with pytest.raises(UsageError, match="every member refuses it already"):
            targets(want, wanted, later)
    serials = {app(want).leaf.serial, app(want).leaf.serial}
    assert {target.revoked.serial for target in targets(want, Wanted("app"), later)} == serials


# -- a CA whose key is elsewhere -------------------------------------------------------------------


def elsewhere(want: Wish) -> tuple[Wish, Authority]:
    """The same, without the key of the CA for clients; and the CA with it."""
    kept = held(want)
    ca = kept.authorities.client
    bare = replace(kept.authorities, client=Authority(ca.certificate, None, ca.key_file))
    return replace(want, generation=replace(kept, authorities=bare)), ca


def owners(ca: Authority, *serials: str) -> bytes:
    """The list that the owner of a CA makes."""
    assert isinstance(ca.key, Secret)
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.parsed.subject).last_update(NOW)
    builder = builder.next_update(NOW + timedelta(days=1)).add_extension(x509.CRLNumber(1), critical=False)
    for serial in serials:
        one = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(NOW)
        builder = builder.add_revoked_certificate(one.build())
    return builder.sign(load_key(ca.key), hashes.SHA256()).public_bytes(Encoding.PEM)


def test_without_the_key_the_owners_list_is_taken(tmp_path: Path) -> None:
    """It has to hold what is revoked here, and may hold more; without it the way is named."""
    want = wish(tmp_path)
    serial = app(want).leaf.serial
    want, ca = elsewhere(want)
    chosen = targets(want, Wanted("app"))
    with pytest.raises(Refused, match="no list can be signed") as caught:
        listed(want.generation, chosen, Wanted("app"), NOW)
    assert "--crl FILE" in caught.value.hint
    path = tmp_path / "owner.crl"
    path.write_bytes(owners(ca, serial, "77"))
    lists = listed(want.generation, chosen, Wanted("app", crl=str(path)), NOW)
    assert lists.serials == {serial, "77"}
    assert crl.serials(lists.files["ca.crl"]) == {serial, "77"}

    path.write_bytes(owners(ca, serial))
    kept = replace(want.generation, revocations=lists)
    with pytest.raises(UsageError, match="77 is revoked, and not in it"):
        listed(kept, chosen, Wanted("app", crl=str(path)), NOW)
    path.write_bytes(owners(ca, "77"))
    with pytest.raises(UsageError, match="is not in it"):
        listed(want.generation, chosen, Wanted("app", crl=str(path)), NOW)
    path.write_bytes(owners(ca, serial, want.generation.leaf("n1", Kind.SERVER).serial))
    with pytest.raises(Refused, match="server of n1"):
        listed(want.generation, chosen, Wanted("app", crl=str(path)), NOW)
    path.write_bytes(owners(held(want).authorities.peer, serial))
    with pytest.raises(UsageError, match="accepted on the client port all the same"):
        listed(want.generation, chosen, Wanted("app", crl=str(path)), NOW)
    with pytest.raises(UsageError, match="--crl"):
        listed(want.generation, chosen, Wanted("app", crl=str(tmp_path / "none")), NOW)
