"""Making the copies of ``copies``: one process each, a few at a time from one file system, within a quota."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pinnace import locks
from pinnace.basis import Basis
from pinnace.config import Settings
from pinnace.errors import StoreError
from pinnace.layers.squash import storage_error, sync
from pinnace.progress import Progress, size
from pinnace.store import copies, identity, leases
from pinnace.store.copies import Wanted
from pinnace.store.leases import Lease
from pinnace.store.store import names_in

_PIECE = 4 << 20
#: Seconds between two looks for a free place among those who read from one file system.
_PAUSE = 0.2
_HINT = "see `node_store` and `copy_up` in pinnace.toml"


def make(
    copy: Wanted, settings: Settings, lease: Lease, basis: Basis, display: Progress, jobs: str = ""
) -> str:
    """The path of the copy, made unless another process has just done it; ``lease`` holds it.

    Raises StoreError; then nothing is left of it, and the file can be used where it is.
    """
    _prepare(copy.directory)
    lock = _lock(copy.directory, copy.name)
    what = os.path.basename(copy.source)
    with locks.held(
        lock, waiting=lambda: display.message(f"waiting for another process that copies {what} to this node")
    ):
        found = copies.take(copy, lease, basis, jobs)
        if found is not None:
            return found
        _remove_abandoned(copy.directory)
        with _turn(copy, settings["copy_up_parallel"], display):
            display.message(f"copying {what} to this node ({size(copy.size)})")
            _make(copy, settings["node_quota"])
        found = copies.take(copy, lease, basis, jobs)
        if found is None:
            raise StoreError(f"{copy.path} has just been removed", hint="try again")
    return found


def _prepare(directory: str) -> None:
    try:
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        if not copies.is_private(directory):
            raise StoreError(f"{directory} is not yours alone", hint=_HINT, identifier="not-private")
        with suppress(FileExistsError):
            os.mkdir(os.path.join(directory, "locks"), 0o700)
    except OSError as error:
        raise StoreError(f"cannot make {directory}: {error.strerror}", hint=_HINT) from None


def _lock(directory: str, name: str) -> str:
    return os.path.join(directory, "locks", name)


@contextmanager
def _turn(copy: Wanted, parallel: int, display: Progress) -> Iterator[None]:
    """One of the places for those who copy from the same file system."""
    told = False
    while True:
        for number in range(max(1, parallel)):
            place = _lock(copy.directory, f"source-{copy.device}-{number}")
            with locks.held_if_free(place) as free:
                if free:
                    yield
                    return
        if not told:
            told = True
            display.message("waiting for other copies from the same file system")
        time.sleep(_PAUSE)


def _make(copy: Wanted, quota: int) -> None:
    part = os.path.join(copy.directory, f"{copy.name}.part")
    if quota and not _has_room(copy, quota):
        raise StoreError(
            f"no room for {size(copy.size)} at {copy.directory}", context=f"its quota is {size(quota)}"
        )
    try:
        sha256 = _copied(copy, part)
        record = {"source": copy.source, "size": copy.size, "sha256": sha256, "created_at": time.time()}
        # Without a record it is no copy.
        with suppress(FileNotFoundError):
            os.unlink(copy.record)
        os.rename(part, copy.path)
        _write(copy.record, json.dumps(record, indent=1, sort_keys=True))
    except OSError as error:
        raise storage_error(copy.path, error) from None
    finally:
        with suppress(OSError):
            os.unlink(part)


def _copied(copy: Wanted, part: str) -> str:
    """Copy the file, read the copy again, and give its SHA-256."""
    try:
        source = open(copy.source, "rb", buffering=0)
    except OSError as error:
        raise StoreError(f"cannot read {copy.source}: {error.strerror}") from None
    with source, open(part, "wb+", buffering=0, opener=_private) as target:
        _reserve(target.fileno(), copy)
        digest = hashlib.sha256()
        os.posix_fadvise(source.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while piece := _read(source.fileno(), copy.source):
            digest.update(piece)
            view = memoryview(piece)
            while view:
                view = view[target.write(view) :]
        os.fsync(target.fileno())
        if identity.of(copy.source, os.fstat(source.fileno()), leased=copy.leased) != copy.name:
            raise StoreError(f"{copy.source} was changed while it was read", identifier="source-changed")
        # What is read now comes from the disk.
        os.posix_fadvise(target.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        target.seek(0)
        again = hashlib.sha256()
        while piece := target.read(_PIECE):
            again.update(piece)
    if again.digest() != digest.digest():
        raise StoreError(
            f"{part} is not what was written to it", hint="check the disk", identifier="bad-copy"
        )
    return digest.hexdigest()


def _read(descriptor: int, path: str) -> bytes:
    try:
        return os.read(descriptor, _PIECE)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _write(path: str, text: str) -> None:
    temporary = f"{path}.part"
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape", opener=_private) as stream:
        stream.write(text)
    sync(temporary)
    os.rename(temporary, path)
    sync(os.path.dirname(path))


# Room


def _reserve(descriptor: int, copy: Wanted) -> None:
    """Take the room for a copy, where others have to go for it, too. Raises OSError."""
    free = os.statvfs(copy.directory)
    if copy.size > free.f_bavail * free.f_frsize + _taken(copy.directory):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # whoever goes for it
    for victim in [*_unused(copy.directory), ""]:
        try:
            os.posix_fallocate(descriptor, 0, copy.size)
            return
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                return  # it will turn out
            if error.errno != errno.ENOSPC or not victim:
                raise
            _remove(copy.directory, victim)


def _has_room(copy: Wanted, quota: int) -> bool:
    """Whether the copy fits into the quota; others have to go for it."""
    if copy.size > quota:
        return False  # whoever goes for it
    for victim in [*_unused(copy.directory), ""]:
        if _taken(copy.directory) + copy.size <= quota:
            return True
        if victim:
            _remove(copy.directory, victim)
    return False


def _taken(directory: str) -> int:
    taken = 0
    for name in names_in(directory):
        with suppress(OSError):
            taken += (
                os.lstat(os.path.join(directory, name)).st_size if name.endswith((".sqsh", ".part")) else 0
            )
    return taken


def _unused(directory: str) -> list[str]:
    """The names of all copies, the longest unused first."""
    found = []
    for name in names_in(directory):
        stem, suffix = os.path.splitext(name)
        with suppress(OSError):
            if suffix == ".sqsh":
                found.append((os.lstat(os.path.join(directory, name)).st_atime, stem))
    return [name for _, name in sorted(found)]


def _remove(directory: str, name: str) -> None:
    """Remove a copy unless a container uses it."""
    path = os.path.join(directory, name)
    with leases.alone(f"{path}.sqsh") as alone:
        if alone:
            for suffix in (".json", ".sqsh"):  # the record first: without it there is no copy
                with suppress(OSError):
                    os.unlink(path + suffix)


def _remove_abandoned(directory: str) -> None:
    """Remove what those have left who were killed."""
    for name in names_in(directory):
        if name.endswith(".part"):
            lock = _lock(directory, name.partition(".")[0])
            with suppress(OSError, StoreError), locks.held_if_free(lock) as free:
                if free:
                    os.unlink(os.path.join(directory, name))
                    os.unlink(lock)
