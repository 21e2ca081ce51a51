"""Node images: a plain Debian server with systemd and sshd, made from the machine's own mirror.

No registry is needed: `mmdebstrap` makes the root file system (about 30 s), the engine imports
it. An image is named after its recipe, so a second run finds it and a changed recipe makes anew.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from ..errors import Failed, UsageError
from .engine import connect
from .machine import Say, debian_mirror, need, quiet, sh

SUITES = {"debian12": "bookworm", "debian13": "trixie"}
REPOSITORY = "etcdctl-remote-lab"
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "sudo",
    "iproute2",
    "iptables",
    "procps",
    "ca-certificates",
    "locales",
    "tcsh",
    "netbase",
)
ADMIN_PASSWORD = "lab-admin-password"  # noqa: S105 - the lab's, known to all
OPS_UID, ADMIN_UID = 1000, 1001

CUSTOMISE = rf"""set -eu
useradd -m -u {OPS_UID} -s /bin/bash ops
useradd -m -u {ADMIN_UID} -s /bin/bash -G sudo admin
printf 'admin:%s\n' '{ADMIN_PASSWORD}' | chpasswd
printf 'ops ALL=(ALL:ALL) NOPASSWD: ALL\n' >/etc/sudoers.d/ops
chmod 0440 /etc/sudoers.d/ops
for home in /root /home/ops /home/admin; do
    mkdir -p $home/.ssh && chmod 0700 $home/.ssh && chown "$(stat -c %u:%g $home)" $home/.ssh
done
localedef -i de_DE -f UTF-8 de_DE.UTF-8
mkdir -p /var/log/journal
rm -f /etc/ssh/ssh_host_*_key* /etc/machine-id /var/lib/dbus/machine-id /etc/apt/apt.conf.d/99mmdebstrap
: >/etc/machine-id
cat >/etc/systemd/system/lab-host-keys.service <<'UNIT'
[Unit]
Description=Make this node's own SSH host keys at its first boot
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
[Install]
WantedBy=multi-user.target
UNIT
systemctl enable lab-host-keys.service ssh.service
systemctl mask systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket \
    getty.target console-getty.service getty@.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
"""
"""Run as root inside the new root file system. Host keys and machine id are each node's own."""


def ensure(os_name: str, say: Say = quiet) -> str:
    """Give the tag of the image for `debian12` or `debian13`, making it if it is not there."""
    from docker.errors import ImageNotFound

    suite = suite_of(os_name)
    tag = f"{REPOSITORY}:{os_name}-{recipe_digest(suite)}"
    client = connect(say)
    try:
        client.images.get(tag)
    except ImageNotFound:
        say(f"making the {os_name} node image (about half a minute, once)")
        _make(suite, tag, say)
    return tag


def suite_of(os_name: str) -> str:
    """Give Debian's suite; UsageError for a system the lab has no recipe for."""
    if os_name not in SUITES:
        raise UsageError(f"no lab image for {os_name!r}", f"one of: {', '.join(SUITES)}")
    return SUITES[os_name]


def recipe_digest(suite: str) -> str:
    """Name all that goes into an image."""
    recipe = "\n".join([suite, *PACKAGES, CUSTOMISE])
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def _make(suite: str, tag: str, say: Say) -> None:
    with tempfile.TemporaryDirectory(prefix="lab-image-") as work:
        script = Path(work) / "customise.sh"
        script.write_text(CUSTOMISE, encoding="utf-8")
        try:
            _bootstrap(suite, tag, Path(work), say)
        except Failed as error:
            say(f"mmdebstrap cannot make it ({error.message}); trying a registry's debian:{suite}")
            _build(suite, tag, Path(work), error)


def _bootstrap(suite: str, tag: str, work: Path, say: Say) -> None:
    """Make the root file system from the machine's mirror, or mmdebstrap's own default."""
    mmdebstrap = need("mmdebstrap", "mmdebstrap", "debian-archive-keyring", say=say)
    archive = work / "root.tar"
    mirror = debian_mirror()
    options = ["--variant=minbase", f"--include={','.join(PACKAGES)}"]
    inside = ['cp "$0" "$1/customise.sh"', 'chroot "$1" sh /customise.sh', 'rm "$1/customise.sh"']
    hook = " && ".join(inside).replace("$0", str(work / "customise.sh"))
    sh([mmdebstrap, *options, f"--customize-hook={hook}", suite, str(archive), *([mirror] if mirror else [])])
    repository, _, version = tag.partition(":")
    changes = ['CMD ["/sbin/init"]']
    connect().api.import_image_from_file(str(archive), repository=repository, tag=version, changes=changes)
    connect().images.get(tag)


def _build(suite: str, tag: str, work: Path, first: Failed) -> None:
    """Make the image on top of a registry's, where mmdebstrap has no way."""
    from docker.errors import APIError, BuildError

    lines = [
        f"FROM debian:{suite}-slim",
        "RUN apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y"
        f" --no-install-recommends {' '.join(PACKAGES)} && rm -rf /var/lib/apt/lists/*",
        "COPY customise.sh /customise.sh",
        "RUN sh /customise.sh && rm /customise.sh",
        'CMD ["/sbin/init"]',
    ]
    (work / "Dockerfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
    try:
        connect().images.build(path=str(work), tag=tag, rm=True)
    except (APIError, BuildError) as error:
        tried = {"mmdebstrap": first.message, "registry": str(error)}
        raise Failed("no source gives a node image", "see both reasons above", tried) from error
