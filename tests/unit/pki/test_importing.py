"""CAs made by the distribution's openssl, in every form that others leave: taken, or refused with reasons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etcdctl_remote.desired.model import ClusterSpec, PkiSpec
from etcdctl_remote.errors import Refused, UsageError
from etcdctl_remote.operations.certs_init import Imports, Result, certs_init
from etcdctl_remote.pki.generation import Generation
from etcdctl_remote.pki.importing import Use, candidate
from etcdctl_remote.pki.keyring import Passphrase
from etcdctl_remote.pki.profiles import Kind
from etcdctl_remote.pki.store import Store
from etcdctl_remote.secret import Secret

from . import openssl, shaking
from .stores import contents

Init = Callable[..., Result]


@pytest.fixture
def shared(cluster: ClusterSpec) -> ClusterSpec:
    """One CA for all."""
    return replace(cluster, pki=PkiSpec(peer_ca="same"))


def init(
    cluster: ClusterSpec, given: str, peer: str = "", passphrase: str = "", *, dry_run: bool = False
) -> Result:
    source = Passphrase("ask", (lambda what: Secret(passphrase.encode())) if passphrase else None)
    return certs_init(cluster, Store.beside(cluster), Imports(given, peer, source), dry_run=dry_run)


def deployed(cluster: ClusterSpec) -> Generation:
    """What the next deploy would use."""
    store = Store.beside(cluster)
    store.save(store.prepare(cluster, datetime.now(UTC)))
    found = store.load()
    assert found
    return found


def refused(cluster: ClusterSpec, given: str, peer: str = "", passphrase: str = "") -> str:
    """The message of a refusal that changed nothing."""
    with pytest.raises(UsageError) as caught:
        init(cluster, given, peer, passphrase)
    assert not Store.beside(cluster).root.exists()
    return str(caught.value)


def meet(generation: Generation, folder: Path) -> tuple[str, str]:
    """n2's etcdctl dials n1's client port, both as strict as OpenSSL can be."""
    server, client = generation.credential("n1", Kind.SERVER), generation.client("n2")
    return shaking.shake(folder, server, generation.ca_bundle, "10.0.0.1", client, generation.ca_bundle)


# -- what is taken -------------------------------------------------------------------------------


def encrypted(path: Path, *words: str) -> Path:
    made = path.with_name(f"{path.stem}-encrypted.key")
    openssl.openssl(*words, "-in", path, "-out", made)
    return made


AES = ("-aes256", "-passout", "pass:secret")
AS_IS: Callable[[Path], Path] = lambda path: path  # noqa: E731
FORMS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "SEC1 behind EC PARAMETERS, as ecparam and cfssl write it": ("ec", AS_IS),
    "SEC1 of P-384": ("ec384", AS_IS),
    "PKCS#1, as kubeadm writes it": ("rsa", AS_IS),
    "PKCS#8": ("ec", lambda path: encrypted(path, "pkcs8", "-topk8", "-nocrypt")),
    "PKCS#8, encrypted": ("rsa", lambda path: encrypted(path, "pkcs8", "-topk8", "-passout", "pass:secret")),
    "PKCS#1, encrypted as of old": ("rsa", lambda path: encrypted(path, "rsa", "-traditional", *AES)),
    "SEC1, encrypted as of old": ("ec384", lambda path: encrypted(path, "ec", *AES)),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_keys_of_every_form_are_taken(form: str, shared: ClusterSpec, tmp_path: Path) -> None:
    """The CA signs from then on; its certificate stands behind openssl's text, as easy-rsa leaves it."""
    kind, written = FORMS[form]
    ca = openssl.root(tmp_path, "theirs", kind=kind)
    assert b"Certificate:" in ca.certificate.read_bytes()[:40]
    result = init(shared, f"{ca.certificate},{written(ca.key)}", passphrase="secret")
    assert "CA 'theirs' for clients, servers and peers (taken in" in result.done[0]
    found = deployed(shared)
    assert b"BEGIN PRIVATE KEY" in (Store.beside(shared).root / "ca/0001/ca.key").read_bytes()
    assert found.leaf("n1", Kind.SERVER).issuer == "theirs"
    assert meet(found, tmp_path) == ("etcd-server-n1", "etcdctl-n2")


def test_an_intermediate_signs_and_the_root_is_trusted(cluster: ClusterSpec, tmp_path: Path) -> None:
    """Leaves carry the intermediates, in any order of the file given; only the root is in the bundle."""
    root = openssl.root(tmp_path, "root", kind="rsa")
    middle = openssl.below(root, tmp_path, "middle")
    signer = openssl.below(
        middle, tmp_path, "signer", kind="ec384", extensions=openssl.CA.replace("TRUE", "TRUE,pathlen:0")
    )
    mixed = tmp_path / "mixed.crt"
    mixed.write_bytes(
        root.chain.read_bytes() + signer.certificate.read_bytes() + middle.certificate.read_bytes()
    )
    result = init(cluster, f"{mixed},{signer.key}")
    assert [line.split("(")[1].split(",")[0] for line in result.done] == ["taken in", "made here"]
    found = deployed(cluster)
    assert found.ca_bundle.count(b"BEGIN CERTIFICATE") == 1
    assert found.credential("n1", Kind.SERVER).certificate_pem.count(b"BEGIN CERTIFICATE") == 3
    assert found.credential("n1", Kind.PEER).certificate_pem.count(b"BEGIN CERTIFICATE") == 1
    assert found.authorities.client.not_after < root_end(found)
    assert meet(found, tmp_path) == ("etcd-server-n1", "etcdctl-n2")
    assert Store.beside(cluster).prepare(cluster, datetime.now(UTC)).issued == ()
    check = openssl.openssl(
        "verify", "-CAfile", root.certificate, "-untrusted", signer.chain, _file(found, tmp_path)
    )
    assert b": OK" in check


def root_end(found: Generation) -> datetime:
    return found.authorities.client.chain[-1].not_valid_after_utc


def _file(found: Generation, folder: Path) -> Path:
    path = folder / "leaf.pem"
    path.write_bytes(found.credential("n1", Kind.SERVER).certificate_pem)
    return path


def test_kubeadms_and_cfssls_shapes_are_taken(cluster: ClusterSpec, tmp_path: Path) -> None:
    """kubeadm: a SAN on the CA and no path length. cfssl: path length, no authority key, `O` beside `CN`."""
    usage = "keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign\nsubjectKeyIdentifier=hash\n"
    kubeadm = f"basicConstraints=critical,CA:TRUE\n{usage}subjectAltName=DNS:etcd-ca\n"
    cfssl = openssl.CA.replace("TRUE", "TRUE,pathlen:1")
    one = openssl.root(tmp_path, "etcd-ca", kind="rsa", extensions=kubeadm)
    two = openssl.root(tmp_path, "cfssl-peer", extensions=cfssl)
    init(cluster, f"{one.certificate},{one.key}", f"{two.certificate},{two.key}")
    found = deployed(cluster)
    assert found.leaf("n1", Kind.SERVER).issuer == "etcd-ca"
    assert found.leaf("n1", Kind.PEER).issuer == "cfssl-peer"
    assert meet(found, tmp_path) == ("etcd-server-n1", "etcdctl-n2")


def test_a_second_time_nothing_is_done_and_another_is_refused(shared: ClusterSpec, tmp_path: Path) -> None:
    """The same CA is no change; another one is a task of its own."""
    one, two = openssl.root(tmp_path, "one"), openssl.root(tmp_path, "two")
    assert init(shared, f"{one.certificate},{one.key}", dry_run=True).done
    assert not Store.beside(shared).root.exists()
    init(shared, f"{one.certificate},{one.key}")
    before = contents(Store.beside(shared).root)
    for given in (f"{one.certificate},{one.key}", ""):
        assert init(shared, given).done == ()
    with pytest.raises(Refused, match="has a CA already, 'one'") as caught:
        init(shared, f"{two.certificate},{two.key}")
    assert "rotate-certs --ca" in caught.value.hint
    assert contents(Store.beside(shared).root) == before


def test_made_ahead_a_deploy_takes_them(cluster: ClusterSpec) -> None:
    """Without an import both CAs are made here."""
    result = init(cluster, "")
    assert [line.rpartition("made here")[1] for line in result.done] == ["made here"] * 2
    assert deployed(cluster).authorities.client.common_name == result.authorities.client.common_name


def test_a_ca_that_ends_soon_is_taken_with_a_warning(shared: ClusterSpec, tmp_path: Path) -> None:
    """Leaves are cut to its end; that is no mistake, but told."""
    root = openssl.root(tmp_path, "root")
    signer = openssl.below(root, tmp_path, "signer", days=30)
    result = init(shared, f"{signer.chain},{signer.key}")
    assert "before certificates of 365 days would" in result.warnings[0]
    assert deployed(shared).leaf("n1", Kind.SERVER).not_after == deployed(shared).authorities.client.not_after


# -- what is refused -----------------------------------------------------------------------------

UNFIT = {
    "is no CA (basicConstraints)": "basicConstraints=CA:FALSE\n",
    "may not sign certificates (keyUsage": "basicConstraints=critical,CA:TRUE\nkeyUsage=cRLSign\n",
    "not to be both server and client": f"{openssl.CA}extendedKeyUsage=serverAuth\n",
    "forbids the names 10.0.0.1, 10.0.0.2, 10.0.0.3 (nameC": f"{openssl.CA}nameConstraints=permitted;IP:127.0.0.0/255.0.0.0,"
    f"permitted;IP:0:0:0:0:0:0:0:1/{':'.join(['FFFF'] * 8)}\n",
    "forbids the names n2 (nameC": f"{openssl.CA}nameConstraints=excluded;DNS:n2\n",
}  # fmt: skip


@pytest.mark.parametrize("said", UNFIT)
def test_an_unfit_ca_is_refused(said: str, shared: ClusterSpec, tmp_path: Path) -> None:
    """For what would only show when members refuse each other."""
    ca = openssl.root(tmp_path, "unfit", extensions=UNFIT[said])
    assert said in refused(shared, f"{ca.certificate},{ca.key}")


@pytest.mark.parametrize(
    ("kind", "said"), [("rsa1024", "rsa-1024"), ("ec521", "secp521r1"), ("ed25519", "ed25519")]
)
def test_key_types_that_are_not_taken_are_named(
    kind: str, said: str, shared: ClusterSpec, tmp_path: Path
) -> None:
    """With those that are."""
    ca = openssl.root(tmp_path, "odd", kind=kind)
    message = refused(shared, f"{ca.certificate},{ca.key}")
    assert said in message
    assert "taken are RSA from 2048 bits, ECDSA P-256 and P-384" in message


def test_everything_wrong_is_said_at_once(cluster: ClusterSpec, tmp_path: Path) -> None:
    """Of both CAs, in one message."""
    one = openssl.root(tmp_path, "one", extensions="basicConstraints=CA:FALSE\nkeyUsage=cRLSign\n")
    other = openssl.key(tmp_path / "other.key")
    message = refused(cluster, f"{one.certificate},{other}", f"{tmp_path}/none.crt,{one.certificate}")
    assert f"{other} is not the key of {one.certificate}: that is of 'one'" in message
    assert "'one' is no CA" in message
    assert "'one' may not sign" in message
    assert "none.crt cannot be read: No such file" in message
    assert f"{one.certificate}: holds no private key as PEM" in message


def test_chains_are_checked(shared: ClusterSpec, tmp_path: Path) -> None:
    """Up to the root, and what it allows below itself; a stranger in the file is named."""
    root = openssl.root(tmp_path, "root", extensions=openssl.CA.replace("TRUE", "TRUE,pathlen:0"))
    signer = openssl.below(root, tmp_path, "signer")
    stranger = openssl.root(tmp_path, "stranger")
    assert "chain ends at 'signer'" in refused(shared, f"{signer.certificate},{signer.key}")
    assert "'root' allows 0 CAs below it, and here are 1" in refused(shared, f"{signer.chain},{signer.key}")
    both = tmp_path / "both.crt"
    both.write_bytes(stranger.certificate.read_bytes() + root.certificate.read_bytes())
    assert "'stranger' is not of this chain" in refused(shared, f"{both},{root.key}")


def test_a_weak_signature_below_the_root_is_refused(shared: ClusterSpec, tmp_path: Path) -> None:
    """A root is trusted for what it is; whatever its own signature is."""
    root = openssl.root(tmp_path, "root", kind="rsa", options=("-sha1",))
    signer = openssl.below(root, tmp_path, "signer")
    init(shared, f"{root.certificate},{root.key}", dry_run=True)
    weak = tmp_path / "weak.crt"
    csr = openssl.openssl("req", "-new", "-key", signer.key, "-subj", "/CN=weak")
    (tmp_path / "ext").write_text(openssl.CA)
    made = openssl.openssl(
        "x509",
        "-req",
        "-sha1",
        "-CA",
        root.certificate,
        "-CAkey",
        root.key,
        "-extfile",
        tmp_path / "ext",
        stdin=csr,
    )
    weak.write_bytes(made + root.certificate.read_bytes())
    assert "'weak' is signed with sha1, which nobody accepts" in refused(shared, f"{weak},{signer.key}")


def test_an_expired_and_a_future_ca_are_refused(shared: ClusterSpec, tmp_path: Path) -> None:
    """By this computer's clock; every certificate of the chain counts."""
    signer = openssl.below(openssl.root(tmp_path, "root"), tmp_path, "signer", days=-1)
    said = refused(shared, f"{signer.chain},{signer.key}")
    assert "'signer' expired on" in said
    assert "'root'" not in said
    early = Use((), datetime.now(UTC) - timedelta(days=400), Passphrase().get)
    found = candidate(signer.chain, signer.key, early)
    assert [line.rpartition(": ")[2].rsplit(" ", 3)[0] for line in found.wrong] == [
        "'signer' is not valid before",
        "'root' is not valid before",
    ]
    assert found.authority is None


@pytest.mark.parametrize("form", ["PKCS#8, encrypted", "PKCS#1, encrypted as of old"])
def test_a_wrong_passphrase_is_told(form: str, shared: ClusterSpec, tmp_path: Path) -> None:
    """And so is one that nobody can be asked for."""
    kind, written = FORMS[form]
    ca = openssl.root(tmp_path, "theirs", kind=kind)
    key = written(ca.key)
    assert "does not open: the passphrase is wrong" in refused(
        shared, f"{ca.certificate},{key}", passphrase="wrong"
    )
    assert "there is nobody to ask" in refused(shared, f"{ca.certificate},{key}")


def test_flags_that_contradict_the_inventory_are_refused(shared: ClusterSpec, tmp_path: Path) -> None:
    """A CA for peers, where they share one; a value that is no pair of files."""
    ca = openssl.root(tmp_path, "ca")
    pair = f"{ca.certificate},{ca.key}"
    assert "clients and peers share one CA" in refused(shared, pair, pair)
    assert "expected two files, CERT,KEY" in refused(shared, str(ca.certificate))
    separate = replace(shared, pki=PkiSpec())
    assert "both CAs have the same key" in refused(separate, pair, pair)
