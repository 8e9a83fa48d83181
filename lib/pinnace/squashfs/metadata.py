"""Squashfs metadata blocks: tables of up to 8 KiB of plain text each (Linux, fs/squashfs/squashfs_fs.h).

On disk a block is a 16-bit length, whose top bit says that the block is not compressed, and its
bytes. A reference is the block's distance from the table's start, shifted by 16, and the
position within the plain block.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from pinnace.errors import HostError, ImageError

BLOCK = 8192
_PLAIN = 0x8000
_LENGTH = struct.Struct("<H")
#: Bytes of a table's plain text, which a hostile file could claim thousands of times its own size.
MAX_TEXT = 1 << 30
#: Bytes that one block may become: the largest data block.
_MAX_BLOCK = 1 << 20
#: Bytes that unpacking xz may take: its dictionary is no larger than a data block.
_MAX_XZ = 16 << 20

Decompress = Callable[[bytes], bytes]


def decompressor(compressor: str) -> Decompress:
    """What unpacks one metadata or data block, of at most 1 MiB. Raises HostError."""
    if compressor == "zstd":
        import zstandard

        unpack, claimed = zstandard.ZstdDecompressor(), zstandard.frame_content_size

        def unzstd(block: bytes) -> bytes:
            if claimed(block) > _MAX_BLOCK:  # it would be believed
                raise Damaged("it is too large")
            return unpack.decompress(block, max_output_size=_MAX_BLOCK)

        return unzstd
    if compressor == "gzip":
        return lambda block: zlib.decompressobj().decompress(block, _MAX_BLOCK)
    if compressor == "xz":
        import lzma

        return lambda block: lzma.LZMADecompressor(memlimit=_MAX_XZ).decompress(block, _MAX_BLOCK)
    if compressor == "lz4":
        try:
            import lz4.block
        except ModuleNotFoundError:
            raise HostError(
                "images compressed by lz4 need the Python module lz4",
                hint='install python3-lz4, or set compressor = "zstd" and another store',
                identifier="missing-module",
            ) from None
        return lambda block: bytes(lz4.block.decompress(block, uncompressed_size=_MAX_BLOCK))
    raise ImageError(f"squashfs files compressed by {compressor} cannot be read", identifier="compressor")


class Table:
    """The plain text of consecutive metadata blocks, and where each block of them began."""

    def __init__(self, raw: bytes, decompress: Decompress) -> None:
        pieces: list[bytes] = []
        self._starts: dict[int, int] = {}
        position = length = 0
        while position + 2 <= len(raw):
            self._starts[position] = length
            (header,) = _LENGTH.unpack_from(raw, position)
            size = header & ~_PLAIN
            block = raw[position + 2 : position + 2 + size]
            if len(block) != size:
                raise Damaged("a metadata block is cut short")
            try:
                plain = block if header & _PLAIN else decompress(block)
            except Exception as error:
                raise Damaged(f"a metadata block cannot be unpacked: {error}") from None
            if len(plain) > BLOCK:
                raise Damaged("a metadata block is too large")
            if length > MAX_TEXT:
                raise Damaged("a table is too large")
            pieces.append(plain)
            length += len(plain)
            position += 2 + size
        self.text = b"".join(pieces)

    def position(self, reference: int) -> int:
        """Where a reference leads to in ``text``."""
        return self.at(reference >> 16, reference & 0xFFFF)

    def at(self, block: int, offset: int) -> int:
        """The same for a reference in two parts."""
        start = self._starts.get(block)
        if start is None or start + offset > len(self.text):
            raise Damaged("a reference leads nowhere")
        return start + offset


class TableWriter:
    """Collects plain text; blocks are written uncompressed, so that references are arithmetic."""

    def __init__(self) -> None:
        self.text = bytearray()

    def append(self, data: bytes | bytearray) -> int:
        """Add ``data`` and return where it begins in the text."""
        position = len(self.text)
        self.text += data
        return position

    def put(self, output: bytearray) -> None:
        """Append the table as it lies on disk."""
        with memoryview(self.text) as text:
            for start in range(0, len(text), BLOCK):
                block = text[start : start + BLOCK]
                output += _LENGTH.pack(len(block) | _PLAIN)
                output += block

    def block_starts(self) -> list[int]:
        """Distance of each block from the table's start on disk."""
        return list(range(0, -(-len(self.text) // BLOCK) * (BLOCK + 2), BLOCK + 2))


def block_of(position: int) -> int:
    """The distance on disk of the uncompressed block that holds ``position`` of the text."""
    return position // BLOCK * (BLOCK + 2)


def reference_of(position: int) -> int:
    """The reference to ``position`` in a table of uncompressed blocks."""
    return block_of(position) << 16 | position % BLOCK


class Damaged(Exception):
    """A squashfs file contradicts itself; whoever knows its name says so."""
