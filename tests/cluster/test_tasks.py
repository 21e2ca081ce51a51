"""Every other task on real nodes: what it does, what it says."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab
from etcdctl_remote.plan.journal import beside, operator

from . import drive

pytestmark = pytest.mark.cluster


# -- etcdctl and logs ----------------------------------------------------------------------


def test_etcdctl_passes_everything_on(lab3: Lab) -> None:
    """Arguments as typed, output as it is, the exit code as etcdctl gave it, the node as chosen."""
    drive.deploy(lab3)
    assert drive.must(lab3, "etcdctl", "-c", "put k 'a  $HOME `id` \"b\"; exit 9'").out == "OK\n"
    assert drive.get(lab3.nodes[2], "k") == 'a  $HOME `id` "b"; exit 9'
    value = drive.must(lab3, "etcdctl", "-c", "get k --print-value-only", "--node", "n3").out
    assert value == 'a  $HOME `id` "b"; exit 9\n'
    listed = json.loads(drive.must(lab3, "etcdctl", "--node", "n2", "-c", "endpoint status -w json").out)
    assert listed[0]["Endpoint"] == f"https://{lab3.nodes[1].address}:2379"

    for wrong in (
        "nonsense",
        "get",
        "endpoint health --endpoints=https://127.0.0.1:1 --command-timeout=300ms",
    ):
        here = execute(lab3.nodes[0], f"etcdctl.sh {wrong} >/dev/null 2>&1; echo $?").strip()
        done = drive.run(lab3, "etcdctl", "-c", wrong)
        assert (str(done.code), done.out) == (here, ""), done
        assert here != "0"
        assert "rror" in done.err
    for words in ([], ["-c", ""], ["-c", "get 'a"], ["-c", "get a", "--node", "n9"]):
        done = drive.run(lab3, "etcdctl", *words)
        assert (done.code, done.out) == (2, ""), done

    watch = drive.start(lab3, "etcdctl", "-c", "watch k --rev=1", "--node", "n1")
    assert watch.stdout
    assert [watch.stdout.readline() for _ in range(2)] == ["PUT\n", "k\n"]
    assert watching(lab3)
    assert drive.interrupt(watch).code == 130
    deadline = time.monotonic() + 5
    while watching(lab3):
        assert time.monotonic() < deadline


def watching(lab: Lab) -> bool:
    """Whether an etcdctl watches on the first node."""
    words = execute(lab.nodes[0], "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' || :")
    return "--rev=1" in words.splitlines()


def test_logs_are_one_story(lab3: Lab) -> None:
    """Lines of all nodes in the order of time; fewer lines or one node on demand; follow follows."""
    drive.deploy(lab3)
    lines = drive.must(lab3, "logs", "--lines", "60").out.splitlines()
    entries = [re.match(r"(\S+Z) (n[123]) +\| ", line) for line in lines if not line.startswith(" ")]
    assert all(entries), lines
    found = [(entry[1], entry[2]) for entry in entries if entry]
    assert len(found) == 180
    assert [at for at, _ in found] == sorted(at for at, _ in found)
    nodes = [node for _, node in found]
    assert set(nodes) == {"n1", "n2", "n3"}
    assert nodes != sorted(nodes), "one node after the other is not merged"

    alone = drive.must(lab3, "logs", "--node", "n2", "--lines", "5").out.splitlines()
    assert len(alone) == 5
    assert all(" n2 | " in line for line in alone)
    assert drive.run(lab3, "logs", "--node", "n9").code == 2

    follow = drive.start(lab3, "logs", "--follow", "--lines", "1", program=drive.FIRST)
    assert follow.stdout
    followed: set[str] = set()
    while followed != {"n1", "n2", "n3"}:
        followed |= set(re.findall(r"^\S+Z (n[123]) +\| ", follow.stdout.readline()))
        assert follow.poll() is None
    execute(lab3.nodes[1], "etcdctl.sh defrag")
    deadline = time.monotonic() + 20
    while "defragment" not in (line := follow.stdout.readline()):
        assert time.monotonic() < deadline
        assert follow.poll() is None
    assert " n2 | " in line
    done = drive.interrupt(follow)
    assert done.code == 130
    assert done.seconds < 1


# -- two operators, and what was done ------------------------------------------------------


def test_the_second_operator_is_told_who_holds_the_lock(lab3: Lab) -> None:
    """Exit 4 names the holder, the task and since when; the lock dies with its holder."""
    began = datetime.now(UTC).replace(microsecond=0)
    first = drive.start(lab3, "deploy", "-y")
    drive.await_event(lab3, first, "step", "install")
    pause(lab3, first)
    asked = datetime.now(UTC)
    try:
        second = drive.run(lab3, "deploy", "-y", "-o", "json")
        assert second.code == 4, second
        assert second.json().keys() == drive.ERROR
        told = re.search(r"locked: (\S+) runs (\w+) since ([0-9T:+-]+)", json.dumps(second.json()))
        assert told, second
        assert (told[1], told[2]) == (operator(), "deploy")
        assert began <= datetime.fromisoformat(told[3]) <= asked
        assert drive.run(lab3, "plan").code == 5, "who only looks needs no lock"
        assert drive.run(lab3, "stop", "-y").code == 4
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    drive.deploy(lab3)
    drive.settle_nothing(lab3)
    assert drive.leftovers(lab3) == []


def pause(lab: Lab, process: subprocess.Popen[str]) -> None:
    """Suspend a run while it writes nothing to the journal: another run would wait for that."""
    while True:
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        with beside(lab.inventory).open("rb") as journal, contextlib.suppress(BlockingIOError):
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.02)


def test_audit_tells_who_did_what(lab3: Lab) -> None:
    """Every run that changed something or tried to; a killed one is unfinished; looking is no run."""
    assert drive.document(lab3, "audit") == {"runs": []}
    killed = drive.start(lab3, "deploy", "-y")
    drive.await_event(lab3, killed, "done", "create")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    drive.deploy(lab3)
    drive.must(lab3, "plan")
    drive.must(lab3, "health")
    drive.must(lab3, "stop", "-y")
    refused = drive.run(lab3, "destroy", "-y")
    assert refused.code == 2

    runs = drive.document(lab3, "audit")["runs"]
    assert [(run["task"], run["outcome"]) for run in runs] == [
        ("deploy", "unfinished"),
        ("deploy", "done"),
        ("stop", "done"),
        ("destroy", "usage"),
    ]
    assert {run["who"] for run in runs} == {operator()}
    text = drive.must(lab3, "audit").out
    assert all(run["id"] in text for run in runs)
    assert "unfinished" in text

    one = drive.document(lab3, "audit", "--run", runs[1]["id"])
    events = [entry["event"] for entry in one["entries"]]
    assert (events[0], events[1], events[-1]) == ("start", "plan", "end")
    assert one["entries"][-1]["exit"] == 0
    assert events.count("step") == events.count("done") == one["steps"] > 0
    assert "start etcd" in drive.must(lab3, "audit", "--run", runs[1]["id"]).out
    unknown = drive.run(lab3, "audit", "--run", "no-such-run", "-o", "json")
    assert unknown.code == 2
    assert unknown.json().keys() == drive.ERROR
    journal = (lab3.state / "inventory.journal.jsonl").read_text(encoding="utf-8")
    assert "PRIVATE KEY" not in journal


def test_check_is_a_table_and_a_document(lab3: Lab) -> None:
    """Node, check, result and message; on fresh nodes and on a cluster that runs nothing fails."""
    for _ in range(2):
        done = drive.run(lab3, "check", "-o", "json")
        assert done.code == 0, done
        found = json.dumps(done.json())
        assert '"fail"' not in found
        for node in lab3.nodes:
            assert f'"{node.name}"' in found
        text = drive.must(lab3, "check").out
        assert "RESULT" in text
        assert "0 failed" in text
        drive.deploy(lab3)


# -- the package ---------------------------------------------------------------------------


def test_an_installed_package_is_complete(lab3: Lab, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The wheel alone, in an environment of its own, writes inventories and renders units."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(drive.ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("etcdctl_remote-*.whl")
    home = folder / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python, program = home / "bin/python", home / "bin/etcdctl-remote"
    install = [*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, text=True)
    # Its dependencies are borrowed from the environment that runs the tests, to be quick.
    (site,) = home.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(f"{drive.site_packages()}\n", encoding="utf-8")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        clean = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
        return subprocess.run(
            [str(program), *words], capture_output=True, text=True, cwd=folder, env=clean, check=False
        )

    where = [str(python), "-c", "import etcdctl_remote; print(etcdctl_remote.__file__)"]
    seen = subprocess.run(where, capture_output=True, text=True, cwd=folder, check=True).stdout
    assert seen.startswith(str(home))
    assert run("--version").stdout.startswith("etcdctl-remote ")
    listed = run("--list").stdout
    for task in ("init", "check", "plan", "deploy", "health", "status", "etcdctl", "logs", "lab.up"):
        assert task in listed
    written = run("init", "--cluster", "demo", "--node", "n1=10.0.0.11", "--node", "n2=10.0.0.12")
    assert written.returncode == 0, written
    assert (folder / "inventory.yaml").exists()
    again = run("init", "--cluster", "demo", "--node", "n1=10.0.0.11")
    assert again.returncode == 2
    assert json.loads(run("init", "--schema").stdout)["type"] == "object"
    planned = run("plan", "-i", str(lab3.inventory))
    assert planned.returncode == 5, planned
    assert "+ExecStart=/usr/local/bin/etcd" in planned.stdout
    assert run("deploy", "--frobnicate").returncode == 2
