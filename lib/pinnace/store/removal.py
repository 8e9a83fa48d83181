"""Removing directories with all that is in them, whatever modes an image gave to them."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

_FLAGS = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(path: str, parent: int | None = None) -> None:
    """Remove the directory at ``path``, which may be relative to the open directory ``parent``.

    Every step is by descriptor, so that no link is followed, whoever puts one there meanwhile. As much as
    possible is removed; raises OSError if something is left.
    """
    descriptor = _opened(path, parent)
    try:
        with os.scandir(descriptor) as entries:
            found = list(entries)
        for entry in found:
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    remove(entry.name, descriptor)
                else:
                    os.unlink(entry.name, dir_fd=descriptor)
    finally:
        os.close(descriptor)
    os.rmdir(path, dir_fd=parent)


def _opened(path: str, parent: int | None) -> int:
    """The directory, opened, with a mode under which its owner may remove what is in it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _FLAGS, dir_fd=parent)
    except PermissionError:
        handle = os.open(path, os.O_PATH | _FLAGS, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{handle}", stat.S_IRWXU)  # fchmod(2) refuses such a descriptor
            return os.open(".", os.O_RDONLY | _FLAGS, dir_fd=handle)
        finally:
            os.close(handle)
    if os.fstat(descriptor).st_mode & stat.S_IRWXU != stat.S_IRWXU:
        with suppress(OSError):  # what cannot be removed then stays
            os.fchmod(descriptor, stat.S_IRWXU)
    return descriptor
