"""Archives over a loopback server: resumed, cut short, damaged, cached, and never unverified."""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from etcdctl_remote import acquire as module
from etcdctl_remote.acquire import Archive, acquire
from etcdctl_remote.desired import release as names
from etcdctl_remote.desired.model import ReleaseSpec, Version
from etcdctl_remote.errors import Failed, Problem, UsageError
from tests.unit.mirror import Mirror, serve

VERSION = Version(3, 6, 14)
NAME = "etcd-v3.6.14-linux-amd64.tar.gz"
CONTENT = bytes(range(256)) * 5000
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server certificate for the loopback that this process trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mirror")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "mirror.pem"
    none = serialization.NoEncryption()
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none)
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A plain http mirror of one release."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    found = Mirror({f"/v3.6.14/{NAME}": CONTENT})
    server = serve(found)
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def secure(tls: ssl.SSLContext) -> Iterator[Mirror]:
    """The same over https, with its SHA256SUMS."""
    sums = f"{SUM}  {NAME}\n".encode()
    found = Mirror({f"/v3.6.14/{NAME}": CONTENT, "/v3.6.14/SHA256SUMS": sums})
    server = serve(found, tls)
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def get(tmp_path: Path) -> Callable[[ReleaseSpec], Archive]:
    """Acquire into an empty cache."""
    return lambda release: acquire(release, VERSION, "amd64", tmp_path / "cache", lambda line: None)


Get = Callable[[ReleaseSpec], Archive]


def pinned(mirror: Mirror, sum: str = SUM) -> ReleaseSpec:
    return ReleaseSpec(mirror.url, sha256={NAME: sum})


def part_of(mirror: Mirror, tmp_path: Path) -> Path:
    origin = hashlib.sha256(mirror.url.encode()).hexdigest()[:8]
    folder = tmp_path / "cache" / origin / "v3.6.14"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{NAME}.part"


def look(release: ReleaseSpec, tmp_path: Path) -> str:
    return module.look(release, VERSION, "amd64", tmp_path / "cache", lambda line: None)


def test_a_look_fetches_the_sums_only(secure: Mirror, get: Get, tmp_path: Path) -> None:
    """That the archive could be had is known by the answer's head; once it is there, by its sum."""
    release = ReleaseSpec(secure.url)
    assert look(release, tmp_path) == f"{secure.url}/v3.6.14/{NAME} can be fetched"
    assert [name for name, _ in secure.asked] == ["SHA256SUMS", NAME]
    assert list(tmp_path.rglob("*.gz*")) == []
    path = get(release).path
    assert look(release, tmp_path) == f"{path} is there, with the right sum"
    path.write_bytes(b"x" + CONTENT[1:])
    assert look(release, tmp_path).endswith("can be fetched")


def test_a_look_says_what_a_deploy_would(mirror: Mirror, secure: Mirror, get: Get, tmp_path: Path) -> None:
    """The same words: sums over plain http, an archive that is not published, nobody answers."""
    for release in (
        ReleaseSpec(mirror.url),
        ReleaseSpec("https://127.0.0.1:9"),
        pinned(Mirror(url=mirror.url + "/x")),
    ):
        with pytest.raises(Problem) as deploys:
            get(release)
        with pytest.raises(type(deploys.value)) as looks:
            look(release, tmp_path)
        assert str(looks.value) == str(deploys.value)


def test_a_look_holds_a_pinned_sum_against_the_mirrors(
    mirror: Mirror, secure: Mirror, tmp_path: Path
) -> None:
    """Another one is told with both; where the mirror has none, the pin is believed until the download."""
    with pytest.raises(Failed, match="wrong checksum") as caught:
        look(pinned(secure, "0" * 64), tmp_path)
    assert f"expected {'0' * 64} (release.sha256)" in caught.value.message
    assert f"seen     {SUM} ({secure.url}/v3.6.14/SHA256SUMS)" in caught.value.message
    assert look(pinned(secure), tmp_path).endswith("can be fetched")
    assert look(pinned(mirror, "0" * 64), tmp_path).endswith("can be fetched")


def test_names_of_the_official_layout() -> None:
    """One folder a release, one archive an architecture, one file of sums."""
    release = ReleaseSpec("https://mirror/etcd/")
    assert names.archive_url(release, VERSION, "arm64") == (
        "https://mirror/etcd/v3.6.14/etcd-v3.6.14-linux-arm64.tar.gz"
    )
    assert names.sums_url(release, VERSION) == "https://mirror/etcd/v3.6.14/SHA256SUMS"
    assert [names.arch_of(machine) for machine in ("x86_64", "aarch64", "riscv64")] == [
        "amd64",
        "arm64",
        None,
    ]


def test_sums_in_every_usual_spelling() -> None:
    """Text and binary mode, paths, upper case; anything else is skipped."""
    text = f"{'a' * 64}  one\n{'B' * 64} *dir/two\n# no sum\n{'c' * 63}  short\n\n"
    assert names.parse_sums(text) == {"one": "a" * 64, "two": "b" * 64}


def test_a_download_is_cached_and_verified_again(mirror: Mirror, get: Get) -> None:
    """The second time nothing is fetched; the archive is the same, and was hashed."""
    first = get(pinned(mirror))
    assert (first.path.read_bytes(), first.sha256, first.size) == (CONTENT, SUM, len(CONTENT))
    assert not first.path.with_name(f"{NAME}.part").exists()
    assert get(pinned(mirror)) == first
    assert len(mirror.asked) == 1


def test_a_rotten_cache_is_not_trusted(mirror: Mirror, get: Get) -> None:
    """One changed byte in the cache, and it is fetched again."""
    path = get(pinned(mirror)).path
    path.write_bytes(b"x" + CONTENT[1:])
    assert get(pinned(mirror)).path.read_bytes() == CONTENT
    assert len(mirror.asked) == 2


def test_a_broken_link_is_picked_up_where_it_broke(mirror: Mirror, get: Get) -> None:
    """Twice cut short: only the rest is asked for each time."""
    mirror.cut_at = [300_000, 700_000]
    assert get(pinned(mirror)).sha256 == SUM
    assert mirror.asked == [(NAME, None), (NAME, "bytes=300000-"), (NAME, "bytes=700000-")]


def test_a_killed_download_goes_on_the_next_time(mirror: Mirror, get: Get, tmp_path: Path) -> None:
    """What lay in the part file is kept and hashed, the rest is fetched."""
    part_of(mirror, tmp_path).write_bytes(CONTENT[:1_000_000])
    assert get(pinned(mirror)).path.read_bytes() == CONTENT
    assert mirror.asked == [(NAME, "bytes=1000000-")]


def test_a_part_that_was_complete_already(mirror: Mirror, get: Get, tmp_path: Path) -> None:
    """Killed just before the rename: the server has nothing beyond, and the sum decides."""
    part_of(mirror, tmp_path).write_bytes(CONTENT)
    assert get(pinned(mirror)).sha256 == SUM


def test_a_part_of_something_else_is_thrown_away(mirror: Mirror, get: Get, tmp_path: Path) -> None:
    """A piece that does not fit costs one more download, not an error."""
    part_of(mirror, tmp_path).write_bytes(b"z" * 500_000)
    assert get(pinned(mirror)).path.read_bytes() == CONTENT
    assert mirror.asked[-1] == (NAME, None)


def test_a_server_without_ranges_starts_over(mirror: Mirror, get: Get, tmp_path: Path) -> None:
    """200 instead of 206: the old piece is dropped, not doubled."""
    mirror.ranges = False
    part_of(mirror, tmp_path).write_bytes(CONTENT[:1000])
    assert get(pinned(mirror)).path.read_bytes() == CONTENT


def test_a_wrong_sum_is_said_with_both_sums_and_the_size(mirror: Mirror, get: Get) -> None:
    """Nothing lands in the cache; the next run starts from nothing."""
    with pytest.raises(Failed) as caught:
        get(pinned(mirror, "0" * 64))
    assert f"expected {'0' * 64}" in caught.value.message
    assert f"seen     {SUM} ({len(CONTENT)} bytes)" in caught.value.message
    assert get(pinned(mirror)).sha256 == SUM


def test_an_archive_that_always_ends_early(
    mirror: Mirror, get: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some attempts it gives up, says how much is missing, and keeps what it has."""
    monkeypatch.setattr(module, "ATTEMPTS", 2)
    mirror.cut_at = [100, 200]
    with pytest.raises(Failed, match=rf"ended {len(CONTENT) - 200} bytes early; 200 bytes are kept"):
        get(pinned(mirror))
    assert part_of(mirror, tmp_path).read_bytes() == CONTENT[:200]


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (403, 1), (503, 4)])
def test_what_the_server_answered_is_said(mirror: Mirror, get: Get, status: int, attempts: int) -> None:
    """A refusal is final, a server in trouble is asked again; the way out is to fetch by hand."""
    mirror.status = status
    with pytest.raises(Failed, match=f"the server answered {status}") as caught:
        get(pinned(mirror))
    assert len(mirror.asked) == attempts
    assert "release: {archive: " in caught.value.hint


def test_nobody_listens(get: Get) -> None:
    """A refused connection names the address and the way out."""
    with pytest.raises(Failed, match=r"http://127\.0\.0\.1:9/.*[Rr]efused") as caught:
        get(ReleaseSpec("http://127.0.0.1:9", sha256={NAME: SUM}))
    assert "SHA256SUMS by hand" in caught.value.hint


def test_plain_http_needs_the_pinned_sum(mirror: Mirror, get: Get) -> None:
    """A sum over the same forgeable way proves nothing; nothing is fetched."""
    with pytest.raises(UsageError, match="plain http can be forged"):
        get(ReleaseSpec(mirror.url))
    assert mirror.asked == []


def test_sums_over_https(secure: Mirror, get: Get) -> None:
    """Without a pinned sum SHA256SUMS decides; it is asked for anew each time."""
    release = ReleaseSpec(secure.url)
    assert get(release).sha256 == SUM
    assert [name for name, _ in secure.asked] == ["SHA256SUMS", NAME]
    assert get(release).sha256 == SUM
    assert [name for name, _ in secure.asked] == ["SHA256SUMS", NAME, "SHA256SUMS"]


def test_a_cache_that_was_changed_with_its_sums(secure: Mirror, get: Get) -> None:
    """The mirror's sums decide, not the ones beside the archive."""
    release = ReleaseSpec(secure.url)
    path = get(release).path
    path.write_bytes(b"forged")
    forged = hashlib.sha256(b"forged").hexdigest()
    path.with_name("SHA256SUMS").write_text(f"{forged}  {NAME}\n")
    assert get(release).sha256 == SUM


def test_a_cache_without_a_network(secure: Mirror, get: Get) -> None:
    """What was fetched before will do; without an archive it is an error."""
    release = ReleaseSpec(secure.url)
    path = get(release).path
    secure.status = 503
    assert get(release).sha256 == SUM
    path.unlink()
    with pytest.raises(Failed, match="503"):
        get(release)


def test_a_stalled_download_of_another_run(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said at once, and not waited for without end."""
    monkeypatch.setattr(module, "STALLED", 0.2)
    part = part_of(mirror, tmp_path)
    said: list[str] = []
    with part.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Failed, match=r"another run has fetched nothing for 0\.2 s"):
            acquire(pinned(mirror), VERSION, "amd64", tmp_path / "cache", said.append)
    assert said == [f"{NAME} is being fetched by another run; waiting for it"]


def test_a_release_that_was_published_again(secure: Mirror, get: Get) -> None:
    """A damaged cache is judged by fresh sums, not by the old ones."""
    release = ReleaseSpec(secure.url)
    get(release).path.write_bytes(b"rot")
    fresh = b"another build"
    digest = hashlib.sha256(fresh).hexdigest()
    secure.files = {f"/v3.6.14/{NAME}": fresh, "/v3.6.14/SHA256SUMS": f"{digest}  {NAME}\n".encode()}
    assert get(release).sha256 == digest


def test_https_that_sends_us_to_http(secure: Mirror, mirror: Mirror, get: Get) -> None:
    """Sums that come over plain http after a redirect are not believed."""
    mirror.files["/v3.6.14/SHA256SUMS"] = secure.files["/v3.6.14/SHA256SUMS"]
    secure.redirect["/v3.6.14/SHA256SUMS"] = f"{mirror.url}/v3.6.14/SHA256SUMS"
    with pytest.raises(Failed, match="which can be forged"):
        get(ReleaseSpec(secure.url))


def test_an_unknown_mirror_certificate(secure: Mirror, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    """https that cannot be verified is no https."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    with pytest.raises(Failed, match="certificate verify failed"):
        get(ReleaseSpec(secure.url))


def test_sums_without_our_archive(secure: Mirror, get: Get) -> None:
    """An architecture that this release was not made for is said so."""
    secure.files["/v3.6.14/SHA256SUMS"] = f"{SUM}  other.tar.gz\n".encode()
    with pytest.raises(Failed, match=f"has no sum for {NAME}"):
        get(ReleaseSpec(secure.url))


def test_two_runs_at_once_fetch_once(mirror: Mirror, tmp_path: Path) -> None:
    """The second waits for the first and takes its archive."""
    found: list[Archive] = []

    def run() -> None:
        found.append(acquire(pinned(mirror), VERSION, "amd64", tmp_path / "cache", lambda line: None))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 4
    assert all(archive == found[0] for archive in found)
    assert found[0].path.read_bytes() == CONTENT
    assert len(mirror.asked) == 1


def test_progress_is_told(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How much of how much, up to the end; a short download says nothing of it."""
    for news, told in ((3600.0, False), (0.0, True)):
        monkeypatch.setattr(module, "NEWS", news)
        lines: list[str] = []
        acquire(pinned(mirror), VERSION, "amd64", tmp_path / str(news), lines.append)
        assert lines[0] == f"fetching {mirror.url}/v3.6.14/{NAME}"
        assert (lines[-1] == f"{NAME}: 1.2 MiB of 1.2 MiB") == told
