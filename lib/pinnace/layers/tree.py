"""The trees of layers, and how they are merged bottom to top (OCI image specification, layers)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator

from pinnace.errors import ImageError
from pinnace.layers import names, tar
from pinnace.layers.tar import Entry
from pinnace.squashfs import format as layout
from pinnace.squashfs.format import Content
from pinnace.squashfs.reader import Inode, SquashFile

_MAX_SYMLINKS = 40
#: Bytes of a layer's index that are read: a path of 4 KiB for each of some ten thousand actions.
_MAX_INDEX = 64 << 20

_SOCKET = b"s"

#: The basic inode type of each kind of entry, and the other way round. There are no sockets in tar.
INODE_KINDS = {
    tar.DIRECTORY: layout.DIRECTORY,
    tar.FILE: layout.FILE,
    tar.SYMLINK: layout.SYMLINK,
    tar.DEVICE: layout.BLOCK_DEVICE,
    tar.CHARACTER: layout.CHARACTER_DEVICE,
    tar.FIFO: layout.FIFO,
    _SOCKET: layout.SOCKET,
}
_KINDS = {kind: letter for letter, kind in INODE_KINDS.items()}


class Node:
    """A file of any kind. One that has several names is in the tree several times.

    ``entry`` holds its attributes but no path; ``layer`` is the number of the layer that it
    comes from. ``children`` is empty for all but directories.
    """

    __slots__ = ("children", "content", "entry", "implicit", "layer", "rdev")

    def __init__(self, entry: Entry, layer: int, *, implicit: bool = False) -> None:
        self.entry = entry
        self.layer = layer
        #: Where a regular file's bytes lie in the layer's file.
        self.content: Content | None = None
        self.rdev = 0
        #: A directory that no entry lists: it gives its attributes to nothing.
        self.implicit = implicit
        self.children: dict[bytes, Node] = {}

    @property
    def is_directory(self) -> bool:
        return self.entry.kind == tar.DIRECTORY


class LayerTree:
    """What one layer file holds. ``actions`` as in ``filter``, ``aside`` what they refer to."""

    def __init__(self, root: Node, aside: dict[bytes, Node], actions: list[list[str]]) -> None:
        self.root = root
        self.aside = aside
        self.actions = actions


def read(layer: SquashFile, number: int) -> LayerTree:
    """The tree of a layer file. Raises ImageError."""
    root_inode = layer.root()
    root = _node(root_inode, number)
    nodes: dict[int, Node] = {}
    todo = [(root, root_inode)]
    while todo:
        directory, inode = todo.pop()
        for name, child in layer.children(inode):
            node = nodes.get(id(child))
            if node is None:
                node = nodes[id(child)] = _node(child, number)
                if node.is_directory:
                    todo.append((node, child))
            elif node.is_directory:
                raise layer.damaged("a directory has two names")
            directory.children[name] = node
    side = root.children.pop(names.SIDE, None)
    return LayerTree(root, side.children if side else {}, _actions(layer, side))


def _actions(layer: SquashFile, side: Node | None) -> list[list[str]]:
    index = side.children.get(names.INDEX) if side else None
    if index is None or index.content is None:
        return []
    actions: list[list[str]] = json.loads(layer.read(index.content, _MAX_INDEX))
    return actions


def _node(inode: Inode, layer: int) -> Node:
    kind = _KINDS[inode.kind]
    size = inode.content.size if inode.content else 0
    entry = Entry(b"", kind, inode.mode, size, inode.mtime, inode.target, inode.group, inode.xattrs)
    node = Node(entry, layer, implicit=kind == tar.DIRECTORY and inode.group == tar.IMPLICIT_GROUP)
    node.content, node.rdev = inode.content, inode.rdev
    return node


def merge(layers: Iterable[LayerTree]) -> Node:
    """The image's root. The trees are used up."""
    root = _implicit(0)
    for number, layer in enumerate(layers):
        # Before anything of the layer: its links lead to what lower layers have.
        links = {
            position: _lower(root, os.fsencode(action[2]), os.fsencode(action[1]))
            for position, action in enumerate(layer.actions)
            if action[0] == "link"
        }
        _merge_directory(root, layer.root, number)
        for position, action in enumerate(layer.actions):
            if action[0] == "link":
                _put(root, os.fsencode(action[1]), links[position], number)
            else:
                _put(root, os.fsencode(action[2]), layer.aside[os.fsencode(action[1])], number)
    return root


def walk(root: Node) -> Iterator[tuple[bytes, Node]]:
    """Every path below ``root`` with its node, sorted, directories before what is in them."""
    todo = [(b"", root)]
    while todo:
        path, node = todo.pop()
        if path:
            yield path, node
        prefix = path + b"/" if path else b""
        todo += [(prefix + name, node.children[name]) for name in sorted(node.children, reverse=True)]


def _merge_directory(image: Node, layer_root: Node, number: int) -> None:
    # A stack of our own: paths may be deeper than Python's.
    todo: list[tuple[Node, Node, tuple[bytes, ...]]] = [(image, layer_root, ())]
    while todo:
        lower, upper, path = todo.pop()
        if not upper.implicit:
            lower.entry, lower.implicit = upper.entry, False
        if names.OPAQUE in upper.children:
            lower.children.clear()
        for name in upper.children:
            removed = names.whiteout_of(name, "")
            if removed is not None:
                lower.children.pop(removed, None)
        for name, node in upper.children.items():
            if name.startswith(names.WHITEOUT):
                continue
            if not node.is_directory:
                lower.children[name] = node
                continue
            below = _directory_at(image, lower, name, (*path, name), node, number)
            todo.append((below, node, (*path, name)))


def _directory_at(
    image: Node, parent: Node, name: bytes, path: tuple[bytes, ...], node: Node, number: int
) -> Node:
    """The image's directory that a layer's directory ``node`` at ``path`` goes into, made if need be."""
    existing = parent.children.get(name)
    if existing is not None and existing.is_directory:
        return existing
    if existing is not None and existing.entry.kind == tar.SYMLINK and node.implicit:
        # Tar follows: /lib/x goes into /usr/lib where an older layer made /lib a link to it.
        target = _follow(image, path, number)
        if target is not None:
            return target
    made = Node(node.entry, number, implicit=node.implicit)
    parent.children[name] = made
    return made


def _put(image: Node, path: bytes, node: Node, number: int) -> None:
    parts = tuple(path.split(b"/"))
    if parts == (b".",):
        image.entry, image.implicit = node.entry, False
        return
    parent = _follow(image, parts[:-1], number)
    if parent is None:
        raise ImageError(f"layer {number + 1} puts {tar.printable(path)} below what is no directory")
    existing = parent.children.get(parts[-1])
    if existing is not None and existing.is_directory and node.is_directory:
        existing.entry, existing.implicit = node.entry, False
    else:
        parent.children[parts[-1]] = node


def _follow(image: Node, parts: tuple[bytes, ...], number: int) -> Node | None:
    """The directory at ``parts`` with symbolic links followed within the image, made if it is missing.

    None if something else is in the way.
    """
    trail: list[tuple[bytes, Node]] = []
    todo = list(reversed(parts))
    followed = 0
    while todo:
        part = todo.pop()
        if part == b"..":
            del trail[-1:]
            continue
        here = trail[-1][1] if trail else image
        node = here.children.get(part)
        if node is None:
            node = here.children[part] = _implicit(number)
        if node.entry.kind == tar.SYMLINK:
            followed += 1
            if followed > _MAX_SYMLINKS:
                return None
            target = node.entry.link
            if target.startswith(b"/"):
                trail.clear()
            todo += [step for step in reversed(target.split(b"/")) if step not in (b"", b".")]
        elif node.is_directory:
            trail.append((part, node))
        else:
            return None
    return trail[-1][1] if trail else image


def _lower(image: Node, target: bytes, path: bytes) -> Node:
    """What lower layers have as the target of a hard link."""
    parts = tuple(target.split(b"/"))
    parent = _follow(image, parts[:-1], 0)
    node = parent.children.get(parts[-1]) if parent else None
    if node is None or node.is_directory:
        raise ImageError(
            f"{tar.printable(path)} is a hard link to {tar.printable(target)}, which is not in the image",
            hint="build the image anew",
            identifier="malformed-layer",
        )
    return node


def _implicit(layer: int) -> Node:
    return Node(Entry(b"", tar.DIRECTORY, 0o755), layer, implicit=True)
