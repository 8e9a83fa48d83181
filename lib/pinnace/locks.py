"""One lock per thing that must be made once: across threads, processes and hosts that share flock.

A lock is a file that exists only while somebody holds it or waits for it. The holder unlinks
it before releasing; a waiter that got the lock on an unlinked file notices, and tries again on
the file that is there now. A lock ends with its process, so that the next waiter takes over.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pinnace.errors import StoreError

#: No link is followed: whoever can write to a store could have another file made or locked.
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def held(path: str, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file ``path`` for the duration of the block; its directory must exist.

    ``waiting`` is called once if somebody else has the lock. Raises StoreError if the file
    system cannot lock.
    """
    try:
        descriptor = _acquired(path, waiting)
    except OSError as error:
        raise _refused(path, error) from None
    try:
        yield
    finally:
        # Before the release: afterwards the file may be another's.
        if _is_current(descriptor, path):
            with suppress(OSError):
                os.unlink(path)
        os.close(descriptor)


@contextmanager
def held_if_free(path: str) -> Iterator[bool]:
    """Like ``held`` without waiting: gives False, and holds nothing, if the lock is taken.

    The file stays.
    """
    try:
        descriptor = _opened(path)
    except OSError as error:
        raise _refused(path, error) from None
    try:
        try:
            free = _take(descriptor, fcntl.LOCK_NB) and _is_current(descriptor, path)
        except OSError as error:
            raise _refused(path, error) from None
        yield free
    finally:
        os.close(descriptor)


def _acquired(path: str, waiting: Callable[[], None] | None) -> int:
    """The descriptor of the file at ``path``, locked. Raises OSError."""
    while True:
        descriptor = _opened(path)
        try:
            if not _take(descriptor, fcntl.LOCK_NB):
                if waiting is not None:
                    waiting()
                    waiting = None
                _take(descriptor)
            if _is_current(descriptor, path):
                return descriptor
        except BaseException:  # also a signal that ends the wait
            os.close(descriptor)
            raise
        os.close(descriptor)


def _opened(path: str) -> int:
    """The descriptor of the file at ``path``, made if it is missing. Raises OSError."""
    with suppress(PermissionError):
        return os.open(path, _FLAGS | os.O_RDWR | os.O_CREAT, 0o666)
    # Several people may write to a store: another's file can be locked, if only read.
    with suppress(FileNotFoundError):
        return os.open(path, _FLAGS | os.O_RDONLY)
    # The other has just removed it, or nobody may make any here.
    return os.open(path, _FLAGS | os.O_RDWR | os.O_CREAT, 0o666)


def _take(descriptor: int, how: int = 0) -> bool:
    """Lock an open file. False: LOCK_NB was asked for, and somebody else has the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | how)
    except BlockingIOError:
        return False
    return True


def _is_current(descriptor: int, path: str) -> bool:
    """Whether the locked file is still the one that ``path`` names."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _refused(path: str, error: OSError) -> StoreError:
    return StoreError(
        f"cannot lock {path}: {error.strerror or error}",
        hint="check the store's owner and mode, or set `store` to a directory of yours"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        else "remove the link"
        if error.errno == errno.ELOOP
        else "the store needs a file system with flock and free space",
    )
