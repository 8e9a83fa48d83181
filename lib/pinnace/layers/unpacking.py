"""From a squashfs file to plain directories, by threads; nothing of what is in it is believed.

The tree is looked over first: its size is known before a byte is written. Every name is made anew below
an empty directory of the caller's, so that no link of the image leads anywhere. Everything belongs to the
caller; device nodes, set-user-ID bits and attributes that no layer keeps are left out.

unsquashfs takes as long and as much of the processor; but called by root it makes device nodes and changes
owners, it takes 500 MB of memory unless told otherwise, and trusts what it reads.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import NamedTuple, Union

from pinnace import threads
from pinnace.errors import ImageError
from pinnace.layers import policy
from pinnace.squashfs import format as layout
from pinnace.squashfs.format import Content
from pinnace.squashfs.inodes import Inode
from pinnace.squashfs.metadata import decompressor
from pinnace.squashfs.reader import SquashFile

#: Names in one image: memory holds them.
_MAX_NAMES = 20_000_000
#: Directories in one another: whoever removes the tree has as many open.
_MAX_DEPTH = 250
#: Bytes that a file takes at the least, on most file systems.
_CLUSTER = 4096
#: Bytes from which on several threads write one file, and what each then takes at a time.
_LARGE = 64 << 20
_PART = 16 << 20
#: Small files that a thread takes at a time: neighbours share a fragment.
_BATCH = 32
#: Fragments that a thread remembers.
_FRAGMENTS = 4
_SPECIAL = {layout.FIFO: stat.S_IFIFO, layout.SOCKET: stat.S_IFSOCK}
#: What a file system says that keeps no attributes, or not so many.
_NO_ROOM_FOR_XATTRS = (errno.ENOTSUP, errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.EPERM)

_HOLE = bytes(4)

#: A path from the root of the tree, and the position of its inode.
Name = tuple[bytes, int]


@dataclass
class Survey:
    """What is in a squashfs file: names with the positions of their inodes, parents before children.

    ``size`` is about what it takes when it is unpacked, in bytes, holes left out; ``devices`` are those that
    are not made.
    """

    directories: list[Name] = field(default_factory=list)
    files: list[Name] = field(default_factory=list)
    large: list[Name] = field(default_factory=list)
    links: list[tuple[bytes, bytes]] = field(default_factory=list)
    others: list[Name] = field(default_factory=list)
    devices: int = 0
    size: int = 0

    @property
    def names(self) -> int:
        """How many files of any kind there are."""
        files = len(self.files) + len(self.large) + len(self.links)
        return files + len(self.directories) + len(self.others)


def survey(squash: SquashFile) -> Survey:
    """Look a file's tree over. Raises ImageError if it is damaged or no directories can be like it."""
    found = Survey()
    first_names: dict[int, bytes] = {}
    seen: set[int] = set()
    listed = 0
    todo: list[tuple[bytes, int, int]] = [(b".", squash.root(), 0)]
    while todo:
        path, position, depth = todo.pop()
        if position in seen:
            raise squash.damaged("a directory has two names")
        if depth > _MAX_DEPTH:
            raise _too_large(squash, f"{_MAX_DEPTH} directories in one another")
        if found.names > _MAX_NAMES:
            raise _too_large(squash, f"{_MAX_NAMES} files")
        seen.add(position)
        found.directories.append((path, position))
        directory = squash.inode(position)
        if directory.kind != layout.DIRECTORY:
            raise squash.damaged("a directory is none")
        listed += directory.listing[2]
        if listed > squash.listings + 3 * len(seen):  # each counts three more than it has
            raise squash.damaged("two directories share a listing")
        found.size += _CLUSTER
        names = set()
        for name, kind, child in squash.listing(directory):
            if name in names:
                raise squash.damaged("a directory holds a name twice")
            names.add(name)
            place = path + b"/" + name
            if kind == layout.DIRECTORY:
                todo.append((place, child, depth + 1))
            else:
                _note(squash, found, first_names, kind, (place, child))
    return found


def _too_large(squash: SquashFile, what: str) -> ImageError:
    return ImageError(
        f"{squash.path} cannot be unpacked: it has more than {what}",
        hint="use the backend squashfuse",
        identifier="image-too-large",
    )


def _note(squash: SquashFile, found: Survey, first_names: dict[int, bytes], kind: int, name: Name) -> None:
    path, position = name
    inode = squash.inode(position)
    if inode.kind != kind:
        raise squash.damaged("a directory and an inode contradict each other")
    if kind == layout.SYMLINK and (not inode.target or b"\0" in inode.target):
        raise squash.damaged("a symbolic link has an impossible target")
    if kind in layout.DEVICES:
        found.devices += 1
    elif inode.content is None:
        found.others.append(name)
    elif inode.names > 1 and position in first_names:
        found.links.append((first_names[position], path))
    else:
        first_names[position] = path
        taken = inode.content.size - _holes(inode.content, squash.superblock.block_size)
        found.size += -(-taken // _CLUSTER) * _CLUSTER
        (found.large if taken > _LARGE else found.files).append(name)


def _holes(content: Content, block_size: int) -> int:
    holes = sum(block_size for (size,) in layout.NUMBER.iter_unpack(content.sizes) if size == 0)
    return min(content.size, holes)  # the last block may be shorter


def unpack(squash: SquashFile, tree: Survey, target: str, workers: int) -> bool:
    """Make the empty directory ``target`` what ``squash``, with the survey ``tree``, holds.

    False: the file system does not keep all extended attributes. Raises OSError, or ImageError if blocks are
    damaged; what was made by then is left to the caller.
    """
    top = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _Unpacking(squash, tree, top).run(workers)
    finally:
        os.close(top)


class _Part(NamedTuple):
    """Bytes of a large file from ``offset`` on, and where they come from."""

    path: bytes
    offset: int
    content: Content


Work = Union[_Part, Name]


class _Unpacking:
    def __init__(self, squash: SquashFile, tree: Survey, top: int) -> None:
        self._squash = squash
        self._tree = tree
        self._top = top
        self._block_size = squash.superblock.block_size
        self._lock = Lock()
        self._stop = Event()
        self._failures: list[BaseException] = []
        self._xattr_sets: dict[int, dict[bytes, bytes]] = {}
        self._keeps_xattrs = True

    def run(self, workers: int) -> bool:
        for path, _ in self._tree.directories[1:]:
            os.mkdir(path, 0o700, dir_fd=self._top)
        for path, position in self._tree.others:
            self._make_other(path, self._squash.inode(position))
        for path, position in self._tree.large:
            content = self._squash.inode(position).content
            with _created(path, self._top) as descriptor:
                os.ftruncate(descriptor, content.size if content else 0)
        self._in_threads(self._work(), workers)
        for path, position in self._tree.large:
            with _opened(path, self._top, os.O_WRONLY) as descriptor:
                self._finish(descriptor, self._squash.inode(position))
        for first, path in self._tree.links:
            os.link(first, path, src_dir_fd=self._top, dst_dir_fd=self._top, follow_symlinks=False)
        # What is in a directory changes its time, and may not be reached any more under its mode.
        for path, position in reversed(self._tree.directories):
            with _opened(path, self._top, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
                self._finish(descriptor, self._squash.inode(position))
        return self._keeps_xattrs

    def _make_other(self, path: bytes, inode: Inode) -> None:
        if inode.kind == layout.SYMLINK:
            os.symlink(inode.target, path, dir_fd=self._top)
        else:
            os.mknod(path, _SPECIAL[inode.kind] | 0o600, dir_fd=self._top)
            os.chmod(path, inode.mode & policy.KEPT_MODE, dir_fd=self._top)
        os.utime(path, (inode.mtime, inode.mtime), dir_fd=self._top, follow_symlinks=False)

    def _finish(self, descriptor: int, inode: Inode) -> None:
        """Give a file its attributes, mode and time."""
        if inode.xattrs != layout.NONE:
            self._set_xattrs(descriptor, inode.xattrs)
        os.fchmod(descriptor, inode.mode & policy.KEPT_MODE)
        os.utime(descriptor, (inode.mtime, inode.mtime))

    def _set_xattrs(self, descriptor: int, number: int) -> None:
        with self._lock:
            if number not in self._xattr_sets:
                found = self._squash.xattrs(number).items()
                self._xattr_sets[number] = {key: value for key, value in found if policy.keeps_xattr(key)}
        try:
            for key, value in self._xattr_sets[number].items():
                os.setxattr(descriptor, key, value)
        except OSError as error:
            if error.errno not in _NO_ROOM_FOR_XATTRS:
                raise
            self._keeps_xattrs = False

    # The bytes of files

    def _work(self) -> Iterator[Sequence[Work]]:
        """What threads take, one after the other: the largest first, so that none is left with it."""
        for path, position in self._tree.large:
            content = self._squash.inode(position).content
            for part in self._parts(path, content) if content else ():
                yield (part,)
        for first in range(0, len(self._tree.files), _BATCH):
            yield self._tree.files[first : first + _BATCH]

    def _parts(self, path: bytes, content: Content) -> Iterator[_Part]:
        blocks = _PART // self._block_size
        start, count = content.start, len(content.sizes) // 4
        for first in range(0, count, blocks):
            sizes = content.sizes[4 * first : 4 * (first + blocks)]
            offset = first * self._block_size
            rest = content._replace(size=content.size - offset, start=start, sizes=sizes)
            # The fragment is the file's end.
            yield _Part(
                path, offset, rest if first + blocks >= count else rest._replace(fragment=layout.NONE)
            )
            start += layout.stored(sizes)

    def _in_threads(self, work: Iterator[Sequence[Work]], workers: int) -> None:
        running: list[Thread] = []
        try:
            for number in range(workers):
                running.append(threads.start(lambda: self._worker(work), f"unpack-{number}"))
            for thread in running:
                while thread.is_alive():  # signals are for this thread
                    thread.join(0.2)
        finally:
            self._stop.set()
            for thread in running:
                thread.join()
        if self._failures:
            raise self._failures[0]

    def _worker(self, work: Iterator[Sequence[Work]]) -> None:
        try:
            source = _Blocks(self._squash, self._stop)
            while not self._stop.is_set():
                with self._lock:
                    batch = next(work, ())
                if not batch:
                    return
                for item in batch:
                    self._write(source, item)
        except BaseException as error:
            self._failures.append(error)
            self._stop.set()

    def _write(self, source: _Blocks, item: Work) -> None:
        if isinstance(item, _Part):
            with _opened(item.path, self._top, os.O_WRONLY) as descriptor:
                source.copy(item.content, descriptor, item.offset)
            return
        path, position = item
        inode = self._squash.inode(position)
        with _created(path, self._top) as descriptor:
            if inode.content is not None and inode.content.size:
                source.copy(inode.content, descriptor)
                if inode.content.sizes.endswith(_HOLE):
                    os.ftruncate(descriptor, inode.content.size)
            self._finish(descriptor, inode)


class _Blocks:
    """Reads blocks for one thread: with its own decompressor, and the fragments that it has seen last."""

    def __init__(self, squash: SquashFile, stop: Event) -> None:
        self._squash = squash
        self._stop = stop
        self._length = os.fstat(squash.fileno()).st_size
        self._block_size = squash.superblock.block_size
        self._decompress = decompressor(layout.COMPRESSORS[squash.superblock.compressor])
        self._fragments: dict[int, bytes] = {}

    def copy(self, content: Content, descriptor: int, offset: int = 0) -> None:
        """Write a file's bytes at ``offset``; nothing where it has holes."""
        place, left = content.start, content.size
        for (size,) in layout.NUMBER.iter_unpack(content.sizes):
            if self._stop.is_set():
                return
            length = min(left, self._block_size)
            if size:
                _write(descriptor, self._block(place, size, length), offset)
            place += size & (layout.STORED - 1)
            offset += length
            left -= length
        if content.fragment != layout.NONE:
            tail = content.size % self._block_size
            piece = self._fragment(content.fragment)[content.fragment_offset :][:tail]
            if len(piece) != tail:
                raise self._squash.damaged("a fragment is too short")
            _write(descriptor, piece, offset)

    def _fragment(self, number: int) -> bytes:
        found = self._fragments.get(number)
        if found is None:
            if len(self._fragments) >= _FRAGMENTS:
                del self._fragments[next(iter(self._fragments))]
            found = self._fragments[number] = self._block(*self._squash.fragments[number])
        return found

    def _block(self, place: int, size: int, length: int | None = None) -> bytes:
        """A data block, which has to become ``length`` bytes if that is known."""
        stored = size & (layout.STORED - 1)
        if place + stored > self._length:
            raise self._squash.damaged("a data block is not in it")
        try:
            raw = os.pread(self._squash.fileno(), stored, place)
        except OSError as error:
            raise ImageError(f"cannot read {self._squash.path}: {error.strerror}") from None
        try:
            plain = raw if size & layout.STORED else self._decompress(raw)
        except Exception as error:  # each library has its own
            raise self._squash.damaged(error) from None
        if len(plain) > self._block_size or len(raw) != stored or length not in (None, len(plain)):
            raise self._squash.damaged("a data block has a wrong size")
        return plain


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


@contextmanager
def _opened(path: bytes, top: int, flags: int, mode: int = 0) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=top)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _created(path: bytes, top: int) -> AbstractContextManager[int]:
    return _opened(path, top, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
