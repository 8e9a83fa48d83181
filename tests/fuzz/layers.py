"""Targets: layers' tar archives, their compression, and squashfs files put together."""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any

from fuzz import squash
from fuzz.guard import files
from pinnace import squashfs
from pinnace.errors import ImageError, PinnaceError
from pinnace.layers import Format, assemble, names, tar, tree, unpacking
from pinnace.layers.decompression import decompressed
from pinnace.layers.filter import Filter
from pinnace.layers.foreign import ForeignFile, adopt, fits
from pinnace.layers.squash import storage_error
from pinnace.layers.stream import ByteStream, EndOfStream
from pinnace.squashfs import format as layout
from pinnace.squashfs.reader import SquashFile
from pinnace.store import removal

#: Bytes that a compressed input may become before nobody looks any further.
_PLAIN = 32 << 20
_PIECE = 1 << 20


def pieces(data: bytes) -> Iterator[bytes]:
    """``data`` in pieces of any size, the same ones each time."""
    rng = Random(zlib.crc32(data))
    largest = rng.choice((1, 100, 513, 5000, 1 << 20))
    if largest == 1 and len(data) > 4096:
        largest = 64
    position = 0
    while position < len(data):
        length = rng.randint(0, largest)
        yield data[position : position + length]
        position += length


def layer(data: bytes) -> None:
    """A layer's archive: what is passed on must be what tar2sqfs can take and nothing else."""
    taken = _Taken()
    stream = ByteStream(pieces(data))
    layer_filter = Filter("layer")
    try:
        for entry in tar.entries(stream, "layer"):
            admitted = layer_filter.admit(entry)
            stream.skip(entry.size + tar.padding(entry.size))
            if admitted is not None:
                assert admitted.size in (0, entry.size)
                with _no_errors():
                    taken.add(admitted)
    except EndOfStream:
        raise ImageError("the archive ends within a body") from None
    index = layer_filter.index()
    taken.check_index(json.loads(index) if index else [])


class _Taken:
    """What tar2sqfs has been given."""

    def __init__(self) -> None:
        self.kinds: dict[bytes, bytes] = {b".": tar.DIRECTORY}
        self.given: set[bytes] = set()

    def add(self, entry: tar.Entry) -> None:
        path = entry.path
        assert path not in self.given, f"{path!r} is given twice"
        parts = path.split(b"/")
        if path != b".":
            assert not {b"", b".", b".."} & set(parts), path
        assert len(path) <= 4200 and max(map(len, parts)) <= 255 and b"\0" not in path
        for count in range(1, len(parts)):
            parent = self.kinds.setdefault(b"/".join(parts[:count]), tar.DIRECTORY)
            assert parent == tar.DIRECTORY, f"{path!r} lies below what is no directory"
        assert self.kinds.get(path) in (None, entry.kind), f"{path!r} was implied to be a directory"
        if entry.kind == tar.LINK:
            target = self.kinds[entry.link]  # seen before
            assert target not in (tar.DIRECTORY, tar.SYMLINK), entry.link
            self.kinds[path] = target
        else:
            assert entry.kind in (tar.FILE, tar.SYMLINK, tar.DIRECTORY, tar.FIFO)
            self.kinds[path] = entry.kind
        self.given.add(path)
        assert entry.group == 0 and entry.mode & ~(0o777 if entry.kind == tar.SYMLINK else 0o1777) == 0
        assert all(key.startswith(b"user.") and b"overlay" not in key[:12] for key in entry.xattrs)
        self._check_header(entry)

    def _check_header(self, entry: tar.Entry) -> None:
        stream = ByteStream(iter([tar.header(entry)]))
        read = next(tar.entries(stream, "written"))
        assert read.path == entry.path + b"/" * (entry.kind == tar.DIRECTORY)
        for attribute in ("kind", "mode", "size", "mtime", "link", "xattrs"):
            assert getattr(read, attribute) == getattr(entry, attribute), attribute

    def check_index(self, actions: list[Any]) -> None:
        for action in actions:
            path = os.fsencode(action[2 if action[0] == "put" else 1])
            assert path == b"." or not {b"", b".", b".."} & set(path.split(b"/")), path
            if action[0] == "put":
                assert names.SIDE + b"/" + action[1].encode() in self.given


def compression(data: bytes) -> None:
    """A compressed stream: pieces are bounded, and zlib's opinion is the same."""
    found = b""
    for piece in decompressed(pieces(data), "layer"):
        assert len(piece) <= max(_PIECE, len(data))
        found += piece
        if len(found) > _PLAIN:
            return
    if data.startswith(b"\x1f\x8b"):
        expected = _gunzipped(data)
        assert expected in (None, found)


def _gunzipped(data: bytes) -> bytes | None:
    found = b""
    while data := data.lstrip(b"\0"):
        member = zlib.decompressobj(wbits=31)
        try:
            found += member.decompress(data)
        except zlib.error:
            return None
        data = member.unused_data
    return found


def image(data: bytes) -> None:
    """Layer files put together: refused, or an image that can be read and is what was merged."""
    images = squash.split(data)
    with files(*images, b"") as (*paths, target):
        assemble(paths, target, Format())
        with _no_errors():
            squashfs.check(target)
            verify(paths, target)


def foreign(data: bytes) -> None:
    """Another program's file as a layer: refused, or the same tree as a layer may have it."""
    with files(squash.split(data)[0], b"") as (path, target):
        summary = squashfs.check(path)
        form = Format(summary.compressor, 1, summary.block_size)
        if not fits(path, form):
            raise ImageError("its compressor is not known")
        adopt(path, target)
        with _no_errors():
            squashfs.check(target)
            verify([path], target, ForeignFile)


def unpack(data: bytes) -> None:
    """A file as plain directories: refused, or a tree of what was announced, with nothing outside of it."""
    with files(squash.split(data)[0]) as (path,), _empty() as top, SquashFile(path) as file:
        found = unpacking.survey(file)
        if found.size > _PLAIN:
            raise ImageError("it is too large")  # as whoever unpacks it says
        target = os.path.join(top, "target")
        os.mkdir(target)
        try:
            unpacking.unpack(file, found, target, workers=1)
        except OSError as error:
            raise storage_error(target, error) from None
        names = [name for _, *lists in os.walk(os.fsencode(target)) for names in lists for name in names]
        assert os.listdir(top) == ["target"] and len(names) <= found.names - 1


@contextmanager
def _empty() -> Iterator[str]:
    """A directory in memory."""
    top = tempfile.mkdtemp(dir="/dev/shm")
    try:
        yield top
    finally:
        removal.remove(top)


@contextmanager
def _no_errors() -> Iterator[None]:
    """What was taken once may not be refused when it is looked at."""
    try:
        yield
    except PinnaceError as error:
        raise AssertionError(str(error)) from error


def verify(paths: list[str], target: str, kind: type[SquashFile] = SquashFile) -> None:
    """The image ``target`` holds the tree of the layers ``paths``, and the same stored bytes."""
    with ExitStack() as stack:
        layers = [stack.enter_context(kind(path)) for path in paths]
        made = stack.enter_context(SquashFile(target))
        found: dict[tree.Node, int] = {}
        names: Counter[int] = Counter()
        todo: list[tuple[tree.Node, int]] = [(tree.merge(layers).root, made.root())]
        while todo:
            node, position = todo.pop()
            if (
                isinstance(node, tree.Directory)
                or layers[node >> tree.LAYER].names(node & tree.POSITION, tree.kind_of(node)) > 1
            ):
                assert found.setdefault(node, position) == position, "a hard link is lost"
            if isinstance(node, int):
                names[position] += 1
                _same(layers[node >> tree.LAYER], node & tree.POSITION, made, position)
                continue
            directory = made.inode(position)
            assert directory.kind == layout.DIRECTORY
            if node.inode >= 0:
                _same(layers[node.inode >> tree.LAYER], node.inode & tree.POSITION, made, position)
            listed = {name: below for name, _, below in made.listing(directory)}
            children = {
                name: below
                for name, below in node.children.items()
                if kind is SquashFile or isinstance(below, tree.Directory) or not _is_device(below)
            }
            assert list(listed) == sorted(children)
            todo += [(below, listed[name]) for name, below in children.items()]
        for position, count in names.items():
            assert made.inode(position).names == count


def _is_device(node: int) -> bool:
    return tree.kind_of(node) in layout.DEVICES


def _same(source: SquashFile, position: int, made: SquashFile, other: int) -> None:
    found = made.inode(other)
    try:
        expected = source.inode(position)
    except ImageError:
        return  # its owner is none of the file's; that of a plain file is not looked at
    for attribute in ("kind", "mode", "mtime", "target", "rdev"):
        assert getattr(expected, attribute) == getattr(found, attribute), attribute
    assert found.group == 0
    xattrs = _xattrs(made, found.xattrs)
    assert _xattrs(source, expected.xattrs) == xattrs
    if isinstance(source, ForeignFile):
        assert found.mode & ~0o1777 == 0 and all(name.startswith(b"user.") for name in xattrs)
    one, two = expected.content, found.content
    if one is None or two is None:
        assert one is two
        return
    assert (one.size, one.sizes, one.sparse) == (two.size, two.sizes, two.sparse)
    assert _stored(source, one.start, layout.stored(one.sizes)) == _stored(
        made, two.start, layout.stored(two.sizes)
    )
    assert (one.fragment == layout.NONE) == (two.fragment == layout.NONE)
    if one.fragment != layout.NONE:
        assert one.fragment_offset == two.fragment_offset
        (start, size), (moved, same) = source.fragments[one.fragment], made.fragments[two.fragment]
        assert size == same
        length = size & (layout.STORED - 1)
        assert _stored(source, start, length) == _stored(made, moved, length)


def _xattrs(file: SquashFile, number: int) -> dict[bytes, bytes]:
    return {} if number == layout.NONE else file.xattrs(number)


def _stored(file: SquashFile, position: int, length: int) -> bytes:
    content = os.pread(file.fileno(), length, position) if length else b""
    assert len(content) == length
    return content
