"""Certificates for applications: what is in them, where they go, and what is never written over."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from etcdctl_remote.console import applications
from etcdctl_remote.desired.model import ClusterSpec
from etcdctl_remote.errors import Failed, Refused, UsageError
from etcdctl_remote.operations.certs_export import export
from etcdctl_remote.operations.certs_issue import issue
from etcdctl_remote.pki import crl, rotation
from etcdctl_remote.pki.applications import Asked
from etcdctl_remote.pki.crl import Revoked
from etcdctl_remote.pki.issued import issued
from etcdctl_remote.pki.store import Store
from tests.unit.operations.here import cluster
from tests.unit.pki.stores import contents

NOW = datetime(2030, 5, 17, 12, tzinfo=UTC)


@pytest.fixture
def spec(tmp_path: Path) -> ClusterSpec:
    """Three nodes, whose store holds certificates."""
    spec = replace(cluster(), source=tmp_path / "inventory.yaml")
    store = Store.beside(spec)
    store.save(store.prepare(spec, NOW))
    return spec


def root(spec: ClusterSpec) -> Path:
    return Store.beside(spec).root


def csr(folder: Path) -> str:
    """A request, in a file."""
    name = x509.Name([])
    made = x509.CertificateSigningRequestBuilder(name).sign(
        ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()
    )
    path = folder / "app.csr"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return str(path)


def modes(folder: Path) -> dict[str, str]:
    return {path.name: f"{path.stat().st_mode & 0o777:o}" for path in folder.iterdir()}


def test_a_client_is_signed_by_the_ca_for_clients_and_registered(spec: ClusterSpec) -> None:
    """The register has all of it, private to its owner; nothing else of the store changes."""
    before = contents(root(spec))
    handed = issue(spec, Asked("app"), NOW)
    held = Store.beside(spec).load()
    assert held is not None
    (one,) = issued(root(spec))
    assert one == handed.certificate
    assert held.authorities.client.signed(one.leaf.certificate)
    assert (one.name, one.leaf.subject, one.leaf.usages) == ("app", "app", ("client",))
    assert one.authority == "0001"
    assert one.leaf.not_after == NOW + timedelta(days=spec.pki.leaf_days)
    assert one.credential is not None
    assert modes(root(spec) / "issued" / "0001") == dict.fromkeys(
        ("app.crt", "app.key", "issued.json"), "600"
    )
    assert {k: v for k, v in contents(root(spec)).items() if not k.startswith("issued/")} == before
    assert not handed.bundle
    assert not handed.notes


@pytest.mark.parametrize(
    ("kind", "subject", "stem"),
    [
        ("apiserver", "kube-apiserver-etcd-client", "apiserver-etcd-client"),
        ("prometheus", "prometheus", "prometheus"),
        ("patroni", "patroni", "patroni"),
    ],
)
def test_kinds_say_how_they_are_used(
    spec: ClusterSpec, tmp_path: Path, kind: str, subject: str, stem: str
) -> None:
    """Names, files, and a snippet that is YAML and names the files; an address is in none of them."""
    handed = issue(spec, Asked(kind=kind), NOW, out=str(tmp_path / "out"))
    assert handed.certificate.leaf.subject == subject
    assert [name.split(":")[0] for name in handed.certificate.leaf.names] == ["urn"]
    assert modes(tmp_path / "out") == {"ca.crt": "644", f"{stem}.crt": "644", f"{stem}.key": "600"}
    document = applications.document(spec, handed)
    snippet = str(document["kubeadm" if kind == "apiserver" else kind])
    found = yaml.safe_load(snippet)
    folder = tmp_path / "out"
    if kind == "apiserver":
        assert found["etcd"]["external"]["endpoints"][0] == "https://10.0.0.1:2379"
    elif kind == "prometheus":
        assert found["tls_config"]["cert_file"] == str(folder / "prometheus.crt")
    else:
        assert (found["etcd3"]["hosts"][0], found["etcd3"]["protocol"]) == ("10.0.0.1:2379", "https")
        assert found["etcd3"]["key"] == str(folder / "patroni.key")
    assert snippet in applications.issued(spec, handed)
    assert b"PRIVATE" not in repr(document).encode()


def test_that_its_ca_is_on_its_way_out_is_told(spec: ClusterSpec) -> None:
    """As long as both are trusted and the old one signs; not where only the CA for peers is replaced."""
    store = Store.beside(spec)

    def told() -> list[str]:
        return [note.rpartition("; ")[2] for note in issue(spec, Asked("app"), NOW).notes]

    held = store.prepare(spec, NOW)
    store.save(rotation.trust_both(held, spec, NOW, {"peer"}))
    assert told() == []
    store.save(rotation.trust_both(replace(held, seen=store.prepare(spec, NOW).seen), spec, NOW))
    assert told() == ["issue it anew after the second one"]
    store.save(rotation.advanced(store.prepare(spec, NOW)))
    assert told() == []


def test_root_is_told_and_a_long_life_is_cut(spec: ClusterSpec) -> None:
    """Nothing outlives its CA."""
    handed = issue(spec, Asked("root", days=99_999_999_999), NOW)
    held = Store.beside(spec).load()
    assert held is not None
    assert handed.certificate.leaf.not_after == held.authorities.client.not_after
    assert [note.split()[0] for note in handed.notes] == ["etcd", "cut"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(), "--name is missing"),
        (Asked("../x"), "--name ../x"),
        (Asked("ca"), "--name ca"),
        (Asked("n1"), "--name n1: that is the node n1"),
        (Asked("etcd-server-n2"), "--name etcd-server-n2: that is the node n2"),
        (Asked("etcdctl-n3"), "--name etcdctl-n3: that is the node n3"),
        (Asked("x" * 65), "--name xxx"),
        (Asked("app", kind="redis"), "--kind redis: none of apiserver"),
        (Asked("app", usage="peer"), "--usage peer"),
        (Asked("app", usage=""), "--usage "),
        (Asked("app", usage="server"), "needs --names"),
        (Asked("app", names="a b,ok"), "--names a b: neither"),
        (Asked("app", names="::"), "--names ::"),
        (Asked(kind="prometheus", names="a"), "https metrics port"),
        (Asked("../x", usage="peer", names=","), r"--name .*--usage .*--names"),
    ],
)
def test_bad_input_changes_nothing(spec: ClusterSpec, asked: Asked, said: str) -> None:
    """Everything that is wrong is said at once."""
    before = contents(root(spec))
    with pytest.raises(UsageError, match=said):
        issue(spec, asked, NOW)
    assert contents(root(spec)) == before


def test_a_bad_request_or_folder_changes_nothing(spec: ClusterSpec, tmp_path: Path) -> None:
    """What cannot be read, or written to."""
    (tmp_path / "file").write_text("x")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="--csr"):
        issue(spec, Asked("app"), NOW, csr=str(tmp_path / "none"))
    with pytest.raises(UsageError, match="is no request"):
        issue(spec, Asked("app"), NOW, csr=str(tmp_path / "file"))
    with pytest.raises(UsageError, match="is no folder"):
        issue(spec, Asked("app"), NOW, out=str(tmp_path / "file" / "out"))
    assert contents(tmp_path) == before


def test_the_line_that_makes_another_repeats_what_was_asked_for(spec: ClusterSpec, tmp_path: Path) -> None:
    """Kind, usages, names, and that there was a request."""
    asked = Asked("a", "patroni", "server,client", "b.example.net,10.0.0.9")
    assert issue(spec, asked, NOW).certificate.used.anew == (
        "certs.issue --name a --kind patroni --usage server,client --names 10.0.0.9,b.example.net"
    )
    made = issue(spec, Asked("app"), NOW, csr=csr(tmp_path)).certificate
    assert made.used.anew == "certs.issue --name app --csr FILE"


def test_without_a_ca_nothing_is_made(tmp_path: Path) -> None:
    """A CA that nobody trusts would be worse than none."""
    spec = replace(cluster(), source=tmp_path / "inventory.yaml")
    with pytest.raises(Refused, match="there is no CA") as caught:
        issue(spec, Asked("app"), NOW)
    assert caught.value.hint.startswith("`certs.restore --from FILE` puts a backup in place")
    assert "for a new cluster `certs.init`" in caught.value.hint
    assert contents(tmp_path) == {}


def test_only_our_own_predecessors_are_written_over(spec: ClusterSpec, tmp_path: Path) -> None:
    """Anything else is refused, before the register is touched; a link is never followed."""
    out = tmp_path / "out"
    issue(spec, Asked("app"), NOW, out=str(out))
    first = (out / "app.key").read_bytes()
    issue(spec, Asked("app"), NOW, out=str(out))
    assert (out / "app.key").read_bytes() != first
    issue(spec, Asked("app"), NOW, out=str(out))
    assert [path.name for path in sorted(out.iterdir())] == ["app.crt", "app.key", "ca.crt"]
    for name in ("app.key", "app.crt", "ca.crt"):
        kept, before = (out / name).read_bytes(), len(issued(root(spec)))
        (out / name).write_bytes(b"mine")
        with pytest.raises(Refused, match=name):
            issue(spec, Asked("app"), NOW, out=str(out))
        (out / name).unlink()
        (out / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(Refused, match=name):
            issue(spec, Asked("app"), NOW, out=str(out))
        (out / name).unlink()
        (out / name).write_bytes(kept)
        assert len(issued(root(spec))) == before


def test_a_request_gives_all_but_the_key(spec: ClusterSpec, tmp_path: Path) -> None:
    """The register has none, and what is printed says whose it is."""
    handed = issue(spec, Asked("app"), NOW, out=str(tmp_path / "out"), csr=csr(tmp_path))
    assert modes(tmp_path / "out") == {"app.crt": "644", "ca.crt": "644"}
    assert issued(root(spec))[0].credential is None
    text, document = applications.exported(spec, export(spec, NOW, out=str(tmp_path / "again"), name="app"))
    assert modes(tmp_path / "again") == {"app.crt": "644", "ca.crt": "644"}
    assert "app.key" not in text
    assert f"--key={applications.OWN_KEY}" in str(document["etcdctl"])
    assert "kubeadm" not in document
    issue(spec, Asked(kind="apiserver"), NOW, csr=csr(tmp_path))
    _, theirs = applications.exported(spec, export(spec, NOW, out=str(tmp_path / "api"), name="apiserver"))
    assert f"{applications.OWN_KEY} → /etc/kubernetes" in str(theirs["kubeadm"])
    assert handed.certificate.leaf.subject == "app"


def test_a_damaged_register_is_named(spec: ClusterSpec) -> None:
    """Each file of an entry belongs to the others, and a key is its owner's alone."""
    issue(spec, Asked("app"), NOW)
    issue(spec, Asked("other"), NOW)
    one, other = root(spec) / "issued" / "0001", root(spec) / "issued" / "0002"
    (one / "app.key").chmod(0o640)
    with pytest.raises(UsageError, match=r"app\.key is open to other users"):
        issued(root(spec))
    (one / "app.key").write_bytes((other / "other.key").read_bytes())
    (one / "app.key").chmod(0o600)
    with pytest.raises(UsageError, match="do not belong together"):
        issued(root(spec))
    (one / "issued.json").write_text("{")
    with pytest.raises(UsageError, match="is damaged"):
        issued(root(spec))


def test_a_failure_of_the_disk_leaves_no_half_files(
    spec: ClusterSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate is in the store then, and the message says so."""

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(self))

    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr("etcdctl_remote.pki.bundle.Path.replace", full)
    with pytest.raises(Failed, match="No space left"):
        export(spec, NOW, out=str(out))
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("kind", ["", "prometheus", "patroni"])
def test_export_prints_kubeadms_section_where_it_may_be_meant(
    spec: ClusterSpec, tmp_path: Path, kind: str
) -> None:
    """With the operator's and kube-apiserver's; another application has no use for it."""
    issue(spec, Asked("app", kind), NOW)
    text, document = applications.exported(spec, export(spec, NOW, out=str(tmp_path / "app"), name="app"))
    assert "kubeadm" not in document
    assert "ClusterConfiguration" not in text
    assert (kind in document) == bool(kind)


def test_the_line_that_makes_another_has_the_same_flags(spec: ClusterSpec) -> None:
    """The register knows the days that were asked for; of one that was entered before it did, none are named."""
    issue(spec, Asked("short", "patroni", days=7), NOW)
    issue(spec, Asked("usual", usage="client,server", names="a.example"), NOW)
    short, usual = issued(root(spec))
    assert short.used.anew == "certs.issue --name short --kind patroni --days 7"
    assert usual.used.anew == "certs.issue --name usual --usage server,client --names a.example"
    meta = root(spec) / "issued" / short.number / "issued.json"
    about = json.loads(meta.read_text())
    del about["days"]
    meta.write_text(json.dumps(about))
    assert issued(root(spec))[0].used.anew == "certs.issue --name short --kind patroni"


def test_export_issues_an_operator_once(spec: ClusterSpec, tmp_path: Path) -> None:
    """And prints a line for a shell, and a section for kubeadm."""
    out = tmp_path / "a b"
    text, document = applications.exported(spec, export(spec, NOW, out=str(out)))
    again = export(spec, NOW, out=str(tmp_path / "c"))
    assert len(issued(root(spec))) == 1
    assert again.certificate.leaf.serial == document["serial"]
    words = subprocess.run(
        ["sh", "-c", f"set -- {document['etcdctl']}; for w do echo \"$w\"; done"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert words[1] == "--endpoints=https://10.0.0.1:2379,https://10.0.0.2:2379,https://10.0.0.3:2379"
    assert words[2:5] == [f"--cacert={out}/ca.crt", f"--cert={out}/operator.crt", f"--key={out}/operator.key"]
    assert all(Path(word.partition("=")[2]).is_file() for word in words[2:5])
    external = yaml.safe_load(str(document["kubeadm"]))["etcd"]["external"]
    assert set(external) == {"endpoints", "caFile", "certFile", "keyFile"}
    assert str(document["etcdctl"]) in text


def test_export_gives_nothing_that_members_refuse(spec: ClusterSpec, tmp_path: Path) -> None:
    """Revoked or ended: an application's is refused, the operator's is issued anew."""
    for name in ("app", "operator"):
        one = issue(spec, Asked(name), NOW).certificate
        store = Store.beside(spec)
        held = store.load()
        assert held is not None
        entry = Revoked(one.leaf.serial, name, NOW, None, ("client",))
        lists = crl.revoke(held.revocations, (entry,), {"client": held.authorities.client}, NOW)
        store.save(replace(held, revocations=lists, issued=("revoked",)))
    with pytest.raises(Refused, match="expired, revoked"):
        export(spec, NOW, out=str(tmp_path / "out"), name="app")
    assert export(spec, NOW, out=str(tmp_path / "out")).certificate.number == "0003"
    later = NOW + timedelta(days=400)
    assert export(spec, later, out=str(tmp_path / "out")).certificate.number == "0004"
    with pytest.raises(UsageError, match="there are: app, operator"):
        export(spec, NOW, out=str(tmp_path / "out"), name="nobody")
    with pytest.raises(UsageError, match="--out is missing"):
        export(spec, NOW, out="")
