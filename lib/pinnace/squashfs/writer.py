"""The metadata of a new squashfs file, whose data blocks are there already.

Inodes, directories and the rest are written as uncompressed metadata blocks: some 35 bytes for
each file more than compressed, and nothing to be compressed when an image is put together.
"""

from __future__ import annotations

from collections.abc import Sequence

from pinnace.squashfs import format as layout
from pinnace.squashfs.format import Content, Superblock
from pinnace.squashfs.metadata import BLOCK, TableWriter, block_of, reference_of

_ENTRIES = 256  # in a directory header (SQUASHFS_DIR_COUNT)
_SMALL = 1 << 16


class Child:
    """A name in a directory and what is needed to list it. ``position`` is in the inode table."""

    __slots__ = ("kind", "name", "number", "position")

    def __init__(self, name: bytes, kind: int, number: int, position: int) -> None:
        self.name = name
        self.kind = kind
        self.number = number
        self.position = position


class MetadataWriter:
    """Collects the tables of an image. A directory is added after everything that lies in it."""

    def __init__(self) -> None:
        self._inodes = TableWriter()
        self._directories = TableWriter()
        self._xattrs = TableWriter()
        self._xattr_numbers: dict[tuple[tuple[bytes, bytes], ...], int] = {}
        self._xattr_sets: list[bytes] = []
        self._count = 0

    def add_file(
        self, number: int, mode: int, mtime: int, names: int, content: Content, xattrs: dict[bytes, bytes]
    ) -> int:
        """Returns the inode's position, as do the other methods of this kind."""
        simple = names == 1 and not xattrs and not content.sparse
        if simple and content.start < 1 << 32 and content.size < 1 << 32:
            return self._add(
                layout.FILE,
                mode,
                mtime,
                number,
                layout.BASIC_FILE.pack(content.start, content.fragment, content.fragment_offset, content.size)
                + content.sizes,
            )
        body = layout.EXTENDED_FILE.pack(
            content.start,
            content.size,
            content.sparse,
            names,
            content.fragment,
            content.fragment_offset,
            self._xattr_number(xattrs),
        )
        return self._add(layout.FILE + layout.EXTENDED, mode, mtime, number, body + content.sizes)

    def add_symlink(
        self, number: int, mode: int, mtime: int, names: int, target: bytes, xattrs: dict[bytes, bytes]
    ) -> int:
        body = layout.LINK.pack(names, len(target)) + target
        return self._add_other(layout.SYMLINK, mode, mtime, number, body, xattrs)

    def add_special(
        self, kind: int, number: int, mode: int, mtime: int, names: int, rdev: int, xattrs: dict[bytes, bytes]
    ) -> int:
        """A device, FIFO or socket."""
        devices = (layout.BLOCK_DEVICE, layout.CHARACTER_DEVICE)
        body = layout.LINK.pack(names, rdev) if kind in devices else layout.NUMBER.pack(names)
        return self._add_other(kind, mode, mtime, number, body, xattrs)

    def add_directory(
        self,
        number: int,
        mode: int,
        mtime: int,
        children: Sequence[Child],
        parent: int,
        xattrs: dict[bytes, bytes],
    ) -> int:
        """``children`` sorted by name; ``parent`` is the parent's inode number."""
        start = len(self._directories.text)
        index = self._list(children)
        size = len(self._directories.text) - start + 3
        links = 2 + sum(child.kind == layout.DIRECTORY for child in children)
        block, offset = block_of(start), start % BLOCK
        if size < _SMALL and not xattrs and not index:
            body = layout.BASIC_DIRECTORY.pack(block, links, size, offset, parent)
            return self._add(layout.DIRECTORY, mode, mtime, number, body)
        body = layout.EXTENDED_DIRECTORY.pack(
            links, size, block, parent, len(index), offset, self._xattr_number(xattrs)
        )
        return self._add(layout.DIRECTORY + layout.EXTENDED, mode, mtime, number, body + b"".join(index))

    def _list(self, children: Sequence[Child]) -> list[bytes]:
        """Write a listing; gives its index: where headers begin in further blocks, by first name."""
        text = self._directories.text
        begin = len(text)
        index: list[bytes] = []
        indexed = begin // BLOCK
        position = 0
        while position < len(children):
            first = children[position]
            block = block_of(first.position)
            end = position + 1
            while (
                end < len(children)
                and end - position < _ENTRIES
                and block_of(children[end].position) == block
                and -0x8000 <= children[end].number - first.number <= 0x7FFF
            ):
                end += 1
            if len(text) // BLOCK != indexed:
                indexed = len(text) // BLOCK
                place = layout.DIRECTORY_INDEX.pack(
                    len(text) - begin, block_of(len(text)), len(first.name) - 1
                )
                index.append(place + first.name)
            text += layout.DIRECTORY_HEADER.pack(end - position - 1, block, first.number)
            for child in children[position:end]:
                text += layout.DIRECTORY_ENTRY.pack(
                    child.position % BLOCK, child.number - first.number, child.kind, len(child.name) - 1
                )
                text += child.name
            position = end
        return index

    def _add(self, kind: int, mode: int, mtime: int, number: int, body: bytes) -> int:
        self._count += 1
        return self._inodes.append(layout.INODE.pack(kind, mode, 0, 0, mtime, number) + body)

    def _add_other(
        self, kind: int, mode: int, mtime: int, number: int, body: bytes, xattrs: dict[bytes, bytes]
    ) -> int:
        if xattrs:
            kind += layout.EXTENDED
            body += layout.NUMBER.pack(self._xattr_number(xattrs))
        return self._add(kind, mode, mtime, number, body)

    def _xattr_number(self, xattrs: dict[bytes, bytes]) -> int:
        if not xattrs:
            return layout.NONE
        key = tuple(sorted(xattrs.items()))
        number = self._xattr_numbers.get(key)
        if number is None:
            number = self._xattr_numbers[key] = len(self._xattr_sets)
            text = b"".join(_xattr(name, value) for name, value in key)
            start = self._xattrs.append(text)
            self._xattr_sets.append(layout.XATTR_SET.pack(reference_of(start), len(key), len(text)))
        return number

    def finish(
        self, root: int, data_end: int, fragments: Sequence[tuple[int, int]], form: Superblock
    ) -> bytes:
        """All tables, to be written at ``data_end``, after the superblock to be written at 0.

        ``root`` is the root's position, ``fragments`` start and size of each fragment block;
        ``form`` gives compressor, block size and the flag of the compressor's options.
        """
        inodes, directories = self._inodes.disk(), self._directories.disk()
        tables = bytearray(inodes + directories)
        fragment_table = _put_list(tables, data_end, [layout.FRAGMENT.pack(*entry, 0) for entry in fragments])
        id_table = _put_list(tables, data_end, [layout.NUMBER.pack(0)])
        xattr_table = self._put_xattrs(tables, data_end)
        flags = form.flags & layout.OPTIONS | layout.PLAIN_INODES | layout.PLAIN_IDS | layout.PLAIN_XATTRS
        superblock = Superblock(
            inodes=self._count,
            mtime=0,
            block_size=form.block_size,
            fragments=len(fragments),
            compressor=form.compressor,
            flags=flags
            | (0 if fragments else layout.NO_FRAGMENTS)
            | (0 if self._xattr_sets else layout.NO_XATTRS),
            ids=1,
            root=reference_of(root),
            size=data_end + len(tables),
            id_table=id_table,
            xattr_table=xattr_table,
            inode_table=data_end,
            directory_table=data_end + len(inodes),
            fragment_table=fragment_table if fragments else layout.NO_TABLE,
            export_table=layout.NO_TABLE,
        )
        return superblock.pack() + bytes(tables)

    def _put_xattrs(self, tables: bytearray, base: int) -> int:
        if not self._xattr_sets:
            return layout.NO_TABLE
        start = base + len(tables)
        tables += self._xattrs.disk()
        place, locations = _put_blocks(tables, base, b"".join(self._xattr_sets))
        tables += layout.XATTR_TABLE.pack(start, len(self._xattr_sets), 0) + locations
        return place


def _put_list(tables: bytearray, base: int, entries: Sequence[bytes]) -> int:
    """Append a table with the list of its blocks' positions; gives the position of that list."""
    place, locations = _put_blocks(tables, base, b"".join(entries))
    tables += locations
    return place


def _put_blocks(tables: bytearray, base: int, text: bytes) -> tuple[int, bytes]:
    writer = TableWriter()
    writer.append(text)
    start = base + len(tables)
    tables += writer.disk()
    positions = b"".join(layout.POSITION.pack(start + distance) for distance in writer.block_starts())
    return base + len(tables), positions


def _xattr(name: bytes, value: bytes) -> bytes:
    for kind, prefix in enumerate(layout.XATTR_PREFIXES):
        if name.startswith(prefix):
            rest = name[len(prefix) :]
            head = layout.XATTR_KEY.pack(kind, len(rest)) + rest
            return head + layout.NUMBER.pack(len(value)) + value
    raise ValueError(f"squashfs has no place for the attribute {name!r}")
