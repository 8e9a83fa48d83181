"""Squashfs files that other programs wrote, as layers: nothing is compressed again.

What a layer must not hold is taken away as ``filter`` takes it from a tar: owners, set-user-ID
bits, attributes but ``user.*``, device nodes in /dev; what it refuses is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from pinnace import squashfs
from pinnace.layers import names, policy, tar, tree
from pinnace.layers.splice import splice
from pinnace.layers.squash import Format
from pinnace.layers.tree import Directory
from pinnace.squashfs import format as layout
from pinnace.squashfs.format import Content
from pinnace.squashfs.inodes import Entry, Inode
from pinnace.squashfs.reader import SquashFile

#: Those whose blocks can be read whatever the compressor's options were.
_COMPRESSORS = frozenset(("zstd", "gzip", "lz4"))
_WITH_XATTRS = frozenset((layout.FILE, layout.DIRECTORY))


def fits(path: str, form: Format) -> bool:
    """Whether the file is compressed as ``form`` says. Raises ImageError if it is no squashfs file."""
    summary = squashfs.check(path)
    alike = (summary.compressor, summary.block_size) == (form.compressor, form.block_size)
    return alike and form.compressor in _COMPRESSORS


def adopt(path: str, target: str) -> None:
    """Write ``target``, a layer's file, from a squashfs file that ``fits``.

    Raises ImageError if it is damaged or holds what no layer may, StoreError if ``target`` cannot
    be written. After an error there is no ``target``.
    """
    with ForeignFile(path) as file:
        image = tree.merge([file])
        _remove_devices(image.root, path)
        splice(image, [file], target, Format())


class ForeignFile(SquashFile):
    """A squashfs file as a layer of its own would be."""

    kept_mode = policy.KEPT_MODE

    def parts(self, directory: Inode) -> Iterator[list[Entry]]:
        for part in super().parts(directory):
            for name, kind, _, _ in part:
                if name.startswith(names.WHITEOUT) and kind == layout.DIRECTORY:
                    raise tar.malformed(self.path, f"the directory {tar.printable(name)} has a reserved name")
            yield part

    def inode(self, position: int) -> Inode:
        inode = super().inode(position)
        inode.group = 0  # the number that means something in a layer
        if inode.kind == layout.SYMLINK:
            inode.mode = 0o777
            names.check_symlink(inode.target, b"in it", self.path)
        if inode.kind not in _WITH_XATTRS:
            inode.xattrs = layout.NONE
        return inode

    def xattrs(self, number: int) -> dict[bytes, bytes]:
        return {name: value for name, value in super().xattrs(number).items() if policy.keeps_xattr(name)}

    def files(self, wanted: frozenset[bytes], limit: int) -> dict[bytes, bytes]:
        """The content of those regular files of at most ``limit`` bytes that are there, by path."""
        found = {}
        for path in wanted:
            content = self._content(path.split(b"/"))
            if content is not None and content.size <= limit:
                found[path] = self.read(content, limit)
        return found

    def _content(self, parts: list[bytes]) -> Content | None:
        inode = self.inode(self.root())
        for part in parts:
            if inode.kind != layout.DIRECTORY:
                return None
            here = [position for name, _, position in self.listing(inode) if name == part]
            if not here:
                return None
            inode = self.inode(here[0])
        return inode.content


def _remove_devices(root: Directory, path: str) -> None:
    todo: list[tuple[Directory, tuple[bytes, ...]]] = [(root, ())]
    while todo:
        directory, parts = todo.pop()
        for name, node in list(directory.children.items()):
            if isinstance(node, Directory):
                todo.append((node, (*parts, name)))
            elif tree.kind_of(node) in layout.DEVICES:
                if parts[:1] != (b"dev",):
                    raise policy.device_node(os.path.basename(path), b"/".join((*parts, name)))
                del directory.children[name]
