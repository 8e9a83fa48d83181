"""An image's squashfs file from its layers', without compressing anything again.

The layers' trees are merged; the compressed blocks of the files that the image has are copied,
and inodes, directories and the other tables are written new. The same layers give the same bytes.

What no file of the image uses any more is left out, but for gaps too small to be worth a seam.
Blocks keep their position within a page, so that a file system with reflinks shares them with the
layer's file (ioctl_ficlonerange(2)).
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from itertools import count, repeat
from typing import NamedTuple

from pinnace import digest as digests
from pinnace.errors import ImageError
from pinnace.layers import tree
from pinnace.layers.numbering import Contents, Plan, positions_of
from pinnace.layers.squash import Format, storage_error
from pinnace.layers.tree import Image, Node
from pinnace.squashfs import format as layout
from pinnace.squashfs import small
from pinnace.squashfs.reader import SquashFile
from pinnace.squashfs.writer import Listed, MetadataWriter

_PAGE = 4096
#: Bytes of unused data that are rather copied than skipped.
_GAP = 64 << 10
_FICLONERANGE = 0x4020940D
#: Bytes copied at once where the kernel does not do it.
_PIECE = 1 << 20
_NOT_BETWEEN_THESE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)
_CLONE_RANGE = struct.Struct("<qQQQ")


def splice(image: Image, layers: Sequence[SquashFile], target: str, form: Format) -> None:
    """Write ``image`` to ``target``.

    ``form`` counts for an image without layers; otherwise the layers say how they are compressed.

    Raises ImageError if the layers don't fit together, StoreError if ``target`` cannot be
    written. After an error there is no ``target``.
    """
    parts = _parts(image, layers, form)
    try:
        with open(target, "wb") as output:
            os.pwrite(output.fileno(), parts.head, 0)
            for copy in parts.copies:
                copy.carry_out(output.fileno())
            output.seek(parts.place)
            output.write(parts.tables)
    except OSError as error:
        _remove(target)
        raise storage_error(target, error) from None
    except BaseException:
        _remove(target)
        raise


def digest(image: Image, layers: Sequence[SquashFile], form: Format) -> str:
    """The digest of the file that ``splice`` writes, from the layers alone. Raises ImageError."""
    parts = _parts(image, layers, form)
    state = hashlib.sha256(parts.head)
    position = len(parts.head)
    for copy in parts.copies:
        state.update(bytes(copy.place - position))
        for piece in copy.pieces():
            state.update(piece)
        position = copy.place + copy.length
    state.update(bytes(parts.place - position))
    state.update(parts.tables)
    return digests.PREFIX + state.hexdigest()


class _Parts(NamedTuple):
    """What an image's file consists of: its head, blocks of layers, and tables from ``place`` on."""

    head: bytes
    copies: list[_Copy]
    place: int
    tables: bytearray


def _parts(image: Image, layers: Sequence[SquashFile], form: Format) -> _Parts:
    common = _common_form(layers, form)
    plan = Plan(image, len(layers))
    regions = [_Region(layer, files) for layer, files in zip(layers, plan.files)]
    place = layout.SUPERBLOCK.size + len(common.options)
    for region in regions:
        place = region.lay_out(place)
    superblock, tables = _tables(plan, regions, place, common)
    tables += bytes(-(place + len(tables)) % _PAGE)
    copies = [copy for region in regions for copy in region.copies()]
    return _Parts(superblock + common.options, copies, place, tables)


class _Common:
    """What all layers have in common: block size and compressor, and the compressor's options."""

    def __init__(self, superblock: layout.Superblock, options: bytes) -> None:
        self.superblock = superblock
        self.options = options


def _common_form(layers: Sequence[SquashFile], form: Format) -> _Common:
    if not layers:
        compressor = next(number for number, name in layout.COMPRESSORS.items() if name == form.compressor)
        return _Common(layout.Superblock.empty(compressor, form.block_size), b"")
    first = layers[0]
    for layer in layers[1:]:
        mine, theirs = layer.superblock, first.superblock
        if (mine.compressor, mine.block_size) != (theirs.compressor, theirs.block_size):
            raise ImageError(
                f"{layer.path} and {first.path} are compressed in different ways",
                hint="remove one of them and pull again",
                identifier="layers-differ",
            )
    return _Common(first.superblock, first.options())


class _Region:
    """The data of one layer that goes into the image, and where it goes."""

    def __init__(self, layer: SquashFile, files: Sequence[int]) -> None:
        self.layer = layer
        extents, fragments, self.others = layer.data(files)
        #: Numbers of the fragment blocks that are used.
        self._fragments = sorted(fragments)
        for number in self._fragments:
            start, size = layer.fragments[number]
            extents.append((start, size & (layout.STORED - 1)))
        self._extents = _joined(extents)
        self._starts = [start for start, _ in self._extents]
        self._moves: list[int] = []
        #: The image's numbers of fragment blocks by those in the layer.
        self.fragments: dict[int, int] = {layout.NONE: layout.NONE}
        #: Numbers of sets of extended attributes in the image by those in the layer.
        self.xattrs: dict[int, int] = {layout.NONE: layout.NONE}

    def lay_out(self, place: int) -> int:
        """Give the data its places from ``place`` on; returns where it ends."""
        limit = self.layer.superblock.inode_table
        for start, end in self._extents:
            if not layout.SUPERBLOCK.size <= start <= end <= limit:
                raise self.layer.damaged("a file's data lies outside the file")
            place += (start - place) % _PAGE
            self._moves.append(place - start)
            place += end - start
        return place

    def copies(self) -> Iterator[_Copy]:
        """What to copy, once it has its places."""
        for (start, end), move in zip(self._extents, self._moves):
            yield _Copy(self.layer, start, start + move, end - start)

    def start(self, position: int) -> int:
        """Where what lay at ``position`` lies in the image."""
        index = bisect.bisect_right(self._starts, position) - 1
        # Where nothing is stored, as of a file that is all holes, the position says nothing.
        if index < 0 or position >= self._extents[index][1]:
            return 0
        return position + self._moves[index]

    def take_fragments(self, fragments: list[tuple[int, int]]) -> None:
        """Append to ``fragments`` position in the image and size of each fragment block that is used."""
        for number in self._fragments:
            self.fragments[number] = len(fragments)
            start, size = self.layer.fragments[number]
            fragments.append((self.start(start), size))


def _joined(extents: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Start and end of the smallest regions that hold all extents; builders store equal files once."""
    regions: list[tuple[int, int]] = []
    for start, length in sorted(extents):
        if length == 0:
            continue
        if regions and start - regions[-1][1] <= _GAP:
            regions[-1] = (regions[-1][0], max(regions[-1][1], start + length))
        else:
            regions.append((start, start + length))
    return regions


def _tables(plan: Plan, regions: Sequence[_Region], place: int, common: _Common) -> tuple[bytes, bytearray]:
    fragments: list[tuple[int, int]] = []
    for region in regions:
        region.take_fragments(fragments)
    inodes = _Inodes(plan, regions)
    while plan.directories:  # what lies in one before it; what is done with makes room
        inodes.add_directory(plan.directories.pop())
    return inodes.writer.finish(inodes.positions[plan.root], place, fragments, common.superblock)


class _Inodes:
    """The image's inodes and listings while they are written."""

    def __init__(self, plan: Plan, regions: Sequence[_Region]) -> None:
        self.writer = MetadataWriter()
        #: Of directories, and of files that may have several names.
        self.positions: dict[Node, int] = {}
        self._plan = plan
        self._regions = regions

    def add_directory(self, contents: Contents) -> None:
        """Write all that is new in a directory, its listing and itself."""
        directory, names, nodes, number, rows = contents
        numbers, positions = self._plan.numbers, self.positions
        listed: list[Listed] = []
        for index, (name, node) in enumerate(zip(names, nodes)):
            if index < len(listed):
                continue  # in a row
            if index in rows:
                places = self._add_row(rows[index], number)
                listed += zip(names[index : index + len(places)], places, count(number), repeat(layout.FILE))
                number += len(places)
                continue
            own = numbers.get(node)
            if own is None and isinstance(node, int):
                listed.append((name, self._add(node, number, 1), number, node >> tree.KIND & 0xF))
                number += 1
                continue
            own = numbers[node]
            number += own == number
            kind = layout.DIRECTORY
            if isinstance(node, int):
                kind = tree.kind_of(node)
                if node not in positions:
                    positions[node] = self._add(node, own, self._plan.names[node])
            listed.append((name, positions[node], own, kind))
        mode, mtime, xattrs = 0o755, 0, layout.NONE
        if directory.inode >= 0:
            region = self._regions[directory.inode >> tree.LAYER]
            inode = region.layer.inode(directory.inode & tree.POSITION)
            mode, mtime, xattrs = inode.mode, inode.mtime, self._xattrs(region, inode.xattrs)
        positions[directory] = self.writer.add_directory(
            numbers[directory], mode, mtime, listed, self._plan.parents[directory], xattrs
        )

    def _add_row(self, row: range, number: int) -> Sequence[int]:
        """Write files whose inodes follow one another as those of small files do; gives their positions."""
        region = self._regions[row[0] >> tree.LAYER]
        positions = positions_of(row)
        if not region.others.isdisjoint(positions):
            return [self._add(node, own, 1) for own, node in enumerate(row, number)]
        inodes = region.layer.small_files(positions)
        return self.writer.add_small_files(small.rewritten(inodes, number, region.fragments.__getitem__))

    def _add(self, node: int, number: int, names: int) -> int:
        region = self._regions[node >> tree.LAYER]
        plain = region.layer.plain_file(node & tree.POSITION)
        if plain is not None:
            mode, mtime, size, start, sizes, fragment, offset = plain
            start = region.start(start) if sizes else 0
            fragment = region.fragments[fragment]
            return self.writer.add_file(number, mode, mtime, names, size, start, sizes, fragment, offset)
        inode = region.layer.inode(node & tree.POSITION)
        head = (number, inode.mode, inode.mtime, names)
        xattrs = self._xattrs(region, inode.xattrs)
        if inode.content is not None:
            size, start, sizes, fragment, offset, sparse = inode.content
            start = region.start(start) if sizes else 0
            fragment = region.fragments[fragment]
            return self.writer.add_file(*head, size, start, sizes, fragment, offset, sparse, xattrs)
        if inode.kind == layout.SYMLINK:
            return self.writer.add_symlink(*head, inode.target, xattrs)
        return self.writer.add_special(inode.kind, *head, inode.rdev, xattrs)

    def _xattrs(self, region: _Region, number: int) -> int:
        found = region.xattrs.get(number)
        if found is None:
            found = region.xattrs[number] = self.writer.add_xattrs(region.layer.xattrs(number))
        return found


class _Copy(NamedTuple):
    """``length`` bytes at ``start`` of a layer's file, which go to ``place`` in the image's."""

    layer: SquashFile
    start: int
    place: int
    length: int

    def carry_out(self, target: int) -> None:
        """Copy the bytes, by sharing their blocks where the file system can. Raises OSError, ImageError."""
        start, place, length = self.start, self.place, self.length
        head = min(-start % _PAGE, length)
        shared = (length - head) // _PAGE * _PAGE
        if shared and _clone(self.layer.fileno(), start + head, target, place + head, shared):
            self._bytes(target, 0, head)
            self._bytes(target, head + shared, length - head - shared)
        else:
            self._bytes(target, 0, length)

    def pieces(self) -> Iterator[bytes]:
        """The bytes themselves. Raises OSError, ImageError."""
        position, left = self.start, self.length
        while left:
            piece = os.pread(self.layer.fileno(), min(left, _PIECE), position)
            if not piece:
                raise self.layer.damaged("it ends too early")
            yield piece
            position, left = position + len(piece), left - len(piece)

    def _bytes(self, target: int, offset: int, length: int) -> None:
        source, start, place = self.layer.fileno(), self.start + offset, self.place + offset
        while length:
            try:
                count = os.copy_file_range(source, target, length, start, place)
            except OSError as error:
                if error.errno not in _NOT_BETWEEN_THESE:
                    raise
                count = os.pwrite(target, os.pread(source, min(length, _PIECE), start), place)
            if count == 0:
                raise self.layer.damaged("it ends too early")
            start, place, length = start + count, place + count, length - count


def _clone(source: int, start: int, target: int, place: int, length: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONERANGE, _CLONE_RANGE.pack(source, start, length, place))
    except OSError:
        return False  # not on this file system, or not between these two
    return True


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
