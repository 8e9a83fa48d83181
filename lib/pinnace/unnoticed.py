"""Reading a file without using it: what checks an image must not keep it from getting old."""

from __future__ import annotations

import os


def opener(path: str, flags: int) -> int:
    """For ``open``: the time of the last access stays as it is if the file is one's own.

    The kernel allows O_NOATIME (open(2)) to nobody else.
    """
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:
        return os.open(path, flags)
