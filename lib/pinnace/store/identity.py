"""What a file of the user's is called for as long as it is the same. On the launch path."""

from __future__ import annotations

import os


def of(path: str, status: os.stat_result, *, leased: bool = False) -> str:
    """64 digits that stand for the file at a real path until it is changed or replaced.

    The device's number is none of it: that of a network file system changes with every mount. Nor is the
    ctime of a ``leased`` file of a store, in which each use is noted.
    """
    import hashlib

    parts = (status.st_ino, status.st_size, status.st_mtime_ns, 0 if leased else status.st_ctime_ns)
    return hashlib.sha256(os.fsencode(f"{path}\0{parts}")).hexdigest()
