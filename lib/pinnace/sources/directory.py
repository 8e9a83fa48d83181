"""A directory as a tar stream that depends on nothing but its contents.

Names are in the order of their bytes, owners are left out, times are whole seconds, a file of several
names is a hard link behind its first one: the same tree gives the same bytes anywhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from pinnace.errors import ImageError
from pinnace.layers import tar
from pinnace.layers.tar import Entry, printable

_KINDS = {
    stat.S_IFREG: tar.FILE,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFIFO: tar.FIFO,
    stat.S_IFCHR: tar.CHARACTER,
    stat.S_IFBLK: tar.DEVICE,
}
_XATTRS = "user."
_MAX_MTIME = (1 << 32) - 2
_CHUNK = 256 << 10


def pieces(root: str, note: Callable[[str], None]) -> Iterator[bytes]:
    """The tree below ``root`` as a tar archive; its file system is not left.

    ``note`` is told what is left out. Raises ImageError naming what cannot be read.
    """
    return _Walk(root, note).pieces()


class _Walk:
    def __init__(self, root: str, note: Callable[[str], None]) -> None:
        self._root = os.fsencode(os.path.abspath(root))
        self._note = note
        self._first: dict[tuple[int, int], bytes] = {}

    def pieces(self) -> Iterator[bytes]:
        try:
            status = os.stat(self._root)
        except OSError as error:
            raise _unreadable(self._root, error) from None
        yield tar.header(self._entry(b".", self._root, status))
        #: Directories whose names are still to be gone through.
        below = [self._names(b"")]
        while below:
            name = next(below[-1], None)
            if name is None:
                below.pop()
                continue
            path = os.path.join(self._root, name)
            try:
                found = os.lstat(path)
            except OSError as error:
                raise _unreadable(path, error) from None
            if stat.S_ISSOCK(found.st_mode):
                self._note(f"{printable(path)} is a socket, it is left out")
                continue
            yield from self._file(name, path, found)
            if stat.S_ISDIR(found.st_mode):
                if found.st_dev != status.st_dev:
                    self._note(f"{printable(path)} is on another file system, its contents are left out")
                else:
                    below.append(self._names(name))
        yield tar.END

    def _names(self, directory: bytes) -> Iterator[bytes]:
        path = os.path.join(self._root, directory)
        try:
            names = sorted(os.listdir(path))
        except OSError as error:
            raise _unreadable(path, error) from None
        return iter([os.path.join(directory, name) for name in names])

    def _entry(self, name: bytes, path: bytes, status: os.stat_result) -> Entry:
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), b"?")
        entry = Entry(
            name,
            kind,
            mode=stat.S_IMODE(status.st_mode),
            size=status.st_size if kind == tar.FILE else 0,
            mtime=min(max(int(status.st_mtime), 0), _MAX_MTIME),
        )
        if kind == tar.SYMLINK:
            return entry._replace(link=os.readlink(path))
        return entry._replace(xattrs=_attributes(path)) if kind in (tar.FILE, tar.DIRECTORY) else entry

    def _file(self, name: bytes, path: bytes, status: os.stat_result) -> Iterator[bytes]:
        if stat.S_ISREG(status.st_mode):
            if status.st_nlink > 1:
                first = self._first.setdefault((status.st_dev, status.st_ino), name)
                if first != name:
                    yield tar.header(Entry(name, tar.LINK, mode=stat.S_IMODE(status.st_mode), link=first))
                    return
            yield from self._regular(name, path)
            return
        try:
            entry = self._entry(name, path, status)
        except OSError as error:
            raise _unreadable(path, error) from None
        yield tar.header(entry)

    def _regular(self, name: bytes, path: bytes) -> Iterator[bytes]:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _unreadable(path, error) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _changed(path)
            yield tar.header(self._entry(name, path, status))
            left = status.st_size
            while left:
                piece = os.read(descriptor, min(_CHUNK, left))
                if not piece:
                    raise _changed(path)
                left -= len(piece)
                yield piece
            yield bytes(tar.padding(status.st_size))
        except OSError as error:
            raise _unreadable(path, error) from None
        finally:
            os.close(descriptor)


def _attributes(path: bytes) -> dict[bytes, bytes]:
    """What layers keep of extended attributes."""
    try:
        names = [name for name in os.listxattr(path, follow_symlinks=False) if name.startswith(_XATTRS)]
        return {os.fsencode(name): os.getxattr(path, name, follow_symlinks=False) for name in sorted(names)}
    except OSError:
        return {}  # a file system without them


def _unreadable(path: bytes, error: OSError) -> ImageError:
    return ImageError(
        f"cannot read {printable(path)}: {error.strerror}",
        hint="change its mode, or remove it: an image without it would not be the same",
        identifier="unreadable-file",
    )


def _changed(path: bytes) -> ImageError:
    return ImageError(
        f"{printable(path)} changed while it was read",
        hint="try again when nothing writes there",
        identifier="source-changed",
    )
