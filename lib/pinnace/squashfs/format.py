"""Structures of squashfs 4.0 on disk, little-endian (Linux, fs/squashfs/squashfs_fs.h)."""

from __future__ import annotations

import struct

from pinnace.tuples import NamedTuple

MAGIC = 0x73717368
SUPERBLOCK = struct.Struct("<IIIIIHHHHHHQQQQQQQQ")
NONE = 0xFFFFFFFF
NO_TABLE = 0xFFFFFFFFFFFFFFFF

#: Flags: inodes, extended attributes and ids are not compressed; options of the compressor follow.
PLAIN_INODES, NO_FRAGMENTS, OPTIONS = 0x1, 0x10, 0x400
NO_XATTRS, PLAIN_XATTRS, PLAIN_IDS = 0x200, 0x100, 0x800

DIRECTORY, FILE, SYMLINK, BLOCK_DEVICE, CHARACTER_DEVICE, FIFO, SOCKET = range(1, 8)
DEVICES = (BLOCK_DEVICE, CHARACTER_DEVICE)
#: An inode's type plus this is its extended form.
EXTENDED = 7

INODE = struct.Struct("<HHHHII")
BASIC_DIRECTORY = struct.Struct("<IIHHI")
EXTENDED_DIRECTORY = struct.Struct("<IIIIHHI")
DIRECTORY_INDEX = struct.Struct("<III")
BASIC_FILE = struct.Struct("<IIII")
EXTENDED_FILE = struct.Struct("<QQQIIII")
#: The whole inode of a basic file as it is read (mode, time, start, fragment, offset there and size), and as
#: it is written for root (type, mode, time, number and the same).
PLAIN_FILE = struct.Struct("<2xH4xI4xIIII")
NEW_PLAIN_FILE = struct.Struct("<HH4xIIIIII")
LINK = struct.Struct("<II")
NUMBER = struct.Struct("<I")
POSITION = struct.Struct("<Q")
DIRECTORY_HEADER = struct.Struct("<III")
DIRECTORY_ENTRY = struct.Struct("<HhHH")
FRAGMENT = struct.Struct("<QII")
XATTR_KEY = struct.Struct("<HH")
XATTR_SET = struct.Struct("<QII")
XATTR_TABLE = struct.Struct("<QII")

#: Size of a data block on disk; the bit says that it is not compressed. 0 is a hole.
STORED = 1 << 24
XATTR_PREFIXES = (b"user.", b"trusted.", b"security.")
XATTR_ELSEWHERE = 0x100

COMPRESSORS = {1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}


class Superblock(NamedTuple):
    """All of it. Positions are bytes from the file's start."""

    inodes: int
    mtime: int
    block_size: int
    fragments: int
    compressor: int
    flags: int
    ids: int
    root: int
    size: int
    id_table: int
    xattr_table: int
    inode_table: int
    directory_table: int
    fragment_table: int
    export_table: int

    @classmethod
    def empty(cls, compressor: int, block_size: int) -> Superblock:
        """One of which compressor and block size alone are known."""
        return cls(0, 0, block_size, 0, compressor, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)

    @classmethod
    def unpack(cls, raw: bytes) -> Superblock:
        """Raises struct.error if ``raw`` is too short. Plausibility is checked by ``superblock.check``."""
        fields = SUPERBLOCK.unpack_from(raw)
        (_, inodes, mtime, block_size, fragments, compressor, _, flags, ids) = fields[:9]
        return cls(inodes, mtime, block_size, fragments, compressor, flags, ids, *fields[11:])

    def pack(self) -> bytes:
        return SUPERBLOCK.pack(
            MAGIC,
            self.inodes,
            self.mtime,
            self.block_size,
            self.fragments,
            self.compressor,
            self.block_size.bit_length() - 1,
            self.flags,
            self.ids,
            4,
            0,
            self.root,
            self.size,
            self.id_table,
            self.xattr_table,
            self.inode_table,
            self.directory_table,
            self.fragment_table,
            self.export_table,
        )


class Content(NamedTuple):
    """Where the bytes of a regular file lie. ``sizes`` is the block list as it is on disk."""

    size: int
    start: int
    sizes: bytes
    fragment: int = NONE
    fragment_offset: int = 0
    sparse: int = 0


def stored(sizes: bytes) -> int:
    """Bytes on disk of the blocks of a block list."""
    return sum([size & (STORED - 1) for (size,) in NUMBER.iter_unpack(sizes)])
