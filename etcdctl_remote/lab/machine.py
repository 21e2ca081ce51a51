"""The machine the lab runs on: its programs, packages, limits and package mirror."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..errors import Failed

Say = Callable[[str], None]
"""Told what is being done, one short line at a time."""

CAP_SYS_RESOURCE = 24
"""Bit number, from linux/capability.h."""
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_WANTED = 1024
"""A node's systemd and its services hold about 7; the usual 128 is used up by some 18 nodes."""


def quiet(_line: str) -> None:
    """Say nothing."""


def sh(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 900,
) -> str:
    """Run a program to its end and give its standard output; Failed with the end of its stderr."""
    try:
        done = subprocess.run(  # noqa: S603 - argv, never a shell
            list(argv),
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise Failed(f"{argv[0]} is not installed on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{' '.join(argv[:3])} did not end within {timeout:.0f} s") from error
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-8:]) or "no message"
        raise Failed(f"{' '.join(argv[:3])}: exit {done.returncode}: {tail}")
    return done.stdout


def need(program: str, *packages: str, say: Say = quiet) -> str:
    """Give the path of a program, installing the Debian packages that carry it if it is missing."""
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/go/bin"])
    found = shutil.which(program, path=places)
    if found:
        return found
    by_hand = f"install it by hand: apt-get install {' '.join(packages)}"
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise Failed(f"{program} is not installed on this machine", by_hand)
    say(f"installing {' '.join(packages)} with apt")
    quietly = {"DEBIAN_FRONTEND": "noninteractive"}
    sh(["apt-get", "update", "-q"], env=quietly)
    sh(["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages], env=quietly)
    found = shutil.which(program, path=places)
    if not found:
        raise Failed(f"{program} is still missing after installing {' '.join(packages)}", by_hand)
    return found


def arch() -> str:
    """This machine's architecture by etcd's and Debian's name for it."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def debian_mirror() -> str | None:
    """The Debian mirror this machine's own apt uses; None where it has none (Ubuntu, others)."""
    if not shutil.which("apt-get"):
        return None
    wanted = ["Created-By: Packages", "Origin: Debian", "Label: Debian"]
    lines = sh(["apt-get", "indextargets", "--format", "$(SITE)", *wanted]).split()
    return lines[0] if lines else None


def may_raise_limits() -> bool:
    """Whether this machine has CAP_SYS_RESOURCE: without it no node can exceed its hard limits."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapBnd:"):
            return bool(int(line.split()[1], 16) >> CAP_SYS_RESOURCE & 1)
    return True


def open_files(wanted: int = 65536) -> int:
    """How many open files a node may have: the wish, or this machine's own ceiling below it."""
    if may_raise_limits():
        return wanted
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def make_room(say: Say = quiet) -> None:
    """Raise the kernel's limit on inotify instances, which all containers of this machine share.

    Past it a node's systemd ends, or never gets ready, at boot. It lasts until the machine reboots.
    """
    with contextlib.suppress(OSError, ValueError):
        if int(INOTIFY.read_text(encoding="ascii")) < INOTIFY_WANTED:
            INOTIFY.write_text(str(INOTIFY_WANTED), encoding="ascii")
            say(f"raised fs.inotify.max_user_instances to {INOTIFY_WANTED}, for many nodes side by side")


def emulate(machine: str, say: Say = quiet) -> None:
    """Have this machine's kernel run programs of another architecture, in containers too.

    The kernel opens the interpreter when it is registered (flag F), so nodes need no copy of it.
    It stays registered until the machine is booted again.
    """
    kind = {"amd64": "x86_64", "arm64": "aarch64"}[machine]
    folder = Path("/proc/sys/fs/binfmt_misc")
    if machine == arch() or any(folder.glob(f"*{kind}")):
        return
    need(f"qemu-{kind}-static", "qemu-user-static", say=say)
    try:
        if not (folder / "register").exists():
            sh(["mount", "-t", "binfmt_misc", "binfmt_misc", str(folder)])
        if not (folder / f"qemu-{kind}").exists():
            known = Path(f"/usr/lib/binfmt.d/qemu-{kind}.conf").read_text(encoding="ascii")
            (folder / "register").write_text(known.strip(), encoding="ascii")
    except (OSError, Failed) as error:
        raise Failed(f"this machine cannot run {machine} programs: {error}") from error
