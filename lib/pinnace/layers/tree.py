"""The trees of layers, and how they are merged bottom to top (OCI image specification, layers).

An image has millions of files, so that only directories are objects. What is no directory is the
number of its inode: the layer, the kind and the position in the layer's inode table in one. Two
names of one file are the same number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, Union

from pinnace.errors import ImageError
from pinnace.layers import names, tar
from pinnace.squashfs import format as layout
from pinnace.squashfs.reader import SquashFile

_MAX_SYMLINKS = 40
#: Bytes of a layer's index that are read: a path of 4 KiB for each of some ten thousand actions.
_MAX_INDEX = 64 << 20
#: Names in one layer, and directories that are made because links lead there: each costs memory.
_MAX_NAMES = 9_000_000
#: Parts of paths looked at to follow links: some minutes.
_MAX_STEPS = 1 << 28

#: Where the parts of an inode's number begin.
KIND, LAYER = 36, 40
POSITION = (1 << KIND) - 1

Parts = tuple[bytes, ...]


class Directory:
    """``inode`` is the number of the inode that gives the attributes, -1 if none does.

    An ``implicit`` one is listed by no entry of its layer: it gives its attributes to nothing.
    """

    __slots__ = ("children", "implicit", "inode")

    def __init__(self, inode: int = -1, *, implicit: bool = True) -> None:
        self.inode = inode
        self.implicit = implicit
        self.children: dict[bytes, Node] = {}


Node = Union[Directory, int]


def kind_of(inode: int) -> int:
    """The basic inode type of what is no directory."""
    return inode >> KIND & 0xF


class Image:
    """The tree at ``root``; ``linked`` are the files that may have several names."""

    def __init__(self) -> None:
        self.root = Directory()
        self.linked: set[int] = set()


class Action(NamedTuple):
    """What ``filter`` put aside: ``path`` becomes ``node``, or without one a link to the lower ``target``."""

    path: bytes
    target: bytes
    node: Node | None


class LayerTree:
    """What one layer file holds, ``linked`` as in ``Image``.

    ``removals`` are its whiteouts: the way to a directory, and the name that it loses, or None for
    all names.
    """

    def __init__(self) -> None:
        self.root = Directory()
        self.linked: set[int] = set()
        self.removals: list[tuple[Parts, bytes | None]] = []
        self.actions: list[Action] = []


class _Way:
    """A directory on the way to others; whiteouts are few, so that only they need a whole path."""

    __slots__ = ("above", "depth", "name")

    def __init__(self, above: _Way | None, name: bytes) -> None:
        self.above = above
        self.name = name
        self.depth: int = above.depth + 1 if above else 0

    def parts(self) -> Parts:
        found = []
        way = self
        while way.above is not None:
            found.append(way.name)
            way = way.above
        return tuple(reversed(found))


def read(layer: SquashFile, number: int) -> LayerTree:
    """The tree of a layer file. Raises ImageError."""
    found = LayerTree()
    base = number << LAYER
    plain = base | layout.FILE << KIND
    seen: set[int] = set()
    count = listed = 0
    todo = [(found.root, layer.root(), _Way(None, b""))]
    while todo:
        directory, position, way = todo.pop()
        inode = layer.inode(position)
        if inode.kind != layout.DIRECTORY:
            raise layer.damaged("a directory is none")
        if position in seen:
            raise layer.damaged("a directory has two names")
        seen.add(position)
        listed += inode.listing[2]
        if listed > layer.listings + 3 * len(seen):  # each counts three more than it has
            raise layer.damaged("two directories share a listing")
        if way.depth > names.MAX_PATH // 2:
            raise layer.damaged("its directories are too deep")
        directory.inode = base | position
        directory.implicit = inode.group == tar.IMPLICIT_GROUP
        children = directory.children
        for name, kind, position, type_ in chain.from_iterable(layer.parts(inode)):
            if kind == type_ == layout.FILE and name[:4] != names.WHITEOUT:
                children[name] = plain + position
            elif kind == layout.DIRECTORY:
                if name[:4] != names.WHITEOUT or (name == names.SIDE and way.above is None):
                    child = children[name] = Directory()
                    todo.append((child, position, _Way(way, name)))
            elif name[:4] == names.WHITEOUT:
                removed = names.whiteout_of(name, f"in {layer.path}")
                if name == names.OPAQUE or removed is not None:
                    found.removals.append((way.parts(), removed))
            else:
                children[name] = file = base | kind << KIND | position
                if layer.names(position, kind) > 1:
                    found.linked.add(file)
        count += len(children)
        if count > _MAX_NAMES:
            raise layer.damaged("it has too many files")
    side = found.root.children.pop(names.SIDE, None)
    if isinstance(side, Directory):
        found.actions = _actions(layer, side)
    return found


def _actions(layer: SquashFile, side: Directory) -> list[Action]:
    index = side.children.get(names.INDEX)
    content = layer.inode(index & POSITION).content if isinstance(index, int) else None
    if content is None:
        return []
    actions = []
    try:
        for verb, first, second in json.loads(layer.read(content, _MAX_INDEX)):
            if verb == "link":
                target = b"/".join(names.split_target(names.from_text(second), layer.path))
                actions.append(Action(_path(first, layer), target, None))
            else:
                # Each can be put in one place only: a directory in itself would have no end.
                node = side.children.pop(names.from_text(first))
                actions.append(Action(_path(second, layer), b"", node))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise layer.damaged(f"its index is wrong: {error}") from None
    return actions


def _path(text: str, layer: SquashFile) -> bytes:
    return b"/".join(names.split(names.from_text(text), layer.path)) or b"."


def merge(layers: Sequence[SquashFile]) -> Image:
    """The tree of the image that ``layers`` make, the bottom first. Raises ImageError."""
    merging = _Merging(layers)
    for number, layer in enumerate(layers):
        merging.add(read(layer, number), number)
    return merging.image


class _Merging:
    """An image while layers are laid on it."""

    def __init__(self, layers: Sequence[SquashFile]) -> None:
        self.image = Image()
        self._layers = layers
        self._steps = self._made = 0

    def add(self, layer: LayerTree, number: int) -> None:
        """Lay ``layer`` on top; its tree is used up."""
        # Before anything of the layer: its links lead to what lower layers have, and its whiteouts
        # remove nothing else.
        targets = [self._target(action.target) if action.node is None else None for action in layer.actions]
        for parts, name in layer.removals:
            self._remove(layer.root, parts, name)
        self.image.linked |= layer.linked
        self._merge_directory(layer.root)
        for action, target in zip(layer.actions, targets):
            if action.node is not None:
                self._put(action.path, action.node, number)
                continue
            # Or to what the layer itself has, which it put there by a lower layer's symbolic link.
            target = self._target(action.target) if target is None else target
            if target is None:
                raise _dangling(action)
            self.image.linked.add(target)
            self._put(action.path, target, number)

    def _merge_directory(self, layer_root: Directory) -> None:
        # A stack of our own: paths may be deeper than Python's.
        todo: list[tuple[Directory, Directory, Parts]] = [(self.image.root, layer_root, ())]
        # What goes where a lower layer's symbolic link leads waits for what the layer has there itself.
        followed: list[tuple[Directory, Parts]] = []
        while todo or followed:
            if not todo:
                upper, path = followed.pop()
                todo.append((self._follow(path) or self._replaced(path), upper, path))
            lower, upper, path = todo.pop()
            if not upper.implicit:
                lower.inode, lower.implicit = upper.inode, False
            here = lower.children
            if not here:
                lower.children = upper.children
                continue
            for name, node in upper.children.items():
                if isinstance(node, int):
                    here[name] = node
                    continue
                existing = here.get(name)
                if isinstance(existing, Directory):
                    todo.append((existing, node, (*path, name)))
                elif existing is not None and node.implicit and kind_of(existing) == layout.SYMLINK:
                    # Tar follows: /lib/x goes into /usr/lib where an older layer made /lib a link to it.
                    followed.append((node, (*path, name)))
                else:
                    here[name] = node

    def _replaced(self, path: Parts) -> Directory:
        """A new directory in place of the symbolic link at ``path``, which leads to no directory."""
        parent = self._follow(path[:-1])
        made = Directory()
        if parent is not None:
            parent.children[path[-1]] = made
        return made

    def _remove(self, upper: Directory, parts: Parts, name: bytes | None) -> None:
        """Carry out a whiteout in the directory at ``parts`` of the layer whose root is ``upper``."""
        lower: Directory | None = self.image.root
        for count, part in enumerate(parts, 1):
            above, node = upper.children.get(part), lower.children.get(part) if lower else None
            if not isinstance(above, Directory):
                return
            upper, lower = above, node if isinstance(node, Directory) else None
            if isinstance(node, int) and upper.implicit and kind_of(node) == layout.SYMLINK:
                lower = self._follow(parts[:count], make=False)
        if lower is not None and name is None:
            lower.children.clear()
        elif lower is not None and name is not None:
            lower.children.pop(name, None)

    def _put(self, path: bytes, node: Node, number: int) -> None:
        parts = tuple(path.split(b"/"))
        if parts == (b".",):
            self._take_attributes(self.image.root, node)
            return
        parent = self._follow(parts[:-1])
        if parent is None:
            raise ImageError(f"layer {number + 1} puts {tar.printable(path)} below what is no directory")
        existing = parent.children.get(parts[-1])
        if isinstance(existing, Directory) and isinstance(node, Directory):
            self._take_attributes(existing, node)
        else:
            parent.children[parts[-1]] = node

    def _take_attributes(self, directory: Directory, node: Node) -> None:
        if isinstance(node, Directory):
            directory.inode, directory.implicit = node.inode, False

    def _follow(self, parts: Parts, *, make: bool = True) -> Directory | None:
        """The directory at ``parts`` with symbolic links followed within the image, made if it is missing.

        None if something else is in the way, or if it is missing and ``make`` is false.
        """
        trail = [self.image.root]
        todo = list(reversed(parts))
        followed = 0
        while todo:
            part = todo.pop()
            self._steps += 1
            if self._steps > _MAX_STEPS or self._made > _MAX_NAMES:
                raise ImageError(
                    "the image's symbolic links lead too far",
                    hint="build it anew",
                    identifier="malformed-layer",
                )
            if part == b"..":
                del trail[max(1, len(trail) - 1) :]
                continue
            children = trail[-1].children
            node = children.get(part)
            if node is None and make and len(part) <= names.MAX_PART and b"\0" not in part:
                self._made += 1
                node = children[part] = Directory()
            if isinstance(node, Directory):
                trail.append(node)
            elif node is not None and kind_of(node) == layout.SYMLINK:
                followed += 1
                if followed > _MAX_SYMLINKS:
                    return None
                target = self._layers[node >> LAYER].inode(node & POSITION).target
                if target.startswith(b"/"):
                    del trail[1:]
                todo += [step for step in reversed(target.split(b"/")) if step not in (b"", b".")]
            else:
                return None
        return trail[-1]

    def _target(self, path: bytes) -> int | None:
        """What the image has now as the target of a hard link."""
        parts = tuple(path.split(b"/"))
        parent = self._follow(parts[:-1], make=False)
        node = parent.children.get(parts[-1]) if parent else None
        return node if isinstance(node, int) else None


def _dangling(link: Action) -> ImageError:
    path, target = tar.printable(link.path), tar.printable(link.target)
    return ImageError(
        f"{path} is a hard link to {target}, which is not in the image",
        hint="build the image anew",
        identifier="malformed-layer",
    )
