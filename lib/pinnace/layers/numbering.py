"""Which inodes an image has, in which order, and their numbers."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from pinnace.layers import tree
from pinnace.layers.tree import Directory, Image, Node
from pinnace.squashfs import format as layout

#: Bytes from a small file's inode to the one that follows it.
_STEP = layout.PLAIN_FILE.size
#: Files in a row that are worth being dealt with at once, and the distance of the last inode from the first.
_ROW = 8
_LENGTH = (_ROW - 1) * _STEP


class Contents(NamedTuple):
    """What a directory holds: names, sorted, and what they name.

    ``number`` is that of the first new inode. ``rows`` are those nodes, by the index of the first, that are
    files with one name whose inodes follow one another in a layer as those of small files do.
    """

    directory: Directory
    names: list[bytes]
    nodes: list[Node]
    number: int
    rows: dict[int, range]


class Plan:
    """Which inodes an image has, in which order, and their numbers.

    The children of a directory have consecutive numbers, so that a listing holds small
    differences; a file that had its number by another name is passed over.
    """

    def __init__(self, image: Image, layers: int) -> None:
        self.root = image.root
        #: What lies below a directory comes after it.
        self.directories: list[Contents] = []
        #: Positions of the regular files of each layer.
        self.files = [array("Q") for _ in range(layers)]
        #: Of directories and of files that may have several names: their numbers and how many names.
        self.numbers: dict[Node, int] = {image.root: 1}
        self.names: dict[Node, int] = {}
        self.parents: dict[Directory, int] = {}
        count = 1
        todo = [image.root]
        while todo:
            directory = todo.pop()
            names = sorted(directory.children)
            nodes = list(map(directory.children.__getitem__, names))
            rows: dict[int, range] = {}
            self.directories.append(Contents(directory, names, nodes, count + 1, rows))
            parent = self.numbers[directory]
            last, end = len(nodes) - _ROW, 0  # where a row may begin, and where the last one ends
            for index, node in enumerate(nodes):
                if index < end:
                    continue
                if not isinstance(node, int):
                    self.parents[node] = parent
                    todo.append(node)
                elif node not in image.linked:
                    if index <= last and nodes[index + _ROW - 1] == node + _LENGTH:
                        row = _row(nodes, index, image.linked)
                        if len(row) >= _ROW:
                            rows[index], end = row, index + len(row)
                            self.files[node >> tree.LAYER].extend(positions_of(row))
                            count += len(row)
                            continue
                    count += 1
                    if node >> tree.KIND & 0xF == layout.FILE:
                        self.files[node >> tree.LAYER].append(node & tree.POSITION)
                    continue
                else:
                    self.names[node] = self.names.get(node, 0) + 1
                    if node in self.numbers:
                        continue
                    if tree.kind_of(node) == layout.FILE:
                        self.files[node >> tree.LAYER].append(node & tree.POSITION)
                count += 1
                self.numbers[node] = count
        self.parents[image.root] = count + 1  # as mksquashfs has it


def _row(nodes: Sequence[Node], index: int, linked: set[int]) -> range:
    """Those from ``index`` on that are files with one name whose inodes follow one another."""
    first = nodes[index]
    assert isinstance(first, int)
    end = first
    if tree.kind_of(first) == layout.FILE:
        while index < len(nodes) and nodes[index] == end and end not in linked:
            index += 1
            end += _STEP
    return range(first, end, _STEP)


def positions_of(row: range) -> range:
    """Where the inodes of a row lie in the layer's table."""
    start = row.start & tree.POSITION
    return range(start, start + len(row) * _STEP, _STEP)
