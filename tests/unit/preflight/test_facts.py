"""The facts of a host, from what the script really prints."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from etcdctl_remote.desired.hostspec import UNIT_PATH
from etcdctl_remote.desired.model import ClusterSpec
from etcdctl_remote.preflight import facts, question
from etcdctl_remote.remote.privilege import script

from .wish import cluster, deployed


def test_a_running_member_is_read() -> None:
    """Every section of a real Debian 12 node lands in its field."""
    seen = deployed()
    assert (seen.uid, seen.user_exists, seen.machine, seen.init, seen.systemd) == (
        0,
        True,
        "x86_64",
        "systemd",
        252,
    )
    assert seen.os == "Debian GNU/Linux 12 (bookworm)"
    assert seen.missing == ()
    assert {"bash", "ip", "systemd-socket-activate", "systemd-socket-proxyd"} == seen.have
    assert (seen.data, seen.marker, seen.token) == ("member", "pre", "0123456789abcdef" * 2)
    assert ("eth0", "10.226.82.11/24") in seen.addresses
    assert seen.names["localhost"] == ("::1", "127.0.0.1")
    assert seen.memory["MemTotal"] > seen.memory["MemAvailable"] > 1 << 30
    assert seen.limits == facts.Limits(files=20000, resource=False)


def test_our_own_ports_are_no_strangers() -> None:
    """What our etcd listens on is told by the inode, and counts as served."""
    seen = deployed()
    assert {str(found.local.address) for found in seen.on(2379)} == {"127.0.0.1", "10.226.82.11"}
    assert seen.serves(2379)
    assert seen.serves(2380)
    assert seen.strangers(2379) == ()


def test_a_listener_without_our_digest_is_a_stranger() -> None:
    """The same sockets held by an etcd of another making are not ours."""
    unit = {key: value for key, value in deployed().unit.items() if key != "digest"}
    seen = replace(deployed(), unit=unit)
    assert not seen.serves(2379)
    assert {owner.name for _, owner in seen.strangers(2379)} == {"etcd"}


def test_places_name_the_file_system_under_each_path() -> None:
    """Free space, mount point and options belong to the nearest directory that exists."""
    place = deployed().places["/var/lib/etcd"]
    assert (place.mount, place.type) == ("/", "overlay")
    assert "rw" in place.options
    assert place.free > 1 << 30
    assert deployed().places["/opt/etcd"].near.startswith("/opt")


def test_the_script_runs_in_a_plain_shell_and_reads_only() -> None:
    """dash, here, without any of our files: no error output, and every section is there."""
    shell = shutil.which("dash") or "sh"
    wish = replace(cluster(), paths=replace(cluster().paths, data="/nowhere/a/b", config="/nowhere"))
    command = question.command(wish)
    assert not command.writes
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    done = subprocess.run([shell], input=script(command), capture_output=True, env=environment, check=True)
    assert done.stderr == b""
    seen = facts.read(wish, "n1", done.stdout.decode())
    assert seen.data == "absent"
    assert seen.marker is None
    assert seen.clock > 0
    assert {"/nowhere/a/b", "/opt/etcd"} <= set(seen.places)
    assert any(ip_address(text.partition("/")[0]).is_loopback for _, text in seen.addresses)


def test_without_ip_the_kernels_own_tables_give_the_addresses() -> None:
    """A host without iproute2 still tells its addresses."""
    command = question.command(cluster())
    bare = replace(command, script=command.script.replace("command -v ip >/dev/null", "false"))
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    done = subprocess.run(["sh"], input=script(bare), capture_output=True, check=True, env=environment)
    seen = facts.read(cluster(), "n1", done.stdout.decode())
    assert ("-", "127.0.0.1") in seen.addresses


def test_nothing_said_means_nothing_seen() -> None:
    """Output cut short by a broken host gives unknowns, not a crash."""
    seen = facts.read(cluster(), "n1", "@@clock\n1.5\n@@places\n")
    assert (seen.clock, seen.uid, seen.systemd, seen.places, seen.enforcing) == (1.5, None, None, {}, None)


def test_an_old_systemd_names_its_release_in_many_ways() -> None:
    """`systemd 239 (239-82.el8)` is 239."""
    seen = facts.read(cluster(), "n1", "@@init\nsystemd\nsystemd 239 (239-82.el8)\n")
    assert seen.systemd == 239


def test_a_user_namespace_is_not_privileged_whatever_it_shows() -> None:
    """An unprivileged container shows all capabilities, of its own namespace only."""
    output = "@@limits\nMax open files 1024 4096 files\nCapEff 000001ffffffffff\nuserns 0 100000 65536\n"
    assert facts.read(cluster(), "n1", output).limits == facts.Limits(files=4096, resource=False)


def test_files_in_our_places_are_told_from_ours(tmp_path: Path) -> None:
    """A unit without our digest, a mask, a real program; our own unit and links are none."""
    unit, program, link = tmp_path / "etcd.service", tmp_path / "etcd", tmp_path / "etcdctl"
    link.symlink_to("/nowhere/etcdctl")
    unit.write_text("Environment=ETCDCTL_REMOTE_DIGEST=0\n")
    assert foreign(tmp_path) == ()
    program.write_text("")
    unit.write_text("[Service]\n")
    assert foreign(tmp_path) == (str(unit), str(program))
    unit.unlink()
    unit.symlink_to("/dev/null")
    assert foreign(tmp_path) == (str(unit), str(program))


def foreign(folder: Path) -> tuple[str, ...]:
    wish = replace(cluster(), paths=replace(cluster().paths, bin=str(folder), data="/nowhere/a"))
    command = question.command(wish)
    args = tuple(str(folder / "etcd.service") if arg == UNIT_PATH else arg for arg in command.args)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    text = script(replace(command, args=args))
    done = subprocess.run(["sh"], input=text, capture_output=True, env=environment, check=True)
    return facts.read(wish, "n1", done.stdout.decode()).foreign


OURS = ("pki/current -> 0123456789abcdef", "pki/0123456789abcdef/ca.crt", "identity", "member -> identity")
CONFIGS = [
    ((), ()),
    (("ssl/", "openssl.cnf"), (("", ("openssl.cnf", "ssl")),)),
    (("manifests/", "pki/ca.crt"), (("", ("manifests",)), ("/pki", ("ca.crt",)))),
    (("pki/ca.crt",), (("/pki", ("ca.crt",)),)),
    (("a", "b", "c", "d", "e"), (("", ("a", "b", "c", "d")),)),
    (("etcd.conf", "etcd.conf.rpmsave", "lost+found/"), ()),
    (("pki/", ".etcdctl-remote.0123456789ab/"), ()),
    (("pki/0123456789abcdef/ca.crt", "etcdctl.env"), ()),
    ((*OURS, "notes", "pki/notes"), ()),
    (("member -> identity", "notes"), ()),
    (("pki/current -> elsewhere", "member", "notes"), (("", ("notes",)),)),
]


@pytest.mark.parametrize(("layout", "seen"), CONFIGS)
def test_names_of_others_where_our_directory_goes(
    tmp_path: Path, layout: tuple[str, ...], seen: tuple[tuple[str, tuple[str, ...]], ...]
) -> None:
    """What a package brings and what a cut-off run left is no obstacle; a link of ours says the place is ours."""
    config = tmp_path / "config"
    for name in layout:
        path, _, target = name.partition(" -> ")
        place = config / path
        (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        if target:
            place.symlink_to(target)
        elif not path.endswith("/"):
            place.touch()
    wish = replace(cluster(), paths=replace(cluster().paths, config=str(config), data="/nowhere/a"))
    text = script(question.command(wish))
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    done = subprocess.run(["sh"], input=text, capture_output=True, env=environment, check=True)
    occupied = facts.read(wish, "n1", done.stdout.decode()).occupied
    assert tuple((place.path.removeprefix(str(config)), place.names) for place in occupied) == seen
    owner = f"{config.owner()}:{config.group()}" if seen else ""
    assert {place.rights for place in occupied} <= {f"{mode} {owner}" for mode in ("0755", "0775")}


def test_every_program_that_scripts_run_is_asked_for() -> None:
    """A minimal image without one of them must fail here, not in the middle of a deploy."""
    asked = set(question.NEEDED.split())
    folder = Path(question.__file__).parents[1]
    text = "".join(path.read_text() for floor in ("remote", "plan") for path in (folder / floor).glob("*.py"))
    starts = r"(^|[;|&({]|do|then|if|exec|!) *"
    run = {name for name in PROGRAMS if re.search(starts + name + ' [-"]', text, re.M)}
    assert {"find", "rmdir", "mountpoint"} <= run
    assert run - asked == set()


PROGRAMS = re.findall(
    r"\w+",
    "awk basename cat chgrp chmod chown cmp cp cut df dirname find findmnt grep install ln ls mkdir mktemp "
    "mountpoint mv pgrep readlink realpath rm rmdir sed sort stat sync tail tar tee touch tr uniq wc xargs",
)


def test_ip_is_needed_where_an_interface_is_named() -> None:
    """Nothing else tells its address."""
    assert "ip" not in needed(cluster())
    first, *others = cluster().nodes
    assert "ip" in needed(replace(cluster(), nodes=(replace(first, interface="eth0"), *others)))


def needed(wish: ClusterSpec) -> set[str]:
    return {word for arg in question.command(wish).args if arg.startswith("base64 ") for word in arg.split()}
