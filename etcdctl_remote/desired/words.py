"""What a name, an address, a path may look like: one function each, raising ValueError.

Every message says what is wrong and what was expected; names and paths end up in shell
arguments, certificate subjects, file names and a systemd unit, so they are kept plain here.
"""

from __future__ import annotations

import ipaddress
import re

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST_NAME = re.compile(rf"{LABEL}(\.{LABEL})*\.?")
SSH_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}")
HOP = re.compile(
    r"([A-Za-z0-9_][A-Za-z0-9._-]*@)?([A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
)
INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,14}")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
LOGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@\\-]{0,63}")
REMOTE_PATH = re.compile(r"(/[A-Za-z0-9_+@.-]+)+")
SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
SOURCE = re.compile(r"ask|env:[A-Za-z_][A-Za-z0-9_]*|fd:[0-9]{1,4}")
RECIPIENT = re.compile(r"age1[a-z0-9]{20,}|ssh-(ed25519|rsa) [A-Za-z0-9+/]+={0,2}( [^\n]*)?")
_SYSTEM = (
    "/bin /boot /etc /home /lib /lib32 /lib64 /libx32 /lost+found /media /mnt /opt /opt/etcd /root /sbin /srv /tmp "
    "/usr /var "
    "/etc/apt /etc/cron.d /etc/default /etc/init.d /etc/netplan /etc/network /etc/NetworkManager /etc/opt /etc/pam.d "
    "/etc/pki /etc/pki/tls /etc/profile.d /etc/security /etc/selinux /etc/skel /etc/ssh /etc/ssl /etc/ssl/certs "
    "/etc/ssl/private /etc/sudoers.d /etc/sysconfig /etc/sysctl.d /etc/systemd /etc/systemd/system /etc/tmpfiles.d "
    "/etc/udev /etc/yum.repos.d "
    "/usr/bin /usr/games /usr/include /usr/lib /usr/lib32 /usr/lib64 /usr/libexec /usr/libx32 /usr/local "
    "/usr/local/bin /usr/local/etc /usr/local/games /usr/local/include /usr/local/lib /usr/local/lib64 "
    "/usr/local/libexec /usr/local/man /usr/local/sbin /usr/local/share /usr/local/src /usr/sbin /usr/share /usr/src "
    "/var/backups /var/cache /var/crash /var/lib /var/local /var/log /var/mail /var/opt /var/spool /var/spool/cron "
    "/var/tmp"
)
SYSTEM = frozenset(_SYSTEM.split())
"""Directories whose owner and mode must not change; and our own programs."""
VOLATILE = re.compile(r"/(dev|proc|run|sys|var/lock|var/run)(/|$)")
"""What the kernel makes, and what a reboot empties."""


def _fits(pattern: re.Pattern[str], text: str, what: str) -> str:
    """Return the text if all of it fits; else say what it is not, and what was expected."""
    if not pattern.fullmatch(text):
        raise ValueError(f"{text!r} is not {what}")
    return text


def name(text: str) -> str:
    """Check a cluster or member name."""
    return _fits(NAME, text, "a name; expected 1 to 63 letters, digits, `.`, `_` or `-`")


def address(text: str) -> str:
    """Check and normalise an address that etcd can bind."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        hint = "; a name goes under `host` or `advertise`" if SSH_HOST.fullmatch(text) else ""
        raise ValueError(f"{text!r} is not an IP address; expected IPv4 or IPv6{hint}") from None
    first = int(found) >> 24 if found.version == 4 else 1
    odd = found.is_unspecified or found.is_multicast or getattr(found, "scope_id", None)
    if odd or not 0 < first < 224:  # 0.0.0.0/8 and 240.0.0.0/4 belong to no host
        raise ValueError(f"{text} is not the address of one host; expected a unicast address")
    if found.is_link_local:
        raise ValueError(f"{text} is link-local, others cannot dial it; expected a routable address")
    return str(found)


def dialled(text: str) -> str:
    """Check what SSH dials: an address, a host name, or an alias of the OpenSSH configuration."""
    if _is_address(text):
        return str(ipaddress.ip_address(text))
    if "@" in text:
        raise ValueError(f"{text!r} holds a user; expected the host only, and the user under `ssh.user`")
    if not SSH_HOST.fullmatch(text):
        raise ValueError(f"{text!r} is not a host; expected an address, a host name or an OpenSSH alias")
    return text


def advertised(text: str) -> str:
    """Check what other members dial: an address or a host name."""
    if _looks_numeric(text):
        return address(text)
    return host_name(text)


def alternative(text: str) -> str:
    """Check a subject alternative name: an address or a DNS name, `*.` allowed in front."""
    if _looks_numeric(text):
        return address(text) if not _is_loopback(text) else str(ipaddress.ip_address(text))
    host_name(text.removeprefix("*."))
    return text


def host_name(text: str) -> str:
    """Check a DNS name."""
    if not HOST_NAME.fullmatch(text) or len(text) > 253:
        raise ValueError(f"{text!r} is not a host name; expected an IP address or a DNS name")
    return text


def hop(text: str) -> str:
    """Check one jump host."""
    return _fits(HOP, text, "a jump host; expected [user@]host[:port]")


def interface(text: str) -> str:
    """Check the name of a network interface."""
    return _fits(INTERFACE, text, "an interface; expected a name such as eth0 or wg0")


def user(text: str) -> str:
    """Check the system user that etcd runs as."""
    return _fits(USER, text, "a system user; expected lower-case letters, digits, `_`, `-`")


def login(text: str) -> str:
    """Check the user that SSH logs in as."""
    return _fits(LOGIN, text, "a login name; expected letters, digits, `.`, `_`, `-`, `@`")


def remote_path(text: str) -> str:
    """Check an absolute path on a node and take off trailing slashes."""
    path = text.rstrip("/")
    if not REMOTE_PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise ValueError(f"{text!r} is not usable as a path; expected an absolute path of plain characters")
    if VOLATILE.match(path):
        raise ValueError(f"{path} does not outlive a reboot; expected a directory on a disk")
    return path


def own_path(text: str) -> str:
    """Check a directory whose owner and mode we set: never one that the system lives in."""
    path = remote_path(text)
    if path in SYSTEM:
        raise ValueError(f"{path} belongs to the system; expected a directory of etcd's own below it")
    return path


def sha256(text: str) -> str:
    """Check a checksum."""
    if not SHA256.fullmatch(text):
        raise ValueError(f"{text!r} is not a SHA-256 sum; expected 64 hexadecimal digits")
    return text.lower()


def release_url(text: str) -> str:
    """Check the address of a mirror."""
    if not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", text):
        raise ValueError(f"{text!r} is not an address; expected https://host/path")
    return text.rstrip("/")


def archive(text: str) -> str:
    """Check a local archive pattern: only {version} and {arch} are filled in."""
    rest = text.replace("{version}", "").replace("{arch}", "")
    if not text or "{" in rest or "}" in rest or "\0" in rest:
        raise ValueError(f"{text!r} cannot be filled in; expected only {{version}} and {{arch}} in braces")
    return text


def local_path(text: str) -> str:
    """Check a path on this computer."""
    if not text or any(ord(char) < 32 for char in text):
        raise ValueError(f"{text!r} is not a path; expected a file on this computer")
    return text


def source(text: str) -> str:
    """Check where a passphrase comes from; it stands in no file itself, and if it does it is not repeated."""
    if not SOURCE.fullmatch(text):
        raise ValueError("this says not where the passphrase comes from; expected ask, env:NAME or fd:NUMBER")
    return text


def recipient(text: str) -> str:
    """Check the look of an age recipient; whether it is one, shows when something is sealed for it."""
    if text.startswith("AGE-SECRET-KEY-"):
        raise ValueError("this is an identity, which is secret; expected its public half, age1…")
    return _fits(RECIPIENT, text, "a recipient; expected age1… or an SSH public key (ed25519, rsa)")


def is_loopback(text: str) -> bool:
    """Whether this is an address of the loopback interface."""
    return _is_address(text) and _is_loopback(text)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def _looks_numeric(text: str) -> bool:
    """A colon or only digits and dots: meant as an address, whatever the typing mistake."""
    return ":" in text or re.fullmatch(r"[0-9.]+", text) is not None
