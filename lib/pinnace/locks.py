"""One lock per thing that must be made once: across threads, processes and hosts that share flock.

A lock is a file that exists only while somebody holds it or waits for it. The holder unlinks
it before releasing; a waiter that got the lock on an unlinked file notices, and tries again on
the file that is there now. A lock ends with its process, so that the next waiter takes over.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pinnace.errors import StoreError


@contextmanager
def held(path: str, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file ``path`` for the duration of the block; its directory must exist.

    ``waiting`` is called once if somebody else has the lock. Raises StoreError if the file
    system cannot lock.
    """
    lock = _acquire(path, waiting)
    try:
        yield
    finally:
        # Before the release: afterwards the file may be another's.
        if _is_current(lock, path):
            with suppress(OSError):
                os.unlink(path)
        lock.release()


@contextmanager
def held_if_free(path: str) -> Iterator[bool]:
    """Like ``held`` without waiting: gives False, and holds nothing, if the lock is taken."""
    import filelock  # not on the launch path

    lock = filelock.FileLock(path, timeout=0)
    try:
        _refuse_link(path)
        lock.acquire()
    except filelock.Timeout:
        yield False
        return
    except (OSError, NotImplementedError) as error:
        raise _refused(path, error) from None
    try:
        yield _is_current(lock, path)
    finally:
        lock.release()


def _acquire(path: str, waiting: Callable[[], None] | None) -> Any:
    import filelock

    while True:
        lock = filelock.FileLock(path)
        try:
            try:
                _refuse_link(path)
                lock.acquire(timeout=0)
            except filelock.Timeout:
                if waiting is not None:
                    waiting()
                    waiting = None
                lock.acquire(timeout=-1, poll_interval=0.1)
        except (OSError, NotImplementedError) as error:
            raise _refused(path, error) from None
        if _is_current(lock, path):
            return lock
        lock.release()


def _refuse_link(path: str) -> None:
    """Whoever can write to a store could have a file emptied: filelock opens it so before 3.20."""
    if os.path.islink(path):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _refused(path: str, error: OSError | NotImplementedError) -> StoreError:
    number = getattr(error, "errno", None)
    return StoreError(
        f"cannot lock {path}: {getattr(error, 'strerror', None) or error}",
        hint="check the store's owner and mode, or set `store` to a directory of yours"
        if number in (errno.EACCES, errno.EPERM, errno.EROFS)
        else "remove the link"
        if number == errno.ELOOP
        else "the store needs a file system with flock and free space",
    )


def _is_current(lock: Any, path: str) -> bool:
    """Whether the locked file is still the one that ``path`` names."""
    # The attribute moved into _context in filelock 3.11; there is no public name for it.
    descriptor = getattr(getattr(lock, "_context", lock), "lock_file_fd", None)
    if descriptor is None:
        descriptor = getattr(lock, "_lock_file_fd", None)
    if descriptor is None:
        return True
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
