"""Random access into a tar archive that stays as it is: a table of its members, and streams of their bytes.

Nothing of an archive is ever written under a name that it gives. Members are found by name in the
table; links are followed within it and lead nowhere else. An archive that is compressed as a whole
can only be read forwards: a reader that has come past one member is kept for the next one behind it.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from pinnace.errors import ImageError
from pinnace.layers import tar
from pinnace.layers.decompression import decompressed
from pinnace.layers.stream import ByteStream, EndOfStream

#: Members of an archive of images, which has a few for each layer. Each costs some 300 bytes here.
MAX_MEMBERS = 100_000
#: Links that are followed to find a member.
_MAX_LINKS = 16
_CHUNK = 256 << 10
#: Readers of a compressed archive that are kept: each holds a decompressor and a piece of output.
_MAX_IDLE = 8
#: Bytes at the start of a file that tell whether it is compressed.
_MAGIC = 4
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", *(bytes((n, 0x2A, 0x4D, 0x18)) for n in range(0x50, 0x60)))


@dataclass(frozen=True)
class _Member:
    """A file at ``offset`` in the plain archive, or a link to the member called ``link``."""

    offset: int = 0
    size: int = 0
    link: bytes | None = None


class File:
    """A regular file that is open for reading at any place, by several threads at the same time."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = descriptor
        self.name = name
        self.size = os.fstat(descriptor).st_size
        head = os.pread(descriptor, _MAGIC, 0)
        self.compressed = head.startswith(_COMPRESSED)

    @classmethod
    def open(cls, path: str) -> File:
        """Raises ImageError if ``path`` is no regular file that can be read."""
        try:
            # O_NONBLOCK: a FIFO must not hang the caller.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            identifier = "no-such-file" if isinstance(error, FileNotFoundError) else "unreadable-file"
            raise ImageError(
                f"cannot read {path}: {error.strerror}", hint="check the path", identifier=identifier
            ) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ImageError(
                f"{path} is no regular file", hint="check the path", identifier="unreadable-file"
            )
        return cls(descriptor, path)

    def pieces(self, offset: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from ``offset`` to ``end``. Raises ImageError if they cannot be read."""
        end = self.size if end is None else end
        while offset < end:
            try:
                piece = os.pread(self.descriptor, min(_CHUNK, end - offset), offset)
            except OSError as error:
                raise ImageError(f"cannot read {self.name}: {error.strerror}") from None
            if not piece:
                raise ImageError(f"{self.name} became shorter while it was read", hint="try again")
            offset += len(piece)
            yield piece

    def plain(self) -> Iterator[bytes]:
        """The whole content, decompressed if need be."""
        if not self.compressed:
            return self.pieces()
        return _named(decompressed(self.pieces(), self.name), self.name)


class Archive:
    """The members of the tar archive ``file``, which may be compressed as a whole (gzip, zstd)."""

    def __init__(self, file: File) -> None:
        self.name = file.name
        self._file = file
        self._lock = threading.Lock()
        self._idle: list[_Forwards] = []
        self._members: dict[bytes, _Member] = {}
        stream = self._start()
        try:
            for entry in tar.entries(stream, self.name):
                self._note(entry, stream.position)
                stream.skip(entry.size + tar.padding(entry.size))
        except EndOfStream:
            raise ImageError(
                f"{self.name} is truncated", hint="copy or make it anew", identifier="damaged-archive"
            ) from None
        except ImageError as error:
            raise unreadable(self.name, error) from None

    def names(self) -> list[str]:
        """Every member's name, normalised."""
        return [os.fsdecode(name) for name in self._members]

    def __contains__(self, name: str) -> bool:
        return os.fsencode(name) in self._members

    def size(self, name: str) -> int:
        """Bytes of a member. Raises ImageError if there is none of this name."""
        return self._find(name).size

    def identity(self, name: str) -> int:
        """The same number for each name of one and the same content."""
        return self._find(name).offset

    def read(self, name: str, limit: int) -> bytes:
        """A whole member of at most ``limit`` bytes. Raises ImageError."""
        size = self.size(name)
        if size > limit:
            raise ImageError(f"{name} in {self.name} has {size} bytes, {limit} are the limit")
        return b"".join(self.pieces(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of a member. Raises ImageError if there is none of this name."""
        member = self._find(name)
        if self._file.compressed:
            return self._forwards(member)
        return self._file.pieces(member.offset, member.offset + member.size)

    def _start(self) -> _Seeking | _Forwards:
        return _Forwards(self._file.plain()) if self._file.compressed else _Seeking(self._file)

    def _note(self, entry: tar.Entry, offset: int) -> None:
        name = _normalised(entry.path)
        if name is None:
            raise _hostile(self.name, entry.path)
        if entry.kind == tar.FILE:
            member = _Member(offset, entry.size)
        elif entry.kind in (tar.LINK, tar.SYMLINK):
            base = b"" if entry.kind == tar.LINK else name.rpartition(b"/")[0]
            target = _normalised(base + b"/" + entry.link if base else entry.link)
            if target is None:
                raise _hostile(self.name, entry.path)
            member = _Member(link=target)
        else:
            return  # directories need not be there; nothing else is of use
        self._members[name] = member  # as in tar the last one counts
        if len(self._members) > MAX_MEMBERS:
            raise ImageError(
                f"{self.name} has more than {MAX_MEMBERS} members",
                hint="if it is a root file system, write tar: before it",
                identifier="not-an-archive",
            )

    def _find(self, name: str) -> _Member:
        try:
            key = _normalised(os.fsencode(name))
        except UnicodeEncodeError:  # JSON has strings that no bytes stand for
            key = None
        for _ in range(_MAX_LINKS):
            member = self._members.get(key) if key else None
            if member is None:
                break
            if member.link is None:
                return member
            key = member.link
        raise ImageError(
            f"{self.name} has no {name}",
            hint="the archive is incomplete: make it anew",
            identifier="missing-blob",
        )

    def _forwards(self, member: _Member) -> Iterator[bytes]:
        reader = self._reader(member.offset)
        try:
            reader.skip(member.offset - reader.position)
            yield from map(bytes, reader.pieces(member.size))
        except EndOfStream:
            raise ImageError(f"{self.name} became shorter while it was read", hint="try again") from None
        with self._lock:
            self._idle.append(reader)
            if len(self._idle) > _MAX_IDLE:
                self._idle.remove(min(self._idle, key=lambda idle: idle.position))

    def _reader(self, offset: int) -> _Forwards:
        """The idle reader that is nearest before ``offset``, or a new one."""
        with self._lock:
            usable = [reader for reader in self._idle if reader.position <= offset]
            if usable:
                best = max(usable, key=lambda reader: reader.position)
                self._idle.remove(best)
                return best
        return _Forwards(self._file.plain())


class _Forwards(ByteStream):
    """A stream that knows where it is."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._fed = 0
        super().__init__(self._counted(pieces))

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._fed += len(piece)
            yield piece

    @property
    def position(self) -> int:
        return self._fed - len(self._rest)


class _Seeking(ByteStream):
    """A file as a stream in which what is passed over is not read."""

    def __init__(self, file: File) -> None:
        super().__init__(iter(()))
        self._file = file
        self.position = 0

    def at_end(self) -> bool:
        return self.position >= self._file.size

    def pieces(self, count: int) -> Iterator[memoryview]:
        if count > self._file.size - self.position:
            raise EndOfStream
        start = self.position
        self.position += count
        for piece in self._file.pieces(start, start + count):
            yield memoryview(piece)

    def exactly(self, count: int) -> bytes:
        return b"".join(self.pieces(count))

    def skip(self, count: int) -> None:
        if count > self._file.size - self.position:
            raise EndOfStream
        self.position += count


def _normalised(name: bytes) -> bytes | None:
    """``name`` without ``.`` and ``..``; None if it leads out of the archive or is absolute."""
    parts: list[bytes] = []
    if name.startswith(b"/"):
        return None
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                return None
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def _hostile(archive: str, name: bytes) -> ImageError:
    return ImageError(
        f"{archive} has the member {tar.printable(name)}, which leads out of it",
        hint="make the archive anew, with relative names",
        identifier="malformed-archive",
    )


def unreadable(archive: str, error: ImageError) -> ImageError:
    """The tar reader's words, which speak of a layer, for an archive."""
    if error.identifier not in ("malformed-layer", "damaged-layer"):
        return error
    why = error.message.partition(": ")[2]
    return ImageError(
        f"{archive} is no tar archive that can be read: {why}",
        hint="copy or make it anew",
        identifier="damaged-archive",
    )


def _named(pieces: Iterator[bytes], archive: str) -> Iterator[bytes]:
    try:
        yield from pieces
    except ImageError as error:
        raise unreadable(archive, error) from None
