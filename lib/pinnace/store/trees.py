"""Making, listing and removing the trees of ``unpacked``."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pinnace import digest as digests
from pinnace import documents, locks
from pinnace.config import Settings
from pinnace.errors import ImageError, StoreError
from pinnace.layers import Format
from pinnace.layers.squash import storage_error
from pinnace.layers.unpacking import Survey, survey, unpack
from pinnace.progress import Progress, size
from pinnace.squashfs.reader import SquashFile
from pinnace.store import identity, leases, removal, unpacked
from pinnace.store.build import Workspace, form_of, workspace
from pinnace.store.directories import UNPACKED, Opened
from pinnace.store.leases import Lease
from pinnace.store.store import Store
from pinnace.store.unpacked import RECORD, ROOT, Source
from pinnace.store.usage import Usage

_NAME = re.compile(r"[0-9a-f]{64}-[0-9]+")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_RECORD_SIZE = 1 << 16
#: More threads have nothing to do: the kernel makes files in a directory one after the other.
_WORKERS = 8


def make(source: Source, store: Store, settings: Settings, lease: Lease, display: Progress) -> str:
    """The tree of ``source``, unpacked unless another process has just done it; ``lease`` holds it.

    Raises ImageError or StoreError; then there is no tree, nor anything left of it.
    """
    what = f"unpacks {source.label}"
    form = form_of(store, Format.of(settings))
    with (
        workspace(store, form) as work,
        locks.held(
            store.lock_path("tree", digests.PREFIX + source.name),
            waiting=lambda: display.message(f"waiting for another process that {what}"),
        ),
    ):
        found = unpacked.take(store, source, lease)
        if found is None:
            directory = unpacked.place(store, source)
            work.take_away(directory)  # whatever is there is no tree
            try:
                finished = _unpacked(source, work, settings, display)
            except OSError as error:
                raise storage_error(directory, error) from None
            work.put_tree(finished, directory)
            found = unpacked.take(store, source, lease)
        if found is None:
            raise StoreError(f"{unpacked.place(store, source)} has just been removed", hint="try again")
    return found


def _unpacked(source: Source, work: Workspace, settings: Settings, display: Progress) -> str:
    """A directory of the workspace with the tree and its record."""
    directory = work.temporary()
    root = os.path.join(directory, ROOT)
    for part in (directory, root):
        os.mkdir(part, 0o700)
    with _opened(source) as squash:
        found = survey(squash)
        _check_room(source, found, settings["unpack_max"], directory)
        display.message(f"unpacking {source.label} ({found.names:,} files, {size(found.size)})")
        if found.devices:
            display.message(f"{source.label}: device nodes are left out")
        if not unpack(squash, found, root, min(_WORKERS, len(os.sched_getaffinity(0)))):
            display.message(f"{source.label}: the store's file system does not keep its extended attributes")
        if not source.digest and identity.of(source.path, os.fstat(squash.fileno())) != source.name:
            raise ImageError(
                f"{source.path} was changed while it was read", hint="try again", identifier="source-changed"
            )
    record = {
        "digest": source.digest,
        "file": "" if source.digest else source.path,
        "size": found.size,
        "files": found.names,
        "created_at": time.time(),
    }
    with open(os.path.join(directory, RECORD), "w", encoding="utf-8", errors="surrogateescape") as stream:
        json.dump(record, stream, indent=1, sort_keys=True)
    return directory


@contextmanager
def _opened(source: Source) -> Iterator[SquashFile]:
    try:
        squash = SquashFile(source.path)
    except ImageError as error:
        if error.identifier == "compressor":
            error.hint = f"`pinnace pull {source.path}` imports it, or use the backend squashfuse"
        raise
    with squash:
        yield squash


def _check_room(source: Source, found: Survey, limit: int, directory: str) -> None:
    if limit and found.size > limit:
        raise ImageError(
            f"{source.label} would take {size(found.size)} when unpacked, the limit is {size(limit)}",
            hint="use the backend squashfuse, or raise `unpack_max`",
            identifier="image-too-large",
        )
    free = os.statvfs(directory)
    inodes = free.f_favail if free.f_files else found.names  # some file systems have as many as they like
    if found.size > free.f_bavail * free.f_frsize or found.names > inodes:
        raise StoreError(
            f"no space to unpack {source.label}: {found.names:,} files, {size(found.size)}",
            context=f"{size(free.f_bavail * free.f_frsize)} free at {directory}",
            hint="make room, use the backend squashfuse, or set `store` to a directory with more",
            identifier="disk-full",
        )


# What is there


@dataclass(frozen=True)
class StoredTree:
    """A tree: of the image ``digest``, or of the squashfs ``file`` of a user. ``usage`` is all of it.

    ``used_at`` is the time of the last use in seconds since 1970.
    """

    name: str
    digest: str
    file: str
    used_at: float
    usage: Usage

    @property
    def digits(self) -> str:
        """Those by which jobs' leases and the lock call it."""
        return self.name.partition("-")[0]

    def is_outdated(self) -> bool:
        """Whether nobody will ask for it again: its file is another by now, or was removed."""
        if not self.file:
            return False
        try:
            return identity.of(self.file, os.stat(self.file)) != self.digits
        except FileNotFoundError:
            return os.path.isdir(os.path.dirname(self.file))  # else its file system is not mounted
        except OSError:
            return False


def is_name(name: str) -> bool:
    """Whether a directory of this name in ``unpacked`` is a tree."""
    return _NAME.fullmatch(name) is not None


def stored_trees(opened: Opened) -> list[StoredTree]:
    """The trees of a store, of this user."""
    found = (stored_tree(opened, name) for name in opened.names(UNPACKED) if is_name(name))
    return [tree for tree in found if tree is not None]


def stored_tree(opened: Opened, name: str) -> StoredTree | None:
    """The tree called ``name``; None if there is none, or it is another user's."""
    with suppress(OSError, ValueError, KeyError, TypeError), _entered(opened, name) as directory:
        # To look at it is no use of the tree. Another user's cannot be opened so, nor at all.
        descriptor = os.open(RECORD, _FILE | os.O_NOATIME, dir_fd=directory)
        with open(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            facts = documents.parse(stream.read(_RECORD_SIZE))
        top = os.fstat(directory)
        usage = Usage((top.st_dev, top.st_ino), int(facts["size"]), int(facts["size"]))
        used_at = max(status.st_atime, status.st_mtime)
        return StoredTree(name, str(facts["digest"]), str(facts["file"]), used_at, usage)
    return None


@contextmanager
def alone(opened: Opened, name: str) -> Iterator[bool]:
    """Lock a tree as one may who removes it, see ``leases.alone``. True if it is not there."""
    try:
        entered = _entered(opened, name)
        directory = entered.__enter__()
    except OSError as error:
        yield isinstance(error, FileNotFoundError)
        return
    try:
        with leases.alone(RECORD, directory) as free:
            yield free
    finally:
        entered.__exit__(None, None, None)


def remove(opened: Opened, root: str, name: str) -> None:
    """Remove a tree of the store at ``root``, whose lock the caller holds. Raises StoreError.

    It is gone at once; what is left of it, should this process be killed, is unfinished work.
    """
    away = f"pinnace-{os.urandom(8).hex()}"
    work = opened.part("tmp")
    if work is None:
        raise StoreError(f"{root}/tmp is missing", hint="make it again, or pull an image, which does")
    try:
        os.rename(name, away, src_dir_fd=opened.part(UNPACKED), dst_dir_fd=work)
    except FileNotFoundError:
        return
    except OSError as error:
        path = os.path.join(root, UNPACKED, name)
        raise StoreError(f"cannot remove {path}: {error.strerror}") from None
    with suppress(OSError):
        removal.remove(away, work)


def remove_unused(store: Store, digits: str) -> int:
    """Remove this user's tree of what is called ``digits``, unless a container runs from it.

    Gives the bytes that were freed. Raises StoreError.
    """
    freed = 0
    with Opened(store) as opened:
        for tree in stored_trees(opened):
            if tree.digits == digits:
                lock = store.lock_path("tree", digests.PREFIX + digits)
                with locks.held_if_free(lock) as free, alone(opened, tree.name) as unused:
                    if free and unused:
                        remove(opened, store.root, tree.name)
                        freed += tree.usage.allocated
                        with suppress(OSError):
                            os.unlink(lock)
    return freed


@contextmanager
def _entered(opened: Opened, name: str) -> Iterator[int]:
    descriptor = os.open(name, _DIRECTORY, dir_fd=opened.part(UNPACKED))
    try:
        yield descriptor
    finally:
        os.close(descriptor)
