"""The metadata of a squashfs file: its tree, without the bytes of its files.

An inode is named by its position in the plain text of the inode table, and is parsed when it is
asked for: an image has millions of them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator

from pinnace import unnoticed
from pinnace.errors import ImageError
from pinnace.squashfs import format as layout
from pinnace.squashfs.format import Content, Superblock
from pinnace.squashfs.inodes import Data, Entry, Inode, PlainFile
from pinnace.squashfs.metadata import BLOCK, MAX_TEXT, Damaged, Table, decompressor
from pinnace.squashfs.superblock import parse

_WRONG = (Damaged, struct.error, IndexError)
_IMPOSSIBLE = frozenset((b".", b".."))
#: Names behind one header of a listing (SQUASHFS_DIR_COUNT): the kernel reads no more.
_MAX_PART = 256
#: Bytes of one file's extended attributes, and of all that are asked for: memory holds them.
_MAX_OWN_XATTRS = 1 << 20
_MAX_XATTRS = 64 << 20
#: Bytes of a name and of a symbolic link's target (Linux's NAME_MAX and PATH_MAX): the kernel reads no other.
_MAX_NAME = 255
_MAX_TARGET = 4095
#: Bytes of tables for each byte of the file: an entry has 16, and what it describes one at the least.
_MOST = 16


class SquashFile:
    """An open squashfs file. Raises ImageError if its metadata cannot be read, as all methods do."""

    #: The bits of files' modes that count.
    kept_mode = 0o7777

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open(path, "rb", opener=unnoticed.opener)
        self._length = os.fstat(self._file.fileno()).st_size
        self._xattr_bytes = 0
        try:
            header = self._file.read(layout.SUPERBLOCK.size)
            self.decompress = decompressor(parse(path, header, self._length).compressor)
            self.superblock = Superblock.unpack(header)
            self._read_tables()
        except (*_WRONG, ValueError) as error:
            self._file.close()
            raise self.damaged(error) from None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> SquashFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def fileno(self) -> int:
        return self._file.fileno()

    def options(self) -> bytes:
        """The compressor's options, as the metadata block that they are on disk; often empty."""
        if not self.superblock.flags & layout.OPTIONS:
            return b""
        try:
            (header,) = struct.unpack("<H", self._bytes(layout.SUPERBLOCK.size, 2))
            return self._bytes(layout.SUPERBLOCK.size, 2 + (header & 0x7FFF))
        except Damaged as error:
            raise self.damaged(error) from None

    def damaged(self, why: object) -> ImageError:
        return ImageError(
            f"{self.path} is damaged: {why}", hint="remove it and pull again", identifier="damaged-image"
        )

    # The tree

    def root(self) -> int:
        """The position of the root's inode."""
        try:
            return self._inode_table.position(self.superblock.root)
        except Damaged as error:
            raise self.damaged(error) from None

    def listing(self, directory: Inode) -> Iterator[tuple[bytes, int, int]]:
        """What a directory says that is in it: name, kind and position of the inode."""
        return (entry[:3] for part in self.parts(directory) for entry in part)

    def parts(self, directory: Inode) -> Iterator[list[Entry]]:
        """The same, and of what type each inode is, in parts of at most 256."""
        try:
            yield from self._parts(directory)
        except _WRONG as error:
            raise self.damaged(error) from None

    def _parts(self, directory: Inode) -> Iterator[list[Entry]]:
        block, offset, size = directory.listing
        if size <= 3:
            return
        text, inodes = self._directories.text, self._inode_table.text
        unpack, head = layout.DIRECTORY_ENTRY.unpack_from, layout.DIRECTORY_ENTRY.size
        position = self._directories.at(block, offset)
        end = position + size - 3
        while position < end:
            count, start, _ = layout.DIRECTORY_HEADER.unpack_from(text, position)
            if count >= _MAX_PART:
                raise Damaged("a directory's listing is malformed")
            position += layout.DIRECTORY_HEADER.size
            base = self._inode_table.at(start, 0)
            part = []
            for _ in range(count + 1):
                place, _, kind, length = unpack(text, position)
                if length >= _MAX_NAME:
                    raise Damaged("a directory holds an impossible name")
                begin = position + head
                position = begin + length + 1
                place += base
                part.append((text[begin:position], kind, place, inodes[place]))
            if position > len(text):
                raise Damaged("a directory's listing is cut short")
            _check_names([name for name, _, _, _ in part])
            yield part

    def inode(self, position: int) -> Inode:
        """The inode at ``position``."""
        try:
            kind, mode, _, group, mtime, _ = layout.INODE.unpack_from(self._inode_table.text, position)
            extended = kind > layout.EXTENDED
            kind -= layout.EXTENDED if extended else 0
            inode = Inode(kind, mode & self.kept_mode, self._ids[group], mtime)
            if inode.kind == layout.FILE:
                self._parse_file(position, inode, extended)
            else:
                self._parse_other(position + layout.INODE.size, inode, extended)
        except _WRONG as error:
            raise self.damaged(error) from None
        return inode

    def names(self, position: int, kind: int) -> int:
        """How many names the inode at ``position`` says that it has; a directory calls it ``kind``.

        Not for directories.
        """
        text = self._inode_table.text
        try:
            found = text[position]
            if found == kind == layout.FILE:
                return 1
            if found not in (kind, kind + layout.EXTENDED) or found > 2 * layout.EXTENDED:
                raise Damaged("a directory and an inode contradict each other")
            if found == layout.FILE + layout.EXTENDED:
                return int(layout.EXTENDED_FILE.unpack_from(text, position + layout.INODE.size)[3])
            return _number(text, position + layout.INODE.size)
        except _WRONG as error:
            raise self.damaged(error) from None

    def plain_file(self, position: int) -> PlainFile | None:
        """The same as ``inode`` for what most inodes are, and in half the time; None for others."""
        text = self._inode_table.text
        try:
            if text[position] != layout.FILE:
                return None
            mode, mtime, start, fragment, offset, size = layout.PLAIN_FILE.unpack_from(text, position)
            mode &= self.kept_mode
            if 0 < size < self._block_size and fragment < self._fragment_count:
                return mode, mtime, size, start, b"", fragment, offset
            position += layout.PLAIN_FILE.size
            return mode, mtime, size, start, self._sizes(position, size, fragment), fragment, offset
        except _WRONG as error:
            raise self.damaged(error) from None

    def data(self, files: Iterable[int]) -> Data:
        """Where the bytes of the regular files at these positions lie."""
        try:
            return self._data(files)
        except _WRONG as error:
            raise self.damaged(error) from None

    def _data(self, files: Iterable[int]) -> Data:
        extents: list[tuple[int, int]] = []
        fragments: set[int] = set()
        others: set[int] = set()
        listed = 0
        text, unpack = self._inode_table.text, layout.PLAIN_FILE.unpack_from
        block_size, fragment_count, dropped = self._block_size, self._fragment_count, ~self.kept_mode
        for position in files:
            if text[position] == layout.FILE:
                mode, _, start, fragment, _, size = unpack(text, position)
                if 0 < size < block_size and fragment < fragment_count and not mode & dropped:
                    fragments.add(fragment)
                    continue
                sizes = self._sizes(position + layout.PLAIN_FILE.size, size, fragment)
                if not size and not mode & dropped:
                    continue
            else:
                content = self.inode(position).content
                if content is None:
                    raise Damaged("a file is none")
                _, start, sizes, fragment, _, _ = content
            others.add(position)
            if fragment != layout.NONE:
                fragments.add(fragment)
            if sizes:
                listed += len(sizes)
                extents.append((start, layout.stored(sizes)))
        if listed > len(text):
            raise Damaged("its files share their block lists")
        return Data(extents, fragments, others)

    def small_files(self, positions: range) -> bytes:
        """The inodes of small files that follow one another, as they are on disk."""
        return self._inode_table.text[positions.start : positions.stop]

    def _parse_file(self, position: int, inode: Inode, extended: bool) -> None:
        text = self._inode_table.text
        sparse = 0
        if extended:
            position += layout.INODE.size
            fields = layout.EXTENDED_FILE.unpack_from(text, position)
            start, size, sparse, inode.names, fragment, offset, inode.xattrs = fields
            position += layout.EXTENDED_FILE.size
        else:
            _, _, start, fragment, offset, size = layout.PLAIN_FILE.unpack_from(text, position)
            position += layout.PLAIN_FILE.size
        inode.content = Content(size, start, self._sizes(position, size, fragment), fragment, offset, sparse)

    def _sizes(self, position: int, size: int, fragment: int) -> bytes:
        """The block list of a file of ``size`` bytes."""
        if fragment == layout.NONE:
            blocks = -(-size // self._block_size)
        elif fragment < self._fragment_count:
            blocks, tail = divmod(size, self._block_size)
            if not tail:
                raise Damaged("a file has a fragment and nothing in it")  # the kernel refuses it
        else:
            raise Damaged("a file's fragment is not there")
        sizes = self._inode_table.text[position : position + 4 * blocks]
        if len(sizes) != 4 * blocks:
            raise Damaged("a block list is cut short")
        return sizes

    def _parse_other(self, position: int, inode: Inode, extended: bool) -> None:
        text = self._inode_table.text
        if inode.kind == layout.DIRECTORY:
            if extended:
                fields = layout.EXTENDED_DIRECTORY.unpack_from(text, position)
                _, size, block, _, _, offset, inode.xattrs = fields
            else:
                block, _, size, offset, _ = layout.BASIC_DIRECTORY.unpack_from(text, position)
            inode.listing = (block, offset, size)
            return
        inode.names = _number(text, position)
        position += layout.NUMBER.size
        if inode.kind == layout.SYMLINK:
            length = _number(text, position)
            position += layout.NUMBER.size
            inode.target = text[position : position + length]
            if not len(inode.target) == length <= _MAX_TARGET:
                raise Damaged("a symbolic link has an impossible target")
            position += length
        elif inode.kind in layout.DEVICES:
            inode.rdev = _number(text, position)
            position += layout.NUMBER.size
        elif inode.kind not in (layout.FIFO, layout.SOCKET):
            raise Damaged(f"an inode has the unknown type {inode.kind}")
        if extended:
            inode.xattrs = _number(text, position)

    # The bytes of a small file

    def read(self, content: Content, limit: int) -> bytes:
        """The whole of a file of at most ``limit`` bytes."""
        if content.size > limit:
            raise self.damaged(f"a file of {content.size} bytes is too large to be read")
        pieces: list[bytes] = []
        position = content.start
        for (size,) in layout.NUMBER.iter_unpack(content.sizes):
            pieces.append(self._block(position, size))
            position += size & (layout.STORED - 1)
        if content.fragment != layout.NONE:
            start, size = self.fragments[content.fragment]
            tail = content.size % self.superblock.block_size
            pieces.append(self._block(start, size)[content.fragment_offset :][:tail])
        return b"".join(pieces)[: content.size]

    def _block(self, position: int, size: int) -> bytes:
        length = size & (layout.STORED - 1)
        if length == 0:
            return bytes(self.superblock.block_size)
        try:
            raw = self._bytes(position, length)
            plain = raw if size & layout.STORED else self.decompress(raw)
        except Exception as error:
            raise self.damaged(error) from None
        if len(plain) > self._block_size:
            raise self.damaged("a data block is too large")
        return plain

    # Tables

    def _read_tables(self) -> None:
        block = self.superblock
        ends = (layout.SUPERBLOCK.size, block.inode_table, block.directory_table, block.size, self._length)
        if any(before > after for before, after in zip(ends, ends[1:])):
            raise Damaged("its tables are out of order")
        self._inode_table = self._table(block.inode_table, block.directory_table)
        self._ids = [
            number for (number,) in layout.NUMBER.iter_unpack(self._list(block.id_table, 4 * block.ids))
        ]
        fragments = self._list(block.fragment_table, layout.FRAGMENT.size * block.fragments)
        #: Start and size on disk of each fragment block.
        self.fragments = [(start, size) for start, size, _ in layout.FRAGMENT.iter_unpack(fragments)]
        self._fragment_count, self._block_size = len(self.fragments), block.block_size
        self._read_xattr_tables()
        self._directories = self._table(block.directory_table, self._end_of_directories())
        #: Bytes of all directories' listings.
        self.listings = len(self._directories.text)

    def _table(self, start: int, end: int) -> Table:
        return Table(self._bytes(start, end - start), self.decompress)

    def _bytes(self, position: int, length: int) -> bytes:
        if length < 0 or position + length > self._length:
            raise Damaged("it ends too early")
        if length > MAX_TEXT:  # a file may be larger than what it takes on disk
            raise Damaged("a table is too large")
        return os.pread(self._file.fileno(), length, position)

    def _locations(self, position: int, length: int) -> list[int]:
        count = -(-length // BLOCK)
        return [place for (place,) in layout.POSITION.iter_unpack(self._bytes(position, 8 * count))]

    def _list(self, position: int, length: int) -> bytes:
        """A table whose blocks are found through a list of their positions."""
        if length == 0:
            return b""
        if length > min(MAX_TEXT, self._length * _MOST):
            raise Damaged("a table is too large")
        parts = []
        for place in self._locations(position, length):
            (header,) = struct.unpack("<H", self._bytes(place, 2))
            parts.append(self._table(place, place + 2 + (header & 0x7FFF)).text)
        return b"".join(parts)[:length]

    def _end_of_directories(self) -> int:
        """The first thing behind the directory table: whichever table's first block comes first."""
        block = self.superblock
        starts = [block.size]
        if block.fragments:
            starts.append(self._locations(block.fragment_table, 1)[0])
        if block.export_table != layout.NO_TABLE:
            starts.append(self._locations(block.export_table, 1)[0])
        starts.append(self._locations(block.id_table, 1)[0])
        if self._xattr_start:
            starts.append(self._xattr_start)
        return min(start for start in starts if start >= block.directory_table)

    def _read_xattr_tables(self) -> None:
        block = self.superblock
        self._xattr_start = 0
        self._xattr_sets = b""
        if block.xattr_table == layout.NO_TABLE:
            return
        raw = self._bytes(block.xattr_table, layout.XATTR_TABLE.size)
        self._xattr_start, count, _ = layout.XATTR_TABLE.unpack(raw)
        if count == 0:
            return
        position = block.xattr_table + layout.XATTR_TABLE.size
        length = layout.XATTR_SET.size * count
        end = self._locations(position, length)[0]
        self._xattr_sets = self._list(position, length)
        self._xattr_text = self._table(self._xattr_start, end)

    def xattrs(self, number: int) -> dict[bytes, bytes]:
        """A set of extended attributes by its number. Whoever asks remembers the answer."""
        try:
            return self._xattrs(number)
        except _WRONG as error:
            raise self.damaged(error) from None

    def _xattrs(self, number: int) -> dict[bytes, bytes]:
        reference, count, _ = layout.XATTR_SET.unpack_from(self._xattr_sets, number * layout.XATTR_SET.size)
        text = self._xattr_text.text
        position = self._xattr_text.position(reference)
        found = {}
        left = _MAX_OWN_XATTRS
        for _ in range(count):
            kind, length = layout.XATTR_KEY.unpack_from(text, position)
            position += layout.XATTR_KEY.size
            name = layout.XATTR_PREFIXES[kind & 0xFF] + text[position : position + length]
            position += length
            size = _number(text, position)
            value = text[position + 4 : position + 4 + size]
            position += 4 + size
            if kind & layout.XATTR_ELSEWHERE:
                place = self._xattr_text.position(layout.POSITION.unpack(value)[0])
                size = _number(text, place)
                value = text[place + 4 : place + 4 + size]
            if len(value) != size:
                raise Damaged("an extended attribute is cut short")
            found[name] = value
            left -= len(name) + size
            self._xattr_bytes += len(name) + size
            if left < 0 or self._xattr_bytes > _MAX_XATTRS:
                raise Damaged("it has too many extended attributes")
        return found


def _check_names(names: list[bytes]) -> None:
    together = b"".join(names)  # to look once is quicker
    if b"/" in together or b"\0" in together or not _IMPOSSIBLE.isdisjoint(names):
        raise Damaged("a directory holds an impossible name")


def _number(text: bytes, position: int) -> int:
    return int(layout.NUMBER.unpack_from(text, position)[0])
