"""What a preflight found."""

from etcdctl_remote.observed.findings import Finding, Result, document, ordered, worst

FOUND = (
    Finding("n1", "disk", Result.FAIL, "1 GiB free, 2 needed"),
    Finding("n1", "ssh", Result.PASS, "ops@10.0.0.11"),
    Finding("n2", "clock", Result.WARN, "0.7 s ahead"),
    Finding("n2", "ssh", Result.PASS, "ops@10.0.0.12"),
)


def test_failures_come_last() -> None:
    """The end of a long table is what a terminal shows; the rest keeps its order."""
    assert [(f.node, f.check) for f in ordered(FOUND)] == [
        ("n1", "ssh"),
        ("n2", "ssh"),
        ("n2", "clock"),
        ("n1", "disk"),
    ]


def test_the_worst_decides() -> None:
    """Failure over warning over pass; nothing checked is a pass."""
    assert [worst(FOUND), worst(FOUND[1:]), worst(FOUND[1:2]), worst(())] == [
        Result.FAIL,
        Result.WARN,
        Result.PASS,
        Result.PASS,
    ]


def test_the_document() -> None:
    """The shape that scripts rely on."""
    assert document(FOUND[:1]) == {
        "result": [{"node": "n1", "check": "disk", "result": "fail", "message": "1 GiB free, 2 needed"}]
    }
