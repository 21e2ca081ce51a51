"""Which releases may be wanted, and what is said about them."""

from __future__ import annotations

import pytest

from etcdctl_remote.desired import versions
from etcdctl_remote.desired.model import Version


def test_lines_are_ordered_as_numbers() -> None:
    """The newest line is the last."""
    assert versions.lines() == ("3.4", "3.5", "3.6", "3.7")
    assert versions.newest() == versions.newest("3.7")
    assert (versions.after("3.4"), versions.after("3.7")) == ("3.5", None)


@pytest.mark.parametrize("text", ["3.6.14", "v3.6.14", "3.6.99"])
def test_known_lines_are_accepted_newer_patches_too(text: str) -> None:
    """A patch we have not heard of does not add or remove flags."""
    assert versions.wanted(text).line == "3.6"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3.8.0", r"etcd 3\.8 is not known; expected one of 3\.4"),
        ("2.3.8", r"etcd 2\.3 is not known"),
        ("3.6", r'is a line, not a release; expected for example "3\.6'),
        ("latest", r"is not a release number; expected X\.Y\.Z"),
        ("3.6.14-rc.1", "is not a release number"),
    ],
)
def test_anything_else_is_refused(text: str, said: str) -> None:
    """An unknown line may have lost any flag."""
    with pytest.raises(ValueError, match=said):
        versions.wanted(text)


def test_advice() -> None:
    """The newest patch of a living line is fine; holes, data loss and dead lines are named."""
    for line in ("3.5", "3.6", "3.7"):
        assert versions.advice(versions.newest(line)) == ()
    assert any("corrupts data" in text for text in versions.advice(Version(3, 5, 16)))
    assert any("use 3.5.33 or newer" in text for text in versions.advice(Version(3, 5, 30)))
    assert any("no more fixes" in text for text in versions.advice(Version(3, 4, 45)))
