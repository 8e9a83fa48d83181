"""The metadata of a squashfs file: its tree, without the bytes of its files."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from pinnace.errors import ImageError
from pinnace.squashfs import format as layout
from pinnace.squashfs.format import Content, Superblock
from pinnace.squashfs.metadata import BLOCK, Damaged, Table, decompressor


class Inode:
    """One file of any kind; ``kind`` is the basic inode type, ``rdev`` a device's numbers."""

    __slots__ = ("content", "group", "kind", "listing", "mode", "mtime", "rdev", "target", "xattrs")

    def __init__(self, kind: int, mode: int, group: int, mtime: int) -> None:
        self.kind = kind
        self.mode = mode
        self.group = group
        self.mtime = mtime
        self.content: Content | None = None
        self.target = b""
        self.rdev = 0
        self.xattrs: dict[bytes, bytes] = {}
        #: Of a directory: block and offset in the directory table, and bytes.
        self.listing = (0, 0, 0)


class SquashFile:
    """An open squashfs file. Raises ImageError if its metadata cannot be read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open(path, "rb")
        try:
            self.superblock = Superblock.unpack(self._file.read(layout.SUPERBLOCK.size))
            self.decompress = decompressor(layout.COMPRESSORS.get(self.superblock.compressor, "?"))
            self._read_tables()
        except (Damaged, struct.error, IndexError, ValueError) as error:
            self._file.close()
            raise self.damaged(error) from None
        except BaseException:
            self._file.close()
            raise
        self._inodes: dict[int, Inode] = {}

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
        (header,) = struct.unpack("<H", self._bytes(layout.SUPERBLOCK.size, 2))
        return self._bytes(layout.SUPERBLOCK.size, 2 + (header & 0x7FFF))

    def damaged(self, why: object) -> ImageError:
        return ImageError(
            f"{self.path} is damaged: {why}", hint="remove it and pull again", identifier="damaged-image"
        )

    # The tree

    def root(self) -> Inode:
        return self._inode(self.superblock.root)

    def children(self, directory: Inode) -> Iterator[tuple[bytes, Inode]]:
        """Names and files of a directory. One that has several names is the same object each time."""
        try:
            yield from self._children(directory)
        except (Damaged, struct.error, IndexError) as error:
            raise self.damaged(error) from None

    def _children(self, directory: Inode) -> Iterator[tuple[bytes, Inode]]:
        block, offset, size = directory.listing
        if size <= 3:
            return
        text = self._directories.text
        position = self._directories.at(block, offset)
        end = position + size - 3
        while position < end:
            count, start, _ = layout.DIRECTORY_HEADER.unpack_from(text, position)
            position += layout.DIRECTORY_HEADER.size
            for _ in range(count + 1):
                place, _, _, length = layout.DIRECTORY_ENTRY.unpack_from(text, position)
                position += layout.DIRECTORY_ENTRY.size
                name = text[position : position + length + 1]
                position += length + 1
                if len(name) != length + 1 or name in (b".", b"..") or b"/" in name or b"\0" in name:
                    raise Damaged("a directory holds an impossible name")
                yield name, self._inode(start << 16 | place)

    def _inode(self, reference: int) -> Inode:
        inode = self._inodes.get(reference)
        if inode is None:
            inode = self._inodes[reference] = self._parse(self._inode_table.position(reference))
        return inode

    def _parse(self, position: int) -> Inode:
        text = self._inode_table.text
        kind, mode, _, group, mtime, _ = layout.INODE.unpack_from(text, position)
        position += layout.INODE.size
        extended = kind > layout.EXTENDED
        basic = kind - layout.EXTENDED if extended else kind
        inode = Inode(basic, mode & 0o7777, self._ids[group], mtime)
        if basic == layout.DIRECTORY:
            xattr = _parse_directory(text, position, inode, extended)
        elif basic == layout.FILE:
            xattr = self._parse_file(text, position, inode, extended)
        elif basic == layout.SYMLINK:
            _, length = layout.LINK.unpack_from(text, position)
            position += layout.LINK.size
            inode.target = text[position : position + length]
            if len(inode.target) != length:
                raise Damaged("a symbolic link is cut short")
            xattr = _number(text, position + length) if extended else layout.NONE
        elif basic in (layout.BLOCK_DEVICE, layout.CHARACTER_DEVICE):
            _, inode.rdev = layout.LINK.unpack_from(text, position)
            xattr = _number(text, position + 8) if extended else layout.NONE
        elif basic in (layout.FIFO, layout.SOCKET):
            xattr = _number(text, position + 4) if extended else layout.NONE
        else:
            raise Damaged(f"an inode has the unknown type {kind}")
        if xattr != layout.NONE:
            inode.xattrs = self._xattrs(xattr)
        return inode

    def _parse_file(self, text: bytes, position: int, inode: Inode, extended: bool) -> int:
        sparse, xattr = 0, layout.NONE
        if extended:
            start, size, sparse, _, fragment, offset, xattr = layout.EXTENDED_FILE.unpack_from(text, position)
            position += layout.EXTENDED_FILE.size
        else:
            start, fragment, offset, size = layout.BASIC_FILE.unpack_from(text, position)
            position += layout.BASIC_FILE.size
        blocks = size // self.superblock.block_size
        if fragment == layout.NONE:
            blocks = -(-size // self.superblock.block_size)
        elif fragment >= len(self.fragments):
            raise Damaged("a file's fragment is not there")
        sizes = text[position : position + 4 * blocks]
        if len(sizes) != 4 * blocks:
            raise Damaged("a block list is cut short")
        inode.content = Content(size, start, sizes, fragment, offset, sparse)
        return xattr

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
        raw = os.pread(self._file.fileno(), length, position)
        try:
            return raw if size & layout.STORED else self.decompress(raw)
        except Exception as error:
            raise self.damaged(error) from None

    # Tables

    def _read_tables(self) -> None:
        block = self.superblock
        data_end = os.fstat(self._file.fileno()).st_size
        if not layout.SUPERBLOCK.size <= block.inode_table <= block.directory_table <= block.size <= data_end:
            raise Damaged("its tables are out of order")
        self._inode_table = self._table(block.inode_table, block.directory_table)
        self._ids = [
            number for (number,) in layout.NUMBER.iter_unpack(self._list(block.id_table, 4 * block.ids))
        ]
        fragments = self._list(block.fragment_table, layout.FRAGMENT.size * block.fragments)
        #: Start and size on disk of each fragment block.
        self.fragments = [(start, size) for start, size, _ in layout.FRAGMENT.iter_unpack(fragments)]
        self._read_xattr_tables()
        self._directories = self._table(block.directory_table, self._end_of_directories())

    def _table(self, start: int, end: int) -> Table:
        return Table(self._bytes(start, end - start), self.decompress)

    def _bytes(self, position: int, length: int) -> bytes:
        raw = os.pread(self._file.fileno(), length, position) if length else b""
        if len(raw) != length:
            raise Damaged("it ends too early")
        return raw

    def _locations(self, position: int, length: int) -> list[int]:
        count = -(-length // BLOCK)
        return [place for (place,) in layout.POSITION.iter_unpack(self._bytes(position, 8 * count))]

    def _list(self, position: int, length: int) -> bytes:
        """A table whose blocks are found through a list of their positions."""
        if length == 0:
            return b""
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
        self._xattr_sets: list[tuple[int, int, int]] = []
        if block.xattr_table == layout.NO_TABLE:
            return
        raw = self._bytes(block.xattr_table, layout.XATTR_TABLE.size)
        self._xattr_start, count, _ = layout.XATTR_TABLE.unpack(raw)
        if count == 0:
            return
        position = block.xattr_table + layout.XATTR_TABLE.size
        length = layout.XATTR_SET.size * count
        end = self._locations(position, length)[0]
        self._xattr_sets = list(layout.XATTR_SET.iter_unpack(self._list(position, length)))
        self._xattr_text = self._table(self._xattr_start, end)

    def _xattrs(self, number: int) -> dict[bytes, bytes]:
        reference, count, _ = self._xattr_sets[number]
        text = self._xattr_text.text
        position = self._xattr_text.position(reference)
        found = {}
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
                value = text[place + 4 : place + 4 + _number(text, place)]
            found[name] = value
        return found


def _parse_directory(text: bytes, position: int, inode: Inode, extended: bool) -> int:
    if extended:
        _, size, block, _, _, offset, xattr = layout.EXTENDED_DIRECTORY.unpack_from(text, position)
        inode.listing = (block, offset, size)
        return int(xattr)
    block, _, size, offset, _ = layout.BASIC_DIRECTORY.unpack_from(text, position)
    inode.listing = (block, offset, size)
    return layout.NONE


def _number(text: bytes, position: int) -> int:
    return int(layout.NUMBER.unpack_from(text, position)[0])
