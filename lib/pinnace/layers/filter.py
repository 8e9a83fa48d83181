"""One pass over a layer's entries: what is hostile is refused, the rest made fit for tar2sqfs.

tar2sqfs wants each name once, and links only to what it has seen. Tar has no such rules: the
last entry of a name wins, an entry may lie below a symbolic link, a hard link may lead into a
lower layer. Names below symbolic links of the same layer are resolved here. What cannot be
put in its place is put aside: its content as ``/.wh..wh.pinnace/N``, and what to do with it,
in order, in ``/.wh..wh.pinnace/index``, which is carried out when layers are merged:

    ["put", "N", PATH]       PATH becomes what N is
    ["link", PATH, TARGET]   PATH becomes a hard link to what lower layers have as TARGET
"""

from __future__ import annotations

import json

from pinnace.errors import ImageError
from pinnace.layers import names, policy, tar
from pinnace.layers.tar import Entry, printable

#: Entries in a layer, directories that only their content implies included: each costs memory here
#: (some 300 bytes and its path), on disk and at every start.
MAX_ENTRIES = 8_000_000
#: Bytes of all names and link targets in a layer, and of all extended attributes: memory holds them.
_MAX_NAMES = 1 << 30
_MAX_XATTRS = 64 << 20
#: Bytes of one file's extended attributes (Linux's XATTR_LIST_MAX and XATTR_SIZE_MAX).
_MAX_OWN_XATTRS = 64 << 10
#: Names looked at for directories that become something else within the layer, and parts of paths for
#: links on the way: some minutes.
_MAX_LOOKS = 1 << 30
_MAX_SYMLINKS = 40

Parts = tuple[bytes, ...]


class Filter:
    """The state of the pass over the layer called ``layer`` in messages."""

    def __init__(self, layer: str) -> None:
        self._layer = layer
        #: What each path is after the entries so far: its type flag.
        self._kinds: dict[bytes, bytes] = {}
        self._symlinks: dict[bytes, bytes] = {}
        #: Paths that tar2sqfs has from an entry of their own.
        self._placed: set[bytes] = set()
        #: Where the content of a path lies, if not in its place.
        self._aside: dict[bytes, bytes] = {}
        #: Hard links to lower layers, by path: the target there.
        self._lower: dict[bytes, bytes] = {}
        #: Paths whose place in the squashfs holds something that a later entry replaced.
        self._replaced: set[bytes] = set()
        self._dropped: set[bytes] = set()
        self._actions: list[list[str]] = []
        self._count = self._name_bytes = self._xattr_bytes = self._looks = 0
        #: The last answer of _resolve: entries of one directory come one after the other.
        self._resolved: tuple[Parts, Parts] = ((), ())

    def admit(self, entry: Entry) -> Entry | None:
        """What to give tar2sqfs for ``entry``; None to leave it out with its body. Raises ImageError."""
        self._count_name(entry.path + entry.link)
        parts = names.split(entry.path, self._layer)
        if not parts:
            if entry.kind != tar.DIRECTORY:
                raise self._malformed("its root is not a directory")
            return self._place(self._limited(_plain(entry, b".")), b".")
        parents = self._resolve(parts[:-1], entry.path)
        path = b"/".join((*parents, parts[-1]))
        if names.WHITEOUT in path or names.WHITEOUT in entry.path:
            if names.reserved(parts[:-1]):
                raise self._malformed(f"{printable(entry.path)} lies below a reserved name")
            if names.reserved(parents):
                raise self._malformed(f"{printable(entry.path)} lies below a link to a reserved name")
            if parts[-1].startswith(names.WHITEOUT):
                return self._marker(parents, parts[-1], path)
        if entry.kind in (tar.CHARACTER, tar.DEVICE):
            if parents[:1] != (b"dev",):
                raise policy.device_node(self._layer, path)
            self._dropped.add(path)
            return None
        if entry.kind == tar.LINK:
            return self._link(entry, path)
        if entry.kind == tar.SYMLINK:
            names.check_symlink(entry.link, path, self._layer)
        return self._place(self._limited(_plain(entry, path)), path)

    def _count_name(self, name: bytes) -> None:
        self._count += 1
        self._name_bytes += len(name)
        if self._count > MAX_ENTRIES:
            raise self._malformed(f"it has more than {MAX_ENTRIES} entries")
        if self._name_bytes > _MAX_NAMES:
            raise self._malformed(f"its names are longer than {_MAX_NAMES} bytes together")

    def _limited(self, entry: Entry) -> Entry:
        if entry.xattrs:
            own = sum(len(key) + len(value) for key, value in entry.xattrs.items())
            self._xattr_bytes += own
            if own > _MAX_OWN_XATTRS or self._xattr_bytes > _MAX_XATTRS:
                raise self._malformed(f"{printable(entry.path)} has too many extended attributes")
        return entry

    def index(self) -> bytes | None:
        """The content of the index, at the end; None if nothing was put aside."""
        return json.dumps(self._actions).encode() if self._actions else None

    def _resolve(self, parts: Parts, path: bytes) -> Parts:
        """``parts`` with this layer's symbolic links followed, within the image's root."""
        if parts == self._resolved[0]:
            return self._resolved[1]
        if self._kinds.get(b"/".join(parts)) == tar.DIRECTORY:
            return parts  # then no link is on the way
        done: list[bytes] = []
        todo = list(reversed(parts))
        followed = 0
        while todo:
            part = todo.pop()
            self._look(len(done) + 1)
            if part == b"..":
                del done[-1:]
                continue
            done.append(part)
            here = b"/".join(done)
            if len(here) > names.MAX_PATH or len(part) > names.MAX_PART:
                raise self._malformed(f"{printable(path)} leads to a path that is too long")
            kind = self._kinds.get(here)
            if kind == tar.SYMLINK:
                followed += 1
                if followed > _MAX_SYMLINKS:
                    raise self._malformed(f"{printable(path)} lies below too many symbolic links")
                target = self._symlinks[here]
                done = [] if target.startswith(b"/") else done[:-1]
                todo += [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]
            elif kind is not None and kind != tar.DIRECTORY:
                raise self._malformed(
                    f"{printable(path)} lies below {printable(here)}, which is no directory"
                )
        self._resolved = (parts, tuple(done))
        return self._resolved[1]

    def _marker(self, parents: Parts, name: bytes, path: bytes) -> Entry | None:
        """A whiteout: kept as an empty file, once; below what this layer made anew it has no effect."""
        useless = name != names.OPAQUE and names.whiteout_of(name, self._layer) is None
        if useless or path in self._placed or self._below_replaced(parents):
            return None
        self._placed.add(path)
        self._note_parents(path)  # tar2sqfs makes them
        return Entry(path, tar.FILE)

    def _link(self, entry: Entry, path: bytes) -> Entry | None:
        parts = names.split_target(entry.link, self._layer)
        target = b"/".join((*self._resolve(parts[:-1], entry.link), parts[-1]))
        if target in self._dropped:
            self._dropped.add(path)
            return None
        kind = self._kinds.get(target)
        if kind == tar.DIRECTORY:
            raise self._malformed(f"{printable(path)} is a hard link to a directory")
        if target == path:
            return None
        if kind is None or target in self._lower:
            lower = self._lower.get(target, target)
            self._set_aside("link", path, names.to_text(path), names.to_text(lower))
            self._note_parents(path)
            self._kinds[path] = tar.LINK
            self._lower[path] = lower
            return None
        if kind == tar.SYMLINK:
            # tar2sqfs cannot link symbolic links; a second one is as good.
            return self._place(Entry(path, kind, 0o777, link=self._symlinks[target]), path)
        placed = self._place(Entry(path, tar.LINK, link=self._aside.get(target, target)), path)
        self._kinds[path] = kind
        return placed

    def _place(self, entry: Entry, path: bytes) -> Entry:
        """Put ``entry`` in its place, or aside if that is taken."""
        before = self._kinds.get(path)
        directories = entry.kind == tar.DIRECTORY and before in (None, tar.DIRECTORY)
        taken = path in self._placed or (before is not None and not directories)
        if taken or self._below_replaced(tuple(path.split(b"/")[:-1])):
            number = str(len(self._actions))
            aside = names.SIDE + b"/" + number.encode()
            self._set_aside("put", path, number, names.to_text(path), keep=directories)
            self._aside[path] = aside
            entry = entry._replace(path=aside)
        else:
            self._placed.add(path)
        self._note_parents(path)
        self._kinds[path] = entry.kind
        if entry.kind == tar.SYMLINK:
            self._symlinks[path] = entry.link
            self._resolved = ((), ())
        return entry

    def _set_aside(self, verb: str, path: bytes, *arguments: str, keep: bool = False) -> None:
        self._actions.append([verb, *arguments])
        self._resolved = ((), ())
        if keep:
            return
        self._replaced.add(path)
        below = path + b"/"
        if self._kinds.get(path) == tar.DIRECTORY:
            self._look(len(self._kinds))
            for gone in [other for other in self._kinds if other.startswith(below)]:
                self._forget(gone)
        self._forget(path)

    def _forget(self, path: bytes) -> None:
        self._kinds.pop(path, None)
        self._symlinks.pop(path, None)
        self._aside.pop(path, None)
        self._lower.pop(path, None)

    def _look(self, count: int) -> None:
        self._looks += count
        if self._looks > _MAX_LOOKS:
            raise self._malformed("its names take too long to be resolved")

    def _note_parents(self, path: bytes) -> None:
        """Directories that exist because something lies in them."""
        while b"/" in path:
            path = path.rpartition(b"/")[0]
            if path in self._kinds:
                return
            self._count_name(path)
            self._kinds[path] = tar.DIRECTORY

    def _below_replaced(self, parents: Parts) -> bool:
        if not self._replaced:
            return False
        self._look(len(parents) * len(parents) // 2)
        return any(b"/".join(parents[:count]) in self._replaced for count in range(1, len(parents) + 1))

    def _malformed(self, why: str) -> ImageError:
        return tar.malformed(self._layer, why)


def _plain(entry: Entry, path: bytes) -> Entry:
    """``entry`` as a layer file keeps it."""
    mode, link = (0o777, entry.link) if entry.kind == tar.SYMLINK else (entry.mode & policy.KEPT_MODE, b"")
    xattrs = entry.xattrs
    if xattrs:
        kept = entry.kind in (tar.FILE, tar.DIRECTORY)
        xattrs = {key: value for key, value in xattrs.items() if kept and policy.keeps_xattr(key)}
    return Entry(path, entry.kind, mode, entry.size, entry.mtime, link, 0, xattrs)
