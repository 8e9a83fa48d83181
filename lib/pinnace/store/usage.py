"""What files take on a disk, each block counted once, however many names and clones it has.

A spliced image shares the blocks of its layers where the file system has reflinks; fiemap
(Documentation/filesystems/fiemap.rst) tells which they are.
"""

from __future__ import annotations

import fcntl
import os
import struct
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

_FS_IOC_FIEMAP = 0xC020660B
_HEADER = struct.Struct("=QQLLLL")
_EXTENT = struct.Struct("=QQQ16xL12x")
_EXTENTS = 256
_LAST, _SHARED = 0x0001, 0x2000


class Usage(NamedTuple):
    """One file: ``inode`` tells it from others, ``size`` is its length, ``allocated`` what it takes.

    ``shared`` are the places, first byte and last but one, of blocks that other files have as well.
    """

    inode: tuple[int, int]
    size: int
    allocated: int
    shared: tuple[tuple[int, int], ...] = ()


def of(descriptor: int) -> Usage:
    """What the open file takes."""
    status = os.fstat(descriptor)
    shared: tuple[tuple[int, int], ...] = ()
    with suppress(OSError):  # a file system that does not tell, and so has none that are shared
        shared = tuple(_shared(descriptor))
    return Usage((status.st_dev, status.st_ino), status.st_size, status.st_blocks * 512, shared)


def _shared(descriptor: int) -> Iterator[tuple[int, int]]:
    start, last = 0, False
    while not last:
        buffer = bytearray(_HEADER.size + _EXTENTS * _EXTENT.size)
        _HEADER.pack_into(buffer, 0, start, 2**64 - 1 - start, 0, 0, _EXTENTS, 0)
        fcntl.ioctl(descriptor, _FS_IOC_FIEMAP, buffer)
        count = _HEADER.unpack_from(buffer)[3]
        last = count == 0
        for number in range(count):
            place = _HEADER.size + number * _EXTENT.size
            logical, physical, length, flags = _EXTENT.unpack_from(buffer, place)
            start, last = logical + length, bool(flags & _LAST)
            if flags & _SHARED:
                yield physical, physical + length


class Account:
    """Bytes that a set of files takes, which may become smaller. ``total`` counts every block once."""

    def __init__(self, files: Iterable[Usage]) -> None:
        files = list(files)
        distinct = {file.inode: file for file in files}
        self._names = Counter(file.inode for file in files)
        self._edges = sorted({edge for file in distinct.values() for part in file.shared for edge in part})
        self._holders = [0] * len(self._edges)
        self.total = sum(self._put(file) for file in distinct.values())

    def has(self, file: Usage) -> bool:
        """Whether the file is in the account still."""
        return self._names[file.inode] > 0

    def remove(self, files: Iterable[Usage]) -> int:
        """The bytes that become free when these files, which are in the account, are removed."""
        freed = 0
        for file in files:
            self._names[file.inode] -= 1
            if self._names[file.inode] == 0:
                freed += self._take(file)
        self.total -= freed
        return freed

    def without(self, files: Iterable[Usage]) -> int:
        """The bytes that would become free if these files were removed."""
        files = list(files)
        freed = self.remove(files)
        for file in files:
            if self._names[file.inode] == 0:
                self._put(file)
            self._names[file.inode] += 1
        self.total += freed
        return freed

    def _put(self, file: Usage) -> int:
        """Count a file in; gives the bytes that it adds."""
        added = _unshared(file)
        for place in self._places(file):
            added += self._length(place) if self._holders[place] == 0 else 0
            self._holders[place] += 1
        return added

    def _take(self, file: Usage) -> int:
        freed = _unshared(file)
        for place in self._places(file):
            self._holders[place] -= 1
            freed += self._length(place) if self._holders[place] == 0 else 0
        return freed

    def _places(self, file: Usage) -> Iterator[int]:
        """The numbers of the stretches between two edges that the file's shared blocks consist of."""
        for start, end in file.shared:
            yield from range(bisect_left(self._edges, start), bisect_left(self._edges, end))

    def _length(self, place: int) -> int:
        return self._edges[place + 1] - self._edges[place]


def _unshared(file: Usage) -> int:
    return max(0, file.allocated - sum(end - start for start, end in file.shared))
