"""Remote text made safe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdctl_remote.console.clean import clean, one_line


@pytest.mark.parametrize(
    ("dirty", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;new title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]never ended", ""),
        ("over\rwritten", "overwritten"),
        ("a\r\nb", "a\nb"),
        ("bell\x07 nul\x00 c1\x9b31m", "bell nul c131m"),
        ("a\tb", "a       b"),
        ("[bold]markup[/bold] stays text", "[bold]markup[/bold] stays text"),
        ("evil\u202etxt.exe", "eviltxt.exe"),
        ("größer 日本 ✓", "größer 日本 ✓"),
    ],
)
def test_no_escape_sequence_survives(dirty: str, shown: str) -> None:
    """What could move the cursor, retitle the window or reverse the text is gone."""
    assert clean(dirty) == shown


@given(st.text(alphabet=st.characters(max_codepoint=0x2FFF)))
def test_whatever_comes_holds_no_control(text: str) -> None:
    """For any text: nothing below space but newlines, and nothing between DEL and C1's end."""
    assert not [c for c in clean(text) if (c < " " and c != "\n") or "\x7f" <= c <= "\x9f"]


def test_one_line_folds() -> None:
    """Several lines become one, with single spaces."""
    assert one_line("  a\n\n  b \x1b[1mc\n") == "a b c"
