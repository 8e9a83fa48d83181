"""JSON that strangers wrote. On the launch path: standard library alone."""

from __future__ import annotations

import json

TYPE_CHECKING = False  # typing itself costs milliseconds of every start
if TYPE_CHECKING:
    from typing import Any

#: Objects and lists in one another. Configurations of images have four; what is deeper than Python's stack
#: can be read, but not copied or written.
MAX_DEPTH = 64


def parse(content: bytes) -> Any:
    """What ``content`` says. Raises ValueError if it is no JSON, or deeper than ``MAX_DEPTH``."""
    try:
        document = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    # Most have fewer brackets altogether.
    if content.count(b"[") + content.count(b"{") > MAX_DEPTH:
        _check(document)
    return document


def _check(document: Any) -> None:
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for value in level
            if isinstance(value, (dict, list))
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise ValueError("it is nested too deeply")
