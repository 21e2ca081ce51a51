"""Aligned tables."""

from etcdctl_remote.console.style import ansi, plain
from etcdctl_remote.console.tables import Cell, Table

TABLE = Table(
    ("NODE", ">SIZE", "ALARMS", "MESSAGE"),
    (("n1", "5", "", "fine"), ("node-22", "1234", "", Cell("a longer text\nof two lines", "red"))),
    after=(Cell("two nodes", "green"),),
)


def test_columns_are_aligned_and_empty_ones_left_out() -> None:
    """Text to the left, numbers to the right, no trailing blanks, no column without content."""
    assert TABLE.text(plain) == (
        "NODE     SIZE  MESSAGE\nn1          5  fine\nnode-22  1234  a longer text of two lines\ntwo nodes"
    )


def test_colours_do_not_move_columns() -> None:
    """The escape sequences count for nothing."""
    coloured = TABLE.text(ansi)
    assert "\x1b[1mNODE\x1b[0m     \x1b[1mSIZE\x1b[0m  \x1b[1mMESSAGE\x1b[0m\n" in coloured
    assert coloured.endswith(
        "node-22  1234  \x1b[31ma longer text of two lines\x1b[0m\n\x1b[32mtwo nodes\x1b[0m"
    )


def test_the_last_column_wraps_on_a_narrow_terminal() -> None:
    """A long message goes on below itself, not below the node."""
    table = Table(("NODE", "MESSAGE"), (("n1", "one two three four five six seven"), ("n2", "short")))
    assert table.text(plain, 32) == (
        "NODE  MESSAGE\nn1    one two three four five\n      six seven\nn2    short"
    )
    assert table.text(plain, 12) == "NODE  MESSAGE\nn1    one two three four five six seven\nn2    short"


def test_wide_characters_take_two_cells() -> None:
    """Columns stay aligned behind East Asian text and combining accents."""
    table = Table(("A", "B"), (("日本", "x"), ("abcd", "y"), ("e\u0301", "z")))
    assert table.text(plain) == "A     B\n日本  x\nabcd  y\ne\u0301     z"


def test_a_table_without_rows_is_its_lines() -> None:
    """No headings over nothing."""
    assert Table(("NODE",), (), after=(Cell("no runs yet"),)).text(plain) == "no runs yet"
