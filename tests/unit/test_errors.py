"""What a user sees of an error."""

from __future__ import annotations

from pinnace.errors import ImageError, report


def test_message_context_and_hint_are_one_line() -> None:
    error = ImageError("a\nb", context="c\x1b[2J", hint="d")
    assert report(error) == "pinnace: error: a\\x0ab (c\\x1b[2J); d"


def test_what_an_image_makes_long_is_shown_in_part() -> None:
    error = ImageError("begin " + "x" * 10_000_000 + " end", hint="do this")
    assert len(report(error)) < 2100
    assert report(error).startswith("pinnace: error: begin x") and report(error).endswith("x end; do this")
