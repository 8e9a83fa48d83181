"""The metadata of a new squashfs file, whose data blocks are there already.

Inodes, directories and the rest are written as uncompressed metadata blocks: some 35 bytes for
each file more than compressed, and nothing to be compressed when an image is put together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from pinnace.squashfs import format as layout
from pinnace.squashfs.format import Superblock
from pinnace.squashfs.metadata import BLOCK, TableWriter, block_of, reference_of

_ENTRIES = 256  # in a directory header (SQUASHFS_DIR_COUNT)
_SMALL = 1 << 16
#: Bytes of an attribute's value from which on it is written once for all files that have it: what
#: leads there takes 8.
_SHARED = 16

#: What is needed to list a file: its name, its inode's position and number, and its kind.
Listed = tuple[bytes, int, int, int]


class MetadataWriter:
    """Collects the tables of an image. A directory is added after everything that lies in it.

    ``xattrs`` is everywhere the number that ``add_xattrs`` gave, or ``format.NONE``.
    """

    def __init__(self) -> None:
        self._inodes = TableWriter()
        self._directories = TableWriter()
        self._xattrs = TableWriter()
        self._xattr_numbers: dict[tuple[tuple[bytes, bytes], ...], int] = {}
        self._xattr_values: dict[bytes, int] = {}
        self._xattr_sets = bytearray()
        self._count = 0

    def add_file(
        self,
        number: int,
        mode: int,
        mtime: int,
        names: int,
        size: int,
        start: int,
        sizes: bytes,
        fragment: int,
        offset: int,
        sparse: int = 0,
        xattrs: int = layout.NONE,
    ) -> int:
        """A regular file, in the terms of ``format.Content``.

        Returns the inode's position, as do the other methods of this kind.
        """
        self._count += 1
        text = self._inodes.text
        position = len(text)
        if names == 1 and xattrs == layout.NONE and not sparse and (start | size) < 1 << 32:
            text += layout.NEW_PLAIN_FILE.pack(
                layout.FILE, mode, mtime, number, start, fragment, offset, size
            )
        else:
            text += layout.INODE.pack(layout.FILE + layout.EXTENDED, mode, 0, 0, mtime, number)
            text += layout.EXTENDED_FILE.pack(start, size, sparse, names, fragment, offset, xattrs)
        text += sizes
        return position

    def add_small_files(self, inodes: bytes) -> range:
        """Small files, by ``small.rewritten``; gives all positions."""
        size = layout.PLAIN_FILE.size
        self._count += len(inodes) // size
        position = self._inodes.append(inodes)
        return range(position, position + len(inodes), size)

    def add_symlink(self, number: int, mode: int, mtime: int, names: int, target: bytes, xattrs: int) -> int:
        body = layout.LINK.pack(names, len(target)) + target
        return self._add(layout.SYMLINK, mode, mtime, number, body, xattrs)

    def add_special(
        self, kind: int, number: int, mode: int, mtime: int, names: int, rdev: int, xattrs: int
    ) -> int:
        """A device, FIFO or socket."""
        body = layout.LINK.pack(names, rdev) if kind in layout.DEVICES else layout.NUMBER.pack(names)
        return self._add(kind, mode, mtime, number, body, xattrs)

    def add_directory(
        self, number: int, mode: int, mtime: int, children: Sequence[Listed], parent: int, xattrs: int
    ) -> int:
        """``children`` sorted by name; ``parent`` is the parent's inode number."""
        start = len(self._directories.text)
        index = self._list(children)
        size = len(self._directories.text) - start + 3
        links = 2 + [kind for _, _, _, kind in children].count(layout.DIRECTORY)
        block, offset = block_of(start), start % BLOCK
        self._count += 1
        if size < _SMALL and xattrs == layout.NONE and not index:
            head = layout.INODE.pack(layout.DIRECTORY, mode, 0, 0, mtime, number)
            body = layout.BASIC_DIRECTORY.pack(block, links, size, offset, parent)
        else:
            head = layout.INODE.pack(layout.DIRECTORY + layout.EXTENDED, mode, 0, 0, mtime, number)
            body = layout.EXTENDED_DIRECTORY.pack(links, size, block, parent, len(index), offset, xattrs)
        return self._inodes.append(b"".join((head, body, *index)))

    def _list(self, children: Sequence[Listed]) -> list[bytes]:
        """Write a listing; gives its index: where headers begin in further blocks, by first name."""
        text = self._directories.text
        pack = layout.DIRECTORY_ENTRY.pack
        begin = len(text)
        index: list[bytes] = []
        indexed = begin // BLOCK
        position = 0
        while position < len(children):
            first_name, first_place, first, _ = children[position]
            low = first_place - first_place % BLOCK
            high = low + BLOCK
            entries: list[bytes] = []
            for name, place, number, kind in islice(children, position, position + _ENTRIES):
                if not (low <= place < high and -0x8000 <= number - first <= 0x7FFF):
                    break
                entries.append(pack(place - low, number - first, kind, len(name) - 1) + name)
            count = len(entries)
            if len(text) // BLOCK != indexed:
                indexed = len(text) // BLOCK
                index.append(
                    layout.DIRECTORY_INDEX.pack(len(text) - begin, block_of(len(text)), len(first_name) - 1)
                    + first_name
                )
            text += layout.DIRECTORY_HEADER.pack(count - 1, block_of(low), first)
            text += b"".join(entries)
            position += count
        return index

    def _add(self, kind: int, mode: int, mtime: int, number: int, body: bytes, xattrs: int) -> int:
        self._count += 1
        if xattrs != layout.NONE:
            kind += layout.EXTENDED
            body += layout.NUMBER.pack(xattrs)
        return self._inodes.append(layout.INODE.pack(kind, mode, 0, 0, mtime, number) + body)

    def add_xattrs(self, xattrs: Mapping[bytes, bytes]) -> int:
        """The number of the set ``xattrs``; equal sets have the same."""
        if not xattrs:
            return layout.NONE
        key = tuple(sorted(xattrs.items()))
        number = self._xattr_numbers.get(key)
        if number is None:
            number = self._xattr_numbers[key] = len(self._xattr_numbers)
            start = len(self._xattrs.text)
            for name, value in key:
                self._add_xattr(name, value)
            size = len(self._xattrs.text) - start
            self._xattr_sets += layout.XATTR_SET.pack(reference_of(start), len(key), size)
        return number

    def _add_xattr(self, name: bytes, value: bytes) -> None:
        kind, rest = _prefixed(name)
        text = self._xattrs.text
        place = self._xattr_values.get(value)
        if place is None:
            text += layout.XATTR_KEY.pack(kind, len(rest)) + rest
            if len(value) >= _SHARED:
                self._xattr_values[value] = len(text)
        else:
            text += layout.XATTR_KEY.pack(kind | layout.XATTR_ELSEWHERE, len(rest)) + rest
            value = layout.POSITION.pack(reference_of(place))
        text += layout.NUMBER.pack(len(value)) + value

    def finish(
        self, root: int, data_end: int, fragments: Iterable[tuple[int, int]], form: Superblock
    ) -> tuple[bytes, bytearray]:
        """The superblock, to be written at 0, and all tables, to be written at ``data_end``.

        ``root`` is the root's position, ``fragments`` start and size of each fragment block;
        ``form`` gives compressor, block size and the flag of the compressor's options.
        """
        tables = bytearray()
        self._inodes.put(tables)
        directory_table = data_end + len(tables)
        self._directories.put(tables)
        blocks = b"".join(layout.FRAGMENT.pack(*entry, 0) for entry in fragments)
        fragment_table = _put_list(tables, data_end, blocks)
        id_table = _put_list(tables, data_end, layout.NUMBER.pack(0))
        xattr_table = self._put_xattrs(tables, data_end)
        flags = form.flags & layout.OPTIONS | layout.PLAIN_INODES | layout.PLAIN_IDS | layout.PLAIN_XATTRS
        superblock = Superblock(
            inodes=self._count,
            mtime=0,
            block_size=form.block_size,
            fragments=len(blocks) // layout.FRAGMENT.size,
            compressor=form.compressor,
            flags=flags
            | (0 if blocks else layout.NO_FRAGMENTS)
            | (0 if self._xattr_sets else layout.NO_XATTRS),
            ids=1,
            root=reference_of(root),
            size=data_end + len(tables),
            id_table=id_table,
            xattr_table=xattr_table,
            inode_table=data_end,
            directory_table=directory_table,
            fragment_table=fragment_table if blocks else layout.NO_TABLE,
            export_table=layout.NO_TABLE,
        )
        return superblock.pack(), tables

    def _put_xattrs(self, tables: bytearray, base: int) -> int:
        if not self._xattr_sets:
            return layout.NO_TABLE
        start = base + len(tables)
        self._xattrs.put(tables)
        place, locations = _put_blocks(tables, base, self._xattr_sets)
        tables += layout.XATTR_TABLE.pack(start, len(self._xattr_numbers), 0) + locations
        return place


def _put_list(tables: bytearray, base: int, text: bytes) -> int:
    """Append a table with the list of its blocks' positions; gives the position of that list."""
    place, locations = _put_blocks(tables, base, text)
    tables += locations
    return place


def _put_blocks(tables: bytearray, base: int, text: bytes | bytearray) -> tuple[int, bytes]:
    writer = TableWriter()
    writer.append(text)
    start = base + len(tables)
    writer.put(tables)
    positions = b"".join(layout.POSITION.pack(start + distance) for distance in writer.block_starts())
    return base + len(tables), positions


def _prefixed(name: bytes) -> tuple[int, bytes]:
    """The number of a name's prefix, and the rest."""
    for kind, prefix in enumerate(layout.XATTR_PREFIXES):
        if name.startswith(prefix):
            return kind, name[len(prefix) :]
    raise ValueError(f"squashfs has no place for the attribute {name!r}")
