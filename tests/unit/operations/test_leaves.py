"""What is looked at on a host's disk before its leaves change, and how the change is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from etcdctl_remote.desired.spec import HostSpec
from etcdctl_remote.observed.state import HostState
from etcdctl_remote.operations import leaves
from etcdctl_remote.operations.wish import Wish
from etcdctl_remote.pki.generation import Generation
from tests.unit.operations.rotating import FORCED, Town, damage, scribble

Found = Callable[..., Town]


def looked(
    town: Town, node: str = "n1", generation: Generation | None = None
) -> tuple[Wish, HostSpec, HostState]:
    """What is wanted of a node, and what is seen of it."""
    host = town.world.observe().hosts[node]
    want = Wish(town.cluster, generation or town.held, {})
    return want, want.spec(want.cluster.node(node), host, formed=True), host


def renewed(town: Town) -> Generation:
    return town.session().prepare(FORCED)


def test_certificates_and_all_the_rest_are_the_whole(found: Found) -> None:
    """Nothing is lost and nothing is in both; the binaries' links are not certificates."""
    want, spec, _ = looked(found())
    certificates, rest = leaves.parted(want, spec)
    for each in ("dirs", "files", "links"):
        every = getattr(spec, each)
        assert sorted((*getattr(certificates, each), *getattr(rest, each)), key=str) == sorted(every, key=str)
    assert all("/pki/" in file.path for file in certificates.files)
    assert [link.path for link in certificates.links] == ["/etc/etcd/pki/current"]
    assert not any("/pki/" in file.path for file in rest.files)
    assert not any("/pki/" in link.path for link in rest.links)
    assert len(certificates.files) == 8


def test_as_wanted_there_is_nothing_to_write(found: Found) -> None:
    """No step, and nothing damaged."""
    want, spec, host = looked(found())
    assert leaves.writing(want, spec, host) == ()
    assert leaves.linked_to(want, spec, host)
    assert list(leaves.damaged(want, spec, host)) == []


def test_a_switch_is_one_step_that_shows_no_key(found: Found) -> None:
    """Files, directory and link together; of keys only that they change."""
    town = found()
    want, spec, host = looked(town, generation=renewed(town))
    (step,) = leaves.writing(want, spec, host)
    assert str(step).startswith("switch to the certificates pki/")
    assert [link.path for link in step.links] == ["/etc/etcd/pki/current"]
    assert len(step.files) == 8
    assert "PRIVATE" not in step.diff
    assert step.diff.count("(private key, not shown)") == 3
    assert not leaves.linked_to(want, spec, host)
    assert list(leaves.damaged(want, spec, host)) == [], "other certificates are not damaged ones"


def test_only_what_is_damaged_is_written_again(found: Found) -> None:
    """Each file with what is wrong with it, in one line."""
    town = found()
    damage(town.world, "n1", "peer.key")
    scribble(town.world, "n1", "ca.crt", sha256="0" * 64)
    scribble(town.world, "n1", "server.key", mode=0o644)
    want, spec, host = looked(town)
    (step,) = leaves.writing(want, spec, host)
    assert str(step) == (
        "put certificates right: ca.crt is not the one that was issued, peer.key is missing, "
        "server.key has the rights 0644 root:etcd"
    )
    assert {file.path.rpartition("/")[2] for file in step.files} == {"ca.crt", "peer.key", "server.key"}
    assert leaves.linked_to(want, spec, host)


@pytest.mark.parametrize("bundle", ["ca_bundle", "peer_ca_bundle"])
def test_another_bundle_is_known_by_its_sum(found: Found, bundle: str) -> None:
    """Either of the two; a file that was not observed, or is gone, says nothing."""
    town = found()
    want, _, host = looked(town)
    assert not leaves.other_bundle(want, "n1", host)
    held = want.generation
    both = held.ca_bundle + held.peer_ca_bundle
    wider = replace(held, ca_bundle=both) if bundle == "ca_bundle" else replace(held, peer_ca_bundle=both)
    other = replace(want, generation=wider)
    assert leaves.other_bundle(other, "n1", host)
    assert not leaves.other_bundle(other, "n1", replace(host, paths={}))
    assert set(leaves.bundle_paths(want)) <= set(host.paths)


def test_the_stages_that_switch_are_known_again(found: Found) -> None:
    """By them it is decided whose leaves are tried first."""
    town = found()
    todo = town.rotate(FORCED, dry_run=True)
    assert set(leaves.turning(todo)) == {"n1", "n2", "n3"}
    town.world.stop("n2")
    todo = town.rotate(FORCED, dry_run=True)
    assert set(leaves.turning(todo)) == {"n1", "n3"}, "whoever does not serve meets nobody"
