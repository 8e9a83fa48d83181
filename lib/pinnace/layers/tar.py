"""Tar headers, read and written: POSIX ustar and PAX, GNU long names, nothing more.

Bodies are left to the caller: this keeps Python off the path of the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from zlib import adler32

from pinnace.errors import ImageError
from pinnace.layers.stream import ByteStream, EndOfStream

BLOCK = 512
#: Group of directories that a layer does not list itself. Everything listed belongs to group 0.
IMPLICIT_GROUP = 1
END = bytes(2 * BLOCK)

#: Bytes of PAX records and long names that one entry may have, and of those for all that follow;
#: Go's tar reader has the same limit.
_MAX_EXTENSION = 1 << 20
_XATTR = b"SCHILY.xattr."
_SPARSE = b"GNU.sparse."
#: Other records that are used. The rest is not kept: those of a global header count for every entry.
_USED = frozenset((b"path", b"linkpath", b"size", b"mtime"))
_MAX_MTIME = (1 << 32) - 2

FILE, LINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_FILES = frozenset((b"0", b"\0", b"7"))
_WITHOUT_BODY = frozenset((LINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO))


_NONE: dict[bytes, bytes] = {}


class Entry(NamedTuple):
    """One file of an archive. Names are bytes: nothing says that they are UTF-8.

    ``kind`` is the POSIX type flag, ``mode`` the permission bits, ``size`` the bytes of the body,
    ``mtime`` in seconds since 1970 within what squashfs can say, ``link`` a link's target.
    """

    path: bytes
    kind: bytes
    mode: int = 0
    size: int = 0
    mtime: int = 0
    link: bytes = b""
    group: int = 0
    xattrs: dict[bytes, bytes] = _NONE


def padding(size: int) -> int:
    """Bytes between the end of a body of ``size`` bytes and the next header."""
    return -size % BLOCK


def entries(stream: ByteStream, name: str) -> Iterator[Entry]:
    """The entries of the archive in ``stream``, up to its end mark.

    Whoever iterates reads the body (``size`` bytes and ``padding(size)``) before going on.
    Raises ImageError naming ``name`` if the archive is malformed.
    """
    try:
        yield from _entries(stream)
    except EndOfStream:
        raise malformed(name, "it ends within an entry") from None
    except _Malformed as error:
        raise malformed(name, str(error)) from None


class _Malformed(Exception):
    pass


def malformed(name: str, why: str) -> ImageError:
    """The error for a layer that is no good tar archive."""
    return ImageError(
        f"layer {name} is malformed: {why}", hint="build the image anew", identifier="malformed-layer"
    )


def _entries(stream: ByteStream) -> Iterator[Entry]:
    defaults: dict[bytes, bytes] = {}
    records: dict[bytes, bytes] = {}
    shared = own = 0  # bytes that made them
    while not stream.at_end():
        block = stream.exactly(BLOCK)
        if block.count(0) == BLOCK:
            return
        _check_sum(block)
        kind, size = block[156:157], _number(block[124:136])
        if kind in (b"x", b"g", b"L", b"K"):
            shared, own = (shared + size, own) if kind == b"g" else (shared, own + size)
            body = _extension(stream, size, max(shared, own))
            if kind == b"x":
                records.update(_pax(body))
            elif kind == b"g":
                defaults.update(_pax(body))
            else:
                records[b"path" if kind == b"L" else b"linkpath"] = body.partition(b"\0")[0]
            continue
        if kind == b"V":  # GNU: the archive's label
            continue
        yield _entry(block, kind, size, {**defaults, **records} if defaults else records)
        records, own = {}, 0


def _entry(block: bytes, kind: bytes, size: int, records: dict[bytes, bytes]) -> Entry:
    path = records.get(b"path") or _name(block)
    if kind == b"S" or (records and any(key.startswith(_SPARSE) for key in records)):
        raise _Malformed(f"{printable(path)} is stored sparse, which is not supported")
    if kind in _FILES:
        # Before POSIX a directory was a file whose name ends so.
        kind = DIRECTORY if kind == b"\0" and path.endswith(b"/") else FILE
    elif kind not in _WITHOUT_BODY:
        raise _Malformed(f"{printable(path)} is of the unknown type {kind!r}")
    if b"size" in records:
        size = _decimal(records[b"size"])
    if size < 0:
        raise _Malformed(f"{printable(path)} has the size {size}")
    mtime = _decimal(records[b"mtime"]) if b"mtime" in records else _number(block[136:148])
    return Entry(
        path=path,
        kind=kind,
        mode=_number(block[100:108]) & 0o7777,
        size=0 if kind in _WITHOUT_BODY else size,
        mtime=min(max(mtime, 0), _MAX_MTIME),
        link=records.get(b"linkpath") or _text(block[157:257]),
        group=_number(block[116:124]),
        xattrs=_xattrs(records) if records else _NONE,
    )


def _xattrs(records: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {key[len(_XATTR) :]: value for key, value in records.items() if key.startswith(_XATTR)}


def _name(block: bytes) -> bytes:
    name = _text(block[:100])
    # Only POSIX headers have the prefix; GNU's have times there.
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _text(field_: bytes) -> bytes:
    return field_.partition(b"\0")[0]


def _check_sum(block: bytes) -> None:
    rest = block[:148] + b" " * 8 + block[156:]
    said = _number(block[148:156])
    if said == _sum(rest):
        return
    # Some old writers took bytes as signed.
    if said != sum(byte - 256 if byte > 127 else byte for byte in rest):
        raise _Malformed("an entry's checksum is wrong")


def _sum(block: bytes) -> int:
    """The sum of a block's bytes."""
    # Adler-32's lower half is 1 + the sum modulo 65521, which half a block cannot reach. It takes a
    # tenth of the time of sum(), and that was a tenth of the time of an entry.
    return (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2


def _number(field_: bytes) -> int:
    if field_[0] & 0x80:  # GNU: binary, for what does not fit into octal digits
        value = int.from_bytes(field_, "big")
        bits = 8 * len(field_)
        return value - (1 << bits) if field_[0] == 0xFF else value - (1 << (bits - 1))
    digits = field_.partition(b"\0")[0].strip()
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise _Malformed("an entry has a number that is none") from None


def _decimal(value: bytes) -> int:
    whole = value.partition(b".")[0]
    if len(whole) > 20 or not whole.removeprefix(b"-").isdigit():
        raise _Malformed("an entry has a number that is none")
    return int(whole)


def _extension(stream: ByteStream, size: int, total: int) -> bytes:
    if size < 0 or total > _MAX_EXTENSION:
        raise _Malformed(f"an entry has {max(size, total)} bytes of attributes")
    body = stream.exactly(size)
    stream.skip(padding(size))
    return body


def _pax(body: bytes) -> dict[bytes, bytes]:
    """PAX records, each ``LENGTH KEY=VALUE\\n`` with the length of the whole (POSIX, pax)."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(body):
        space = body.find(b" ", position, position + 10)
        digits = body[position:space]
        end = position + int(digits) if space > 0 and digits.isdigit() else 0
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if end <= space or end > len(body) or body[end - 1 : end] != b"\n" or not equals:
            raise _Malformed("an entry has malformed PAX records")
        if key in _USED or key.startswith((_XATTR, _SPARSE)):
            records[key] = value
        position = end
    return records


def header(entry: Entry) -> bytes:
    """The blocks that precede the body of ``entry``, in the form that tar2sqfs reads."""
    blocks = b""
    if entry.xattrs:
        body = b"".join(_record(_XATTR + key, value) for key, value in sorted(entry.xattrs.items()))
        blocks += _extended(b"x", body)
    if len(entry.link) > 100:
        blocks += _extended(b"K", entry.link + b"\0")
    path = entry.path + b"/" if entry.kind == DIRECTORY else entry.path
    if len(path) > 100:
        blocks += _extended(b"L", path + b"\0")
    return blocks + _block(path, entry.kind, entry.mode, entry.size, entry.mtime, entry.link)


def _extended(kind: bytes, body: bytes) -> bytes:
    return _block(b"././@LongLink", kind, 0o644, len(body), 0, b"") + body + bytes(padding(len(body)))


def _record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))  # the digits count too, and may become one more
    return b"%d %s=%s\n" % (length, key, value)


def _block(path: bytes, kind: bytes, mode: int, size: int, mtime: int, link: bytes) -> bytes:
    octal_size = b"%011o\0" % size if size < 1 << 33 else (size | 1 << 95).to_bytes(12, "big")
    block = b"".join(
        (
            path[:100].ljust(100, b"\0"),
            b"%07o\0" % mode,
            b"0000000\0" * 2,
            octal_size,
            b"%011o\0" % mtime,
            b" " * 8,
            kind,
            link[:100].ljust(100, b"\0"),
            b"ustar  \0",
        )
    ).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % _sum(block) + block[156:]


def printable(path: bytes) -> str:
    """A name for a message."""
    return path.decode("utf-8", "backslashreplace")
