"""Make remote text safe to show.

A host's output may carry escape sequences that move the cursor, set the window's title or
hide lines. None of that reaches a terminal or a log.
"""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # OSC, DCS, SOS, PM, APC: up to their end
    r"|\x1b[ -/]*[0-~]?",  # two-character escapes
    re.DOTALL,
)
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""C0 but tab and newline, DEL, C1, line separators, and what turns the writing direction."""


def clean(text: str) -> str:
    """Remove escape sequences and control characters; keep newlines, make tabs spaces."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n"))).expandtabs(8)


def one_line(text: str) -> str:
    """Clean, and fold into a single line."""
    return " ".join(clean(text).split())
