"""What one round trip tells of a node's certificates: the script really runs, on files of this machine."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import PathsSpec
from etcdctl_remote.errors import Failed
from etcdctl_remote.observed.certificates import NodeCertificates, parse, read
from tests.unit.operations.here import Canned, Local, cluster, said, session


def node(folder: Path) -> Local:
    """This machine, with certificates below a folder."""
    pki = folder / "pki" / "0123"
    pki.mkdir(parents=True)
    (folder / "pki" / "current").symlink_to("0123")
    for name, content in (
        ("server.crt", "a certificate\n\n@@end\n"),
        ("server.key", "a secret"),
        ("note.txt", "x"),
    ):
        (pki / name).write_text(content, encoding="utf-8")
    (pki / "server.key").chmod(0o600)
    (pki / "big.crt").write_bytes(b"x" * 300_000)
    return Local("n1")


def seen(host: Canned | Local, folder: Path) -> NodeCertificates:
    """Read a host whose configuration is in `folder`."""
    opened = session(host, spec=cluster(1, PathsSpec(config=str(folder))))
    return read(opened.cluster, opened.fleet.hosts[host.name])


def test_a_node_is_read(tmp_path: Path) -> None:
    """Certificates with their content, keys by their digest, both with owner and mode; a clock."""
    host = node(tmp_path)
    found = seen(host, tmp_path)
    assert set(found.files) == {"server.crt", "server.key", "big.crt"}
    assert found.files["server.crt"].pem == b"a certificate\n\n@@end\n"
    key = found.files["server.key"]
    assert (key.mode, key.pem, key.sha256) == (0o600, None, hashlib.sha256(b"a secret").hexdigest())
    assert found.files["big.crt"].pem is None
    assert found.place == f"{tmp_path}/pki/current"
    assert found.ahead is not None
    assert abs(found.ahead) < timedelta(seconds=30)
    (asked,) = host.asked
    assert not asked.writes
    assert asked.root


def test_no_key_leaves_the_host(tmp_path: Path) -> None:
    """Neither as it is nor coded."""
    host = node(tmp_path)
    seen(host, tmp_path)
    answer = host.run(host.asked[0]).stdout
    assert b"secret" not in answer
    assert b"YSBzZWNyZXQ" not in answer


def test_a_node_without_certificates(tmp_path: Path) -> None:
    """Nothing is installed: no files, and no error."""
    found = seen(Local("n1"), tmp_path / "none")
    assert found.files == {}


def test_an_answer_that_was_cut_off() -> None:
    """Never taken for a node without certificates."""
    with pytest.raises(Failed, match="cut off after 7 bytes"):
        seen(Canned("n1", {"read certificates": said("\n@@fact")}), Path("/etc/etcd"))


@pytest.mark.parametrize(
    ("facts", "running", "stale"),
    [
        ("MainPID=12\nwanted=aa\nstarted=aa", True, False),
        ("MainPID=12\nwanted=aa\nstarted=bb", True, True),
        ("MainPID=12\nwanted=aa", True, False),
        ("MainPID=0\nwanted=aa", False, False),
        ("", False, False),
    ],
)
def test_the_process(facts: str, running: bool, stale: bool) -> None:
    """It is stale if the unit says something else by now; not if one of the two is not known."""
    found = parse("n1", f"\n@@facts\n{facts}\n@@end\n", 0.0)
    assert (found.running, found.stale) == (running, stale)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "@@stat\nx.crt|zz|root|root\nx.crt\n|||\n",
        "@@stat\nx.crt|644|root|root\n@@certificates\nx.crt|!!\n",
        "@@facts\nclock=١\nclock=nan\n=\n",
    ],
)
def test_nonsense_is_nothing(said: str) -> None:
    """Whatever a host answers, it is no traceback."""
    found = parse("n1", said, 0.0)
    assert all(file.pem is None for file in found.files.values())
    assert found.ahead is None
