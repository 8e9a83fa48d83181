"""Layers' compression: gzip, zstd or none, told apart by their first bytes.

The media type is not asked: images whose layers are mislabelled exist and run elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pinnace.errors import HostError, ImageError

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
#: A zstd stream may begin with a frame of somebody's own data (RFC 8878, 3.1.2).
_ZSTD_SKIPPABLE = tuple(bytes((value, 0x2A, 0x4D, 0x18)) for value in range(0x50, 0x60))
#: Bytes of output at a time: what one layer's pipeline holds in memory, bombs included.
_PIECE = 1 << 20
#: Bytes that tell the compression, and of zstd the first frame's window.
_HEAD = 18
#: The memory that a zstd stream may ask for: the largest window (bytes) that is accepted.
_MAX_WINDOW = 1 << 27
#: Windows that images have, by what builds them: most have 8 MiB, none more than 32. Later frames
#: may have this much without that the first one says so.
_USUAL_WINDOW = 1 << 23
_LATER_WINDOW = 1 << 25


def beginning(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """What tells how a stream is compressed, and all of the stream."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _HEAD:
            break
    return head, _chain(head, chunks)


def window(head: bytes) -> int:
    """Bytes of memory that a stream which begins with ``head`` asks for, beyond what each one has."""
    if head.startswith(_ZSTD_SKIPPABLE):
        return _MAX_WINDOW  # what it asks for comes later
    if not head.startswith(_ZSTD):
        return 0
    try:
        import zstandard
    except ImportError:
        return 0  # decompressing it will tell
    try:
        wanted = zstandard.get_frame_parameters(head).window_size
    except zstandard.ZstdError:
        return 0
    return min(max(wanted, _USUAL_WINDOW), _MAX_WINDOW)


def decompressed(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """The plain bytes of a layer, in pieces of bounded size. Raises ImageError naming ``name``."""
    head, whole = beginning(chunks)
    if head.startswith(_GZIP):
        return _gunzip(whole, name)
    if head.startswith(_ZSTD) or head.startswith(_ZSTD_SKIPPABLE):
        return _unzstd(whole, name, max(window(head), _LATER_WINDOW))
    return whole


def _chain(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from chunks


def _gunzip(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    new, error_type = _zlib()
    member: Any = None
    for chunk in chunks:
        data = chunk
        while data:
            if member is None:
                data = data.lstrip(b"\0")  # padding between and after members
                if not data:
                    break
                member = new()
            try:
                piece = member.decompress(data, _PIECE)
                while piece or member.unconsumed_tail:
                    yield piece
                    if member.eof:
                        break
                    piece = member.decompress(member.unconsumed_tail, _PIECE)
            except error_type as error:
                raise _damaged(name, str(error)) from None
            data = member.unused_data if member.eof else b""
            if member.eof:
                member = None
    if member is not None:
        raise _damaged(name, "its gzip stream ends early")


def _zlib() -> tuple[Callable[[], Any], Any]:
    """The fastest inflate there is: isal takes less than half the time of zlib."""
    try:
        from isal import isal_zlib

        return (lambda: isal_zlib.decompressobj(wbits=31)), isal_zlib.IsalError
    except ImportError:
        import zlib

        return (lambda: zlib.decompressobj(wbits=31)), zlib.error


def _unzstd(chunks: Iterator[bytes], name: str, largest_window: int) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError:
        raise HostError(
            f"layer {name} is compressed with zstd, which this Python cannot read",
            hint="install the Python package zstandard",
        ) from None

    decompressor = zstandard.ZstdDecompressor(max_window_size=largest_window)
    source: Any = _Readable(chunks)
    reader = decompressor.stream_reader(source, read_size=1 << 17, read_across_frames=True)
    try:
        while piece := reader.read(_PIECE):
            yield piece
    except zstandard.ZstdError as error:
        raise _damaged(name, str(error)) from None


class _Readable:
    """Pieces as a file to read from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, count: int) -> bytes:
        if not self._rest:
            self._rest = next(self._chunks, b"")
        piece, self._rest = self._rest[:count], self._rest[count:]
        return piece


def _damaged(name: str, why: str) -> ImageError:
    return ImageError(
        f"layer {name} cannot be decompressed: {why}",
        hint="push the image anew",
        identifier="damaged-layer",
    )
