"""What a reader tells of the files in a squashfs file."""

from __future__ import annotations

from typing import NamedTuple

from pinnace.squashfs import format as layout
from pinnace.squashfs.format import Content

#: Name and kind, as a directory says, and the inode's position and type.
Entry = tuple[bytes, int, int, int]
#: Mode, time, size, start, block list, fragment and offset in it.
PlainFile = tuple[int, int, int, int, bytes, int, int]


class Inode:
    """One file of any kind; ``kind`` is the basic inode type, ``rdev`` a device's numbers.

    ``names`` is how many the inode says that it has, ``xattrs`` the number of its set of extended
    attributes, or ``format.NONE``.
    """

    names = 1
    xattrs = layout.NONE
    content: Content | None = None
    target = b""
    rdev = 0
    #: Of a directory: block and offset in the directory table, and bytes.
    listing = (0, 0, 0)

    def __init__(self, kind: int, mode: int, group: int, mtime: int) -> None:
        self.kind = kind
        self.mode = mode
        self.group = group
        self.mtime = mtime


class Data(NamedTuple):
    """Where the bytes of files lie.

    ``extents`` are where the blocks begin and how many bytes they take, for each file that has some, and
    ``fragments`` the numbers of fragment blocks. ``others`` are the positions of all but small files
    (see ``small``).
    """

    extents: list[tuple[int, int]]
    fragments: set[int]
    others: set[int]
