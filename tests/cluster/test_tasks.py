"""Every other task on real nodes: what it does, what it says, how it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from etcdctl_remote.lab import faults
from etcdctl_remote.lab.hosts import execute
from etcdctl_remote.lab.model import Lab, each
from etcdctl_remote.plan.journal import operator

from . import drive

pytestmark = pytest.mark.cluster

ERROR = {"error", "hint", "hosts"}


def active(lab: Lab) -> list[str]:
    """Return what systemd says of etcd on each node."""
    return each(lab.nodes, lambda node: execute(node, "systemctl is-active etcd || true").strip())


# -- start, stop, destroy ------------------------------------------------------------------


def test_stop_and_start(lab3: Lab) -> None:
    """Stop says what stops working and insists on a yes; nothing is lost, and start brings it back."""
    drive.deploy(lab3)
    drive.put(lab3.nodes[0], "kept", "yes")
    refused = drive.run(lab3, "stop")
    assert refused.code == 2
    assert "every client" in refused.err
    assert "--yes" in refused.err
    assert active(lab3) == ["active"] * 3

    assert drive.must(lab3, "stop", "--yes", "-o", "json").json()["changes"] == 3
    assert active(lab3) == ["inactive"] * 3
    assert "nothing to do" in drive.must(lab3, "stop", "-y").out
    sick = drive.run(lab3, "health", "-o", "json")
    assert sick.code == 1
    assert sick.json()["healthy"] is False
    assert [e["healthy"] for e in sick.json()["endpoints"]] == [False] * 3
    assert all(e["error"] for e in sick.json()["endpoints"])
    down = drive.document(lab3, "status")
    assert (down["tolerates"], down["leader"]) == (-1, None)
    stopped = drive.run(lab3, "deploy", "-y", "-o", "json")
    assert stopped.code in (0, 4), "either it starts them or it says who does"

    drive.must(lab3, "start", "-y")
    assert active(lab3) == ["active"] * 3
    assert drive.get(lab3.nodes[2], "kept") == "yes"
    assert "nothing to do" in drive.must(lab3, "start", "-y").out
    drive.settle_nothing(lab3)


def test_one_member_down_is_told_and_started_again(lab3: Lab) -> None:
    """Health ends with 1 and names it, status counts what may still be lost, deploy starts it."""
    drive.deploy(lab3)
    execute(lab3.nodes[1], "systemctl stop etcd")
    sick = drive.run(lab3, "health")
    assert sick.code == 1
    lines = sick.out.splitlines()
    assert [" is healthy: " in line for line in lines] == [True, False, True]
    assert lines[1].startswith(
        f"https://{lab3.nodes[1].address}:2379 is unhealthy: failed to commit proposal: "
    )
    assert drive.document(lab3, "status")["tolerates"] == 0
    plan = drive.run(lab3, "plan", "-o", "json")
    assert plan.code == 5
    steps = [(step["host"], step["step"]) for stage in plan.json()["stages"] for step in stage["steps"]]
    assert steps == [("n2", "start etcd")]
    drive.deploy(lab3)
    assert drive.document(lab3, "status")["tolerates"] == 1


def test_destroy_needs_the_clusters_name(lab3: Lab) -> None:
    """--yes is not enough, another name is not, no terminal is not: nothing is touched."""
    drive.deploy(lab3)
    with drive.untouched(lab3, "/var/lib/etcd/"):
        for words in (["destroy"], ["destroy", "-y"], ["destroy", "-y", "--confirm", "other"]):
            done = drive.run(lab3, *words)
            assert done.code == 2, done
            assert f"--confirm {lab3.name}" in done.err


def test_destroy_takes_away_what_deploy_brought_and_keeps_the_data(lab3: Lab) -> None:
    """What is left is the data under a dated name; a new cluster can be deployed in its place."""
    fresh = drive.all_files(lab3)
    drive.deploy(lab3)
    drop_in = "/etc/systemd/system/etcd.service.d/10-op.conf"
    execute(lab3.nodes[0], 'mkdir -p "${1%/*}"; echo "[Service]" >"$1"', drop_in)
    first = drive.document(lab3, "status")["cluster_id"]
    drive.put(lab3.nodes[0], "treasure", "buried-in-the-old-cluster")

    drive.must(lab3, "destroy", "--confirm", lab3.name)
    after = drive.all_files(lab3)
    came = {path.partition(":")[2] for path in drive.changed(fresh, after) if path in after}
    aside = {path for path in came if re.match(r"/var/lib/etcd\.\d{8}T\d{6}(/|$)", path)}
    assert len({path.split("/")[3] for path in aside}) == 1
    accounts = {f"/etc/{name}{end}" for name in ("passwd", "group", "shadow", "gshadow") for end in ("", "-")}
    folders = {"/etc", "/opt", "/opt/etcd", "/etc/etcd", "/usr/local/bin", "/etc/systemd/system", "/var/lib"}
    folders |= {"/etc/systemd/system/multi-user.target.wants", "/etc/.pwd.lock"}
    folders |= {"/etc/subuid", "/etc/subgid", "/etc/subuid-", "/etc/subgid-"}
    assert came - aside - accounts - folders == {drop_in, drop_in.rpartition("/")[0]}
    assert not {path for path in after if "/opt/etcd/" in path or "/etc/etcd/" in path}
    assert not drive.changed(fresh, after) - after.keys(), "something was removed that deploy did not bring"
    for node in lab3.nodes:
        assert execute(node, "systemctl show -P LoadState etcd.service").strip() == "not-found"
        assert execute(node, "pgrep -x etcd || true") == ""
        found = execute(node, "grep -l buried-in-the-old-cluster -r /var/lib/etcd.*/member")
        assert found, f"{node.name}: the key is not in the data that was kept"
    assert "nothing to do" in drive.must(lab3, "destroy", "--confirm", lab3.name).out

    drive.deploy(lab3)
    second = drive.document(lab3, "status")["cluster_id"]
    assert second != first
    assert drive.get(lab3.nodes[1], "treasure") == ""
    drive.put(lab3.nodes[1], "a", "b")
    kept = execute(lab3.nodes[0], "ls -d /var/lib/etcd.*")

    drive.must(lab3, "destroy", "-y", "--confirm", lab3.name, "--delete-data", "-o", "json")
    for node in lab3.nodes:
        assert execute(node, "ls -d /var/lib/etcd*").split() == (
            kept.split() if node == lab3.nodes[0] else execute(node, "ls -d /var/lib/etcd.*").split()
        )
        assert execute(node, "test ! -e /var/lib/etcd && echo gone").strip() == "gone"


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

    follow = drive.start(lab3, "logs", "--follow", "--lines", "1")
    assert follow.stdout
    for _ in range(3):
        follow.stdout.readline()
    execute(lab3.nodes[1], "etcdctl.sh defrag")
    deadline = time.monotonic() + 20
    while "defragment" not in (line := follow.stdout.readline()):
        assert time.monotonic() < deadline
        assert follow.poll() is None
    assert " n2 | " in line
    done = drive.interrupt(follow)
    assert done.code == 130
    assert done.seconds < 1


# -- how tasks end -------------------------------------------------------------------------


def test_every_failure_with_json_is_one_document(lab3: Lab) -> None:
    """What was seen, the way out, the hosts; nothing else on standard output."""
    bad = lab3.state / "bad.yaml"
    bad.write_text("cluster: x\nversion: 3.10\nnodes: {}\nsetings: {}\n", encoding="utf-8")
    absent = lab3.state / "absent.yaml"
    tasks = ("plan", "deploy", "health", "status", "check", "start", "stop", "destroy")
    for task, path in [*((task, bad) for task in tasks), ("deploy", absent), ("audit", absent)]:
        done = drive.run(lab3, task, "-o", "json", inventory=path)
        assert done.code == 2, done
        assert done.json().keys() == ERROR
        assert str(path) in json.dumps(done.json())
        assert done.err.strip(), "a person reads standard error"
    every = drive.run(lab3, "plan", inventory=bad)
    assert every.out == ""
    assert len(re.findall(rf"{re.escape(str(bad))}:\d+:\d+", every.err)) >= 3, "all mistakes at once"
    drive.deploy(lab3)
    for words in (["stop"], ["destroy"], ["destroy", "--confirm", "other"]):
        done = drive.run(lab3, *words, "-o", "json")
        assert done.code == 2, done
        assert done.json().keys() == ERROR


def test_wrong_usage_ends_with_two(lab3: Lab) -> None:
    """Unknown flags, unknown tasks, values that are flags, formats nobody knows."""
    for words in (
        ["deploy", "--no-such-flag"],
        ["no-such-task"],
        ["status", "--output", "yaml"],
        ["etcdctl", "--node", "--yes", "-c", "version"],
        ["status", "extra"],
    ):
        done = drive.run(lab3, *words)
        assert (done.code, done.out) == (2, ""), done
        assert done.err.strip()
        assert "Traceback" not in done.err
    before = drive.all_files(lab3)
    helped = drive.run(lab3, "deploy", "--help")
    assert helped.code == 0
    assert "--dry-run" in helped.out
    assert not drive.differences(before, drive.all_files(lab3))


def test_without_a_yes_and_without_a_terminal_nothing_is_deployed(lab3: Lab) -> None:
    """The plan is shown, the way to agree is named, and no certificate is made."""
    before, here = drive.all_files(lab3), set(drive.folder(lab3.state))
    done = drive.run(lab3, "deploy")
    assert done.code == 2
    assert "start etcd" in done.err
    assert "--yes" in done.err
    assert not drive.differences(before, drive.all_files(lab3))
    assert set(drive.folder(lab3.state)) - here == {str(lab3.state / "inventory.journal.jsonl")}


def test_one_host_of_three_down_starts_nothing_anywhere(lab3: Lab) -> None:
    """Exit 3 names it; those that answer are as they were, and the next run deploys all three."""
    before = drive.all_files(lab3)
    drive.impatient(lab3)
    faults.power_off(lab3.nodes[2])
    here = set(drive.folder(lab3.state))
    for words in (["deploy", "-y", "-o", "json"], ["plan", "-o", "json"]):
        done = drive.run(lab3, *words)
        assert done.code == 3, done
        assert done.json().keys() == ERROR
        assert "n3" in json.dumps(done.json())
    faults.power_on(lab3.nodes[2])
    after = drive.all_files(lab3)
    assert not {path for path in drive.changed(before, after) if not path.startswith("n3:")}
    assert not [path for path in after if "etcd.service" in path or "/opt/etcd" in path]
    assert set(drive.folder(lab3.state)) - here == {str(lab3.state / "inventory.journal.jsonl")}
    drive.deploy(lab3)
    drive.must(lab3, "health")


def test_looking_goes_on_without_a_host(lab3: Lab) -> None:
    """Health and status show what can be seen, and count the lost host as lost."""
    drive.deploy(lab3)
    drive.impatient(lab3)
    faults.power_off(lab3.nodes[2])
    sick = drive.run(lab3, "health", "-o", "json")
    assert sick.code == 1
    assert [e["healthy"] for e in sick.json()["endpoints"]] == [True, True, False]
    found = drive.document(lab3, "status")
    assert found["tolerates"] == 0
    assert [m["node"] for m in found["members"]] == ["n1", "n2", "n3"]
    assert found["members"][2]["role"] == "unreachable"
    assert drive.must(lab3, "etcdctl", "-c", "put a b").out == "OK\n"
    assert drive.run(lab3, "etcdctl", "-c", "get a", "--node", "n3").code == 3
    done = drive.run(lab3, "deploy", "-y", "-o", "json")
    assert done.code == 3, done
    assert done.json().keys() == ERROR
    faults.power_on(lab3.nodes[2])
    drive.settle_nothing(lab3)


def test_no_host_at_all(lab3: Lab) -> None:
    """Exit 3 for every task that needs one."""
    drive.impatient(lab3)
    each(lab3.nodes, faults.power_off)
    for task in ("health", "status", "plan"):
        done = drive.run(lab3, task, "-o", "json")
        assert done.code == 3, done
        assert done.json().keys() == ERROR
        assert done.json()["hosts"].keys() == {"n1", "n2", "n3"}


def test_ctrl_c_ends_a_deploy_at_once_and_the_next_run_goes_on(lab3: Lab) -> None:
    """While it connects, sends, starts: within a second, with 130, in the journal as interrupted."""
    moments = (
        ("start", ""),
        ("step", "create"),
        ("step", "install"),
        ("done", "install"),
        ("step", "start etcd"),
    )
    for number, (event, text) in enumerate(moments):
        process = drive.start(lab3, "deploy", "-y")
        drive.await_event(lab3, process, event, text, runs=number)
        done = drive.interrupt(process)
        assert done.code == 130, (event, text, done)
        assert done.seconds < 1, (event, text, done)
        assert "Traceback" not in done.err
        assert drive.document(lab3, "audit")["runs"][-1]["outcome"] == "interrupted"
    drive.deploy(lab3)
    drive.settle_nothing(lab3)
    assert drive.leftovers(lab3) == []
    drive.must(lab3, "health")


# -- two operators, and what was done ------------------------------------------------------


def test_the_second_operator_is_told_who_holds_the_lock(lab3: Lab) -> None:
    """Exit 4 names the holder, the task and since when; the lock dies with its holder."""
    began = datetime.now(UTC)
    first = drive.start(lab3, "deploy", "-y")
    drive.await_event(lab3, first, "step", "install")
    first.send_signal(signal.SIGSTOP)
    try:
        second = drive.run(lab3, "deploy", "-y", "-o", "json")
        assert second.code == 4, second
        assert second.json().keys() == ERROR
        told = re.search(r"locked: (\S+) runs (\w+) since ([0-9T:+-]+)", json.dumps(second.json()))
        assert told, second
        assert (told[1], told[2]) == (operator(), "deploy")
        assert abs(datetime.fromisoformat(told[3]) - began) < timedelta(seconds=20)
        assert drive.run(lab3, "plan").code == 5, "who only looks needs no lock"
        assert drive.run(lab3, "stop", "-y").code == 4
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    drive.deploy(lab3)
    drive.settle_nothing(lab3)
    assert drive.leftovers(lab3) == []


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
    assert unknown.json().keys() == ERROR
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
