"""A second certificate authority, made by the distribution's openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"


def openssl(*words: object, stdin: bytes = b"") -> bytes:
    """Run openssl; what it wrote to its standard output."""
    argv = ["openssl", *map(str, words)]
    done = subprocess.run(argv, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, (argv, done.stderr.decode())
    return done.stdout


@dataclass(frozen=True)
class Made:
    """A CA on the disk: its certificate, its key, and the file of its whole chain."""

    certificate: Path
    key: Path
    chain: Path


def key(path: Path, kind: str = "ec") -> Path:
    """Make a private key: `ec`, `ec384`, `ec521`, `rsa`, `rsa1024` or `ed25519`."""
    if kind.startswith("rsa"):
        openssl("genrsa", "-traditional", "-out", path, kind.removeprefix("rsa") or "2048")
    elif kind == "ed25519":
        openssl("genpkey", "-algorithm", "ed25519", "-out", path)
    else:
        curve = {"ec": "prime256v1", "ec384": "secp384r1", "ec521": "secp521r1"}[kind]
        openssl("ecparam", "-name", curve, "-genkey", "-out", path)
    return path


def root(
    folder: Path, name: str, *, kind: str = "ec", extensions: str = CA, options: tuple[str, ...] = ()
) -> Made:
    """Make a self-signed CA; the certificate has openssl's text in front of it, as easy-rsa leaves it."""
    own = key(folder / f"{name}.key", kind)
    certificate = folder / f"{name}.crt"
    config = folder / f"{name}.cnf"
    config.write_text(f"[req]\ndistinguished_name=dn\nx509_extensions=v3\n[dn]\n[v3]\n{extensions}")
    made = openssl(
        "req", "-x509", "-new", "-key", own, "-subj", f"/O=Example/CN={name}", "-config", config,
        "-days", "3650", "-text", *options,
    )  # fmt: skip
    certificate.write_bytes(made)
    return Made(certificate, own, certificate)


def below(
    above: Made, folder: Path, name: str, *, kind: str = "ec", extensions: str = CA, days: int = 1825
) -> Made:
    """Make an intermediate, and the file of its chain: itself first."""
    own = key(folder / f"{name}.key", kind)
    csr = openssl("req", "-new", "-key", own, "-subj", f"/O=Example/CN={name}")
    certificate, chain = folder / f"{name}.crt", folder / f"{name}-chain.crt"
    certificate.write_bytes(sign(above, csr, folder, extensions, days=days))
    chain.write_bytes(certificate.read_bytes() + above.chain.read_bytes())
    return Made(certificate, own, chain)


def sign(ca: Made, csr: bytes, folder: Path, extensions: str = "", *, days: int = 365) -> bytes:
    """Sign a request; its own extensions are copied unless others are given."""
    config = folder / "sign.cnf"
    config.write_text(extensions)
    given = ("-extfile", config) if extensions else ("-copy_extensions", "copyall")
    return openssl(
        "x509", "-req", "-CA", ca.certificate, "-CAkey", ca.key, "-days", days, "-sha256", *given, stdin=csr
    )


def command(ca: Made, folder: Path, *, behind: bool = True) -> list[str]:
    """Write a signer: a script around `openssl x509 -req`, the chain behind the leaf."""
    script = folder / f"sign-with-{ca.certificate.stem}"
    carried = f"cat {ca.chain}" if behind else ":"
    script.write_text(
        "#!/bin/sh\nset -e\n"
        f"openssl x509 -req -CA {ca.certificate} -CAkey {ca.key} -days $ETCDCTL_REMOTE_DAYS -sha256 "
        f"-copy_extensions copyall\n{carried}\n"
        f'echo "$ETCDCTL_REMOTE_NODE $ETCDCTL_REMOTE_KIND $ETCDCTL_REMOTE_USAGES $ETCDCTL_REMOTE_NAMES" >>{folder}/log\n'
    )
    script.chmod(0o700)
    return [str(script)]


_LIST = """
[ca]
default_ca = etcd
[etcd]
database = {folder}/index.txt
crlnumber = {folder}/crlnumber
default_md = sha256
default_crl_days = 30
certificate = {ca.certificate}
private_key = {ca.key}
crl_extensions = extensions
[extensions]
authorityKeyIdentifier = keyid
"""


def revoke(ca: Made, certificate: Path, folder: Path) -> Path:
    """Revoke where the CA's key is: the list, PEM."""
    config, made = folder / "crl.cnf", folder / "their.crl"
    config.write_text(_LIST.format(folder=folder, ca=ca))
    (folder / "index.txt").write_text("")
    (folder / "crlnumber").write_text("01\n")
    openssl("ca", "-config", config, "-revoke", certificate)
    openssl("ca", "-config", config, "-gencrl", "-out", made)
    return made
