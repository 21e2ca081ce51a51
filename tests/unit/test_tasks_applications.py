"""The tasks for applications' certificates: no host is asked, one document, exit codes, the journal."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from invoke.context import Context
from invoke.exceptions import Exit

from etcdctl_remote.desired import inventory
from etcdctl_remote.pki.issued import issued
from etcdctl_remote.pki.store import Store
from etcdctl_remote.tasks_certs import certs_export, certs_issue, certs_revoke
from etcdctl_remote.tasks_store import certs_init
from tests.unit.program import PROGRAM, environment, run

INVENTORY = """
cluster: demo
version: "3.6.14"
nodes: {n1: 10.255.255.1, n2: 10.255.255.2, n3: 10.255.255.3}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An inventory of hosts that nobody can reach, and its certificates."""
    path = tmp_path / "i.yaml"
    path.write_text(INVENTORY)
    cluster = inventory.load(path)
    store = Store.beside(cluster)
    store.save(store.prepare(cluster, datetime.now(UTC)))
    return path


def journal(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.with_suffix(".journal.jsonl").read_text().splitlines()]


def test_issue_asks_no_host_and_is_noted(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output has one document without a key; the journal says who got one."""
    certs_issue(Context(), name="app", inventory=str(path), output="json")
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["files"]) == ("app", [])
    assert found["store"] == str(path.parent / "certs" / "demo" / "issued" / "0001")
    start, end = journal(path)
    assert (start["task"], start["arguments"]["name"], end["exit"]) == ("certs.issue", "app", 0)
    assert "PRIVATE" not in json.dumps([found, start, end])


def test_a_signed_request_is_printed_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that it can be redirected into a file."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    request = path.with_suffix(".csr")
    request.write_bytes(made.public_bytes(serialization.Encoding.DER))
    certs_issue(Context(), name="app", csr=str(request), inventory=str(path))
    printed = capsys.readouterr()
    assert x509.load_pem_x509_certificate(printed.out.encode()).public_key() == key.public_key()
    assert printed.out.startswith("-----BEGIN CERTIFICATE-----")
    assert "client certificate for app" in printed.err


def test_export_prints_what_is_typed_next(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All addresses are in the inventory: no host is asked here either."""
    out = path.parent / "client"
    certs_export(Context(), out=str(out), inventory=str(path))
    assert (
        "etcdctl --endpoints=https://10.255.255.1:2379,https://10.255.255.2:2379" in capsys.readouterr().out
    )
    assert {file.name for file in out.iterdir()} == {"ca.crt", "operator.crt", "operator.key"}


@pytest.mark.parametrize("name", ["", "../x"])
def test_bad_input_ends_with_2(path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is issued, and the journal tells how it ended."""
    with pytest.raises(Exit) as caught:
        certs_issue(Context(), name=name, inventory=str(path))
    assert caught.value.code == 2
    assert "--name" in capsys.readouterr().err
    assert issued(path.parent / "certs" / "demo") == ()
    assert journal(path)[-1]["exit"] == 2


@pytest.mark.parametrize(
    "given", [{}, {"name": "a", "serial": "b"}, {"serial": "nothex"}, {"name": "nobody"}]
)
def test_a_bad_revocation_ends_before_any_host_is_asked(
    path: Path, given: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What the laptop alone can tell is told at once."""
    with pytest.raises(Exit) as caught:
        certs_revoke(Context(), inventory=str(path), yes=True, **given)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_export_asks_the_hosts_for_addresses_that_only_they_know(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nodes that name an interface; the line that is printed has to work."""
    path.write_text(INVENTORY.replace("n1: 10.255.255.1", "n1: {host: h1, interface: eth1}"))

    @contextmanager
    def opened(path: Path, task: str, **given: object) -> Iterator[SimpleNamespace]:
        known = inventory.load(path).with_addresses({"n1": "10.255.255.7"})
        yield SimpleNamespace(cluster=known)

    monkeypatch.setattr("etcdctl_remote.session.session", opened)
    certs_export(Context(), out=str(path.parent / "client"), inventory=str(path))
    assert "--endpoints=https://10.255.255.7:2379,https://10.255.255.2:2379" in capsys.readouterr().out


def test_export_prints_the_line_that_is_typed_first(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """etcdctl warns of a variable with its prefix that it does not know: ours is kept from it."""
    monkeypatch.delenv("ETCDCTL_REMOTE_INVENTORY", raising=False)
    certs_issue(Context(), kind="apiserver", inventory=str(path))
    certs_export(Context(), name="apiserver", out=str(path.parent / "one"), inventory=str(path))
    said = capsys.readouterr().out.rpartition("until")[2].split("\n\n")
    assert said[1].startswith("etcdctl --endpoints=https://10.255.255.1:2379,")
    assert ["ClusterConfiguration" in part for part in said] == [False, False, True]
    monkeypatch.setenv("ETCDCTL_REMOTE_INVENTORY", str(path))
    certs_export(Context(), out=str(path.parent / "two"))
    assert "\nenv -u ETCDCTL_REMOTE_INVENTORY etcdctl --endpoints=" in capsys.readouterr().out


SEALED = INVENTORY + "pki: {peer_ca: same, ca_key: {protect: passphrase, passphrase: 'SOURCE'}}\n"


def test_a_passphrase_in_automation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment, or a file descriptor; a wrong one is bad input, and changes nothing."""
    path = tmp_path / "inventory.yaml"
    path.write_text(SEALED.replace("SOURCE", "env:CA_PHRASE"))
    monkeypatch.setenv("CA_PHRASE", "right")
    certs_init(Context(), inventory=str(path))
    monkeypatch.delenv("CA_PHRASE")
    wanted = ("certs.issue", "--name", "app", "--out", "out")
    for env in ({"CA_PHRASE": "wrong"}, {}):
        wrong = run(*wanted, folder=tmp_path, env=env)
        assert wrong.returncode == 2, wrong
    assert "in $CA_PHRASE, which is not set" in wrong.stderr
    assert not (tmp_path / "out").exists()
    assert issued(tmp_path / "certs" / "demo") == ()
    done = run(*wanted, folder=tmp_path, env={"CA_PHRASE": "right"})
    assert done.returncode == 0, done.stderr

    path.write_text(SEALED.replace("SOURCE", "fd:3"))
    (tmp_path / "phrase").write_text("right\n")
    (tmp_path / "phrase").chmod(0o600)
    shell = ["sh", "-c", 'exec "$@" 3<phrase', "sh", *PROGRAM, "certs.export", "--out", "bundle"]
    exported = subprocess.run(
        shell, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert exported.returncode == 0, exported
    assert sorted(file.name for file in (tmp_path / "bundle").iterdir()) == [
        "ca.crt",
        "operator.crt",
        "operator.key",
    ]
