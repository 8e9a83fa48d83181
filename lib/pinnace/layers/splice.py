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
import os
import struct
from collections.abc import Sequence

from pinnace.errors import ImageError
from pinnace.layers import tree
from pinnace.layers.squash import Format, storage_error
from pinnace.layers.tree import Node
from pinnace.squashfs import format as layout
from pinnace.squashfs.format import Content
from pinnace.squashfs.reader import SquashFile
from pinnace.squashfs.writer import Child, MetadataWriter

_PAGE = 4096
#: Bytes of unused data that are rather copied than skipped.
_GAP = 64 << 10
_FICLONERANGE = 0x4020940D
#: Bytes copied at once where the kernel does not do it.
_PIECE = 1 << 20
_NOT_BETWEEN_THESE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)
_CLONE_RANGE = struct.Struct("<qQQQ")


def splice(root: Node, layers: Sequence[SquashFile], target: str, form: Format) -> None:
    """Write the image whose tree is ``root`` to ``target``, complete and synced.

    ``form`` counts for an image without layers; otherwise the layers say how they are compressed.

    Raises ImageError if the layers don't fit together, StoreError if ``target`` cannot be
    written. After an error there is no ``target``.
    """
    common = _common_form(layers, form)
    nodes = [node for _, node in tree.walk(root)]
    try:
        with open(target, "wb") as output:
            place = len(common.options) + layout.SUPERBLOCK.size
            regions = []
            for number, layer in enumerate(layers):
                region = _Region(layer, [node for node in nodes if node.layer == number])
                place = region.copy(output.fileno(), place)
                regions.append(region)
            tables = _tables(root, regions, place, common)
            os.pwrite(output.fileno(), tables[: layout.SUPERBLOCK.size] + common.options, 0)
            os.pwrite(output.fileno(), tables[layout.SUPERBLOCK.size :], place)
            end = place + len(tables) - layout.SUPERBLOCK.size
            os.ftruncate(output.fileno(), end + -end % _PAGE)
            os.fsync(output.fileno())
    except OSError as error:
        _remove(target)
        raise storage_error(target, error) from None
    except BaseException:
        _remove(target)
        raise


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

    def __init__(self, layer: SquashFile, nodes: Sequence[Node]) -> None:
        self._layer = layer
        contents = {id(node): node.content for node in nodes if node.content is not None}.values()
        fragments = sorted({content.fragment for content in contents if content.fragment != layout.NONE})
        #: Numbers of the fragment blocks that are used, and their positions in the layer.
        self.fragments = fragments
        extents = [(content.start, content.stored()) for content in contents]
        for number in fragments:
            start, size = layer.fragments[number]
            extents.append((start, size & (layout.STORED - 1)))
        self._extents = _joined(extents)
        self._starts = [start for start, _ in self._extents]
        self._moves: list[int] = []
        self.first_fragment = 0

    def copy(self, output: int, place: int) -> int:
        """Copy the data to ``place`` and on; returns where it ends."""
        limit = self._layer.superblock.inode_table
        for start, end in self._extents:
            if not layout.SUPERBLOCK.size <= start <= end <= limit:
                raise self._layer.damaged("a file's data lies outside the file")
            place += (start - place) % _PAGE
            _copy(self._layer.fileno(), start, output, place, end - start)
            self._moves.append(place - start)
            place += end - start
        return place

    def moved(self, position: int) -> int:
        """Where what lay at ``position`` lies in the image."""
        index = bisect.bisect_right(self._starts, position) - 1
        return position + self._moves[index] if index >= 0 else 0

    def content(self, content: Content) -> Content:
        """``content`` as it lies in the image."""
        fragment = content.fragment
        if fragment != layout.NONE:
            fragment = self.first_fragment + bisect.bisect_left(self.fragments, fragment)
        start = self.moved(content.start) if content.sizes else 0
        return Content(content.size, start, content.sizes, fragment, content.fragment_offset, content.sparse)

    def fragment_blocks(self) -> list[tuple[int, int]]:
        """Position in the image and size of each fragment block that is used."""
        blocks = (self._layer.fragments[number] for number in self.fragments)
        return [(self.moved(start), size) for start, size in blocks]


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


def _tables(root: Node, regions: Sequence[_Region], place: int, common: _Common) -> bytes:
    fragments: list[tuple[int, int]] = []
    for region in regions:
        region.first_fragment = len(fragments)
        fragments += region.fragment_blocks()
    numbers, names = _numbered(root)
    writer = MetadataWriter()
    positions: dict[int, int] = {}
    for node, parent in _children_first(root):
        key = id(node)
        if key not in positions:
            number = numbers[key]
            positions[key] = _add(writer, node, number, names[key], regions, numbers, positions, parent)
    return writer.finish(positions[id(root)], place, fragments, common.superblock)


def _add(
    writer: MetadataWriter,
    node: Node,
    number: int,
    names: int,
    regions: Sequence[_Region],
    numbers: dict[int, int],
    positions: dict[int, int],
    parent: Node | None,
) -> int:
    entry = node.entry
    if node.is_directory:
        children = [
            Child(name, tree.INODE_KINDS[child.entry.kind], numbers[id(child)], positions[id(child)])
            for name, child in sorted(node.children.items())
        ]
        above = numbers[id(parent)] if parent is not None else len(numbers) + 1
        return writer.add_directory(number, entry.mode, entry.mtime, children, above, entry.xattrs)
    if node.content is not None:
        content = regions[node.layer].content(node.content)
        return writer.add_file(number, entry.mode, entry.mtime, names, content, entry.xattrs)
    kind = tree.INODE_KINDS[entry.kind]
    if kind == layout.SYMLINK:
        return writer.add_symlink(number, entry.mode, entry.mtime, names, entry.link, entry.xattrs)
    return writer.add_special(kind, number, entry.mode, entry.mtime, names, node.rdev, entry.xattrs)


def _numbered(root: Node) -> tuple[dict[int, int], dict[int, int]]:
    """Inode numbers and counts of names, by identity.

    The children of a directory have consecutive numbers: a listing holds small differences.
    """
    numbers = {id(root): 1}
    names = {id(root): 1}
    todo = [root]
    while todo:
        directory = todo.pop()
        for _, child in sorted(directory.children.items()):
            key = id(child)
            names[key] = names.get(key, 0) + 1
            if key not in numbers:
                numbers[key] = len(numbers) + 1
                if child.is_directory:
                    todo.append(child)
    return numbers, names


def _children_first(root: Node) -> list[tuple[Node, Node | None]]:
    """Every name's node with its directory, each directory after all that lies in it."""
    order: list[tuple[Node, Node | None]] = [(root, None)]
    todo = [root]
    while todo:
        directory = todo.pop()
        # Reversed as a whole below: files of one directory then lie together, in order.
        for _, child in sorted(directory.children.items(), reverse=True):
            order.append((child, directory))
            if child.is_directory:
                todo.append(child)
    order.reverse()
    return order


def _copy(source: int, start: int, target: int, place: int, length: int) -> None:
    """Copy bytes between files, by sharing their blocks where the file system can."""
    head = min(-start % _PAGE, length)
    shared = (length - head) // _PAGE * _PAGE
    if shared and _clone(source, start + head, target, place + head, shared):
        _copy_bytes(source, start, target, place, head)
        done = head + shared
        _copy_bytes(source, start + done, target, place + done, length - done)
        return
    _copy_bytes(source, start, target, place, length)


def _clone(source: int, start: int, target: int, place: int, length: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONERANGE, _CLONE_RANGE.pack(source, start, length, place))
    except OSError:
        return False  # not on this file system, or not between these two
    return True


def _copy_bytes(source: int, start: int, target: int, place: int, length: int) -> None:
    while length:
        try:
            count = os.copy_file_range(source, target, length, start, place)
        except OSError as error:
            if error.errno not in _NOT_BETWEEN_THESE:
                raise
            count = os.pwrite(target, os.pread(source, min(length, _PIECE), start), place)
        if count == 0:
            raise OSError(errno.EIO, "the layer's file ends too early")
        start, place, length = start + count, place + count, length - count


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
