"""Plans as text and as documents."""

from __future__ import annotations

from dataclasses import dataclass

from etcdctl_remote.console import plans
from etcdctl_remote.console.style import ansi
from etcdctl_remote.plan.step import Plan, Progress, Stage
from etcdctl_remote.remote.host import Host

NEW = "--- /etc/etcd/e.env\n+++ /etc/etcd/e.env (new, 0644 root:root)\n@@ -0,0 +1,2 @@\n+A=1\n+B={node}"
CHANGED = "--- /u\n+++ /u\n@@ -3,2 +3,2 @@\n same\n---old-flag\n+--new-flag"


@dataclass(frozen=True)
class Do:
    """A step that is only shown."""

    host: str
    title: str
    diff: str = ""

    def __str__(self) -> str:
        return self.title

    def run(self, host: Host, progress: Progress) -> None:
        raise AssertionError("a view runs nothing")


def everywhere(title: str, diff: str = "") -> list[Do]:
    """The same step on three hosts; `{node}` in the diff becomes the host."""
    return [Do(node, title, diff.replace("{node}", node)) for node in ("n1", "n2", "n3")]


PLAN = Plan(
    "deploy demo: etcd 3.6.14",
    (
        Stage("Install", (*everywhere("create user etcd"), *everywhere("write e.env", NEW))),
        Stage("Nothing here", ()),
        Stage("Restart n2", (Do("n2", "write the unit", CHANGED), Do("n2", "restart etcd"))),
    ),
    ("an even number of nodes",),
)


def test_the_question_shows_the_short_form() -> None:
    """Equal steps in one line, new files counted, short changes shown, empty stages not at all."""
    assert plans.text(PLAN, diffs=False) == (
        "deploy demo: etcd 3.6.14\n"
        "note: an even number of nodes\n"
        "\n"
        "1. Install\n"
        "   n1 n2 n3  create user etcd\n"
        "   n1 n2 n3  write e.env  +2\n"
        "\n"
        "2. Restart n2\n"
        "   n2  write the unit  +1 −1\n"
        "       --- /u\n"
        "       +++ /u\n"
        "       @@ -3,2 +3,2 @@\n"
        "        same\n"
        "       ---old-flag\n"
        "       +--new-flag\n"
        "   n2  restart etcd\n"
        "\n"
        "8 changes on 3 hosts"
    )


def test_the_plan_shows_every_diff() -> None:
    """Files that differ between hosts are listed host by host."""
    text = plans.text(PLAN)
    assert "   n1 n2 n3  create user etcd\n   n1        write e.env  +2\n" in text
    for node in ("n1", "n2", "n3"):
        assert f"       +B={node}\n" in text


def test_long_changes_are_counted_in_the_question() -> None:
    """A long diff of an existing file would hide the plan."""
    diff = "--- /u\n+++ /u\n@@ -1,1 +1,14 @@\n-x\n" + "\n".join(f"+{i}" for i in range(12))
    plan = Plan("p", (Stage("s", (Do("n1", "write /u", diff),)),))
    assert plans.text(plan, diffs=False) == "p\n\n1. s\n   n1  write /u  +12 −1\n\n1 change on 1 host"


def test_nothing_to_do_is_said() -> None:
    """The second run."""
    assert plans.text(Plan("deploy demo")) == (
        "deploy demo\nnothing to do: every host is as the inventory says"
    )


def test_colours_follow_the_diff() -> None:
    """Added green, removed red, hunks cyan, hosts cyan, titles bold."""
    text = plans.text(PLAN, ansi, diffs=False)
    assert "\x1b[31m---old-flag\x1b[0m" in text
    assert "\x1b[32m+--new-flag\x1b[0m" in text
    assert "\x1b[36m@@ -3,2 +3,2 @@\x1b[0m" in text
    assert "   \x1b[36mn1 n2 n3\x1b[0m  create user etcd" in text


def test_remote_text_in_diffs_is_harmless() -> None:
    """A file's old content comes from the host."""
    diff = "--- /u\n+++ /u\n@@ -1,1 +1,1 @@\n-\x1b[2Jold\n+new"
    plan = Plan("p", (Stage("s", (Do("n1", "write /u", diff),)),))
    assert "\x1b" not in plans.text(plan)
    assert "       -old\n" in plans.text(plan)


def test_the_document() -> None:
    """The shape that scripts rely on; `changes` counts steps, so 0 means nothing to do."""
    document = plans.document(PLAN)
    assert document["changes"] == 8
    assert document["notes"] == ["an even number of nodes"]
    stages = document["stages"]
    assert isinstance(stages, list)
    assert [stage["title"] for stage in stages] == ["Install", "Restart n2"]
    assert stages[1]["steps"] == [
        {"host": "n2", "step": "write the unit", "diff": CHANGED},
        {"host": "n2", "step": "restart etcd", "diff": ""},
    ]
    assert plans.document(Plan("p")) == {"changes": 0, "notes": [], "stages": []}


def test_counting_leaves_the_headers_out() -> None:
    """`---` and `+++` of a header are no changes; a changed line that begins with dashes is."""
    assert plans.counts(CHANGED) == "+1 −1"
    assert plans.counts(f"{CHANGED}\n{NEW}\n/etc/k: 0640 root:etcd (private key, not shown)") == "+3 −1"
    assert plans.counts("/etc/k: 0640 root:etcd (private key, not shown)") == ""
