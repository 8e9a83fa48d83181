"""The superblock of a squashfs file. On the launch path: standard library alone."""

from __future__ import annotations

import errno
import os
import stat
import struct
from dataclasses import dataclass

from pinnace.errors import ImageError

#: Magic, inodes, time, block size, fragments, compressor, block log, flags, ids, major, minor, root, used.
_SUPERBLOCK = struct.Struct("<IIIIIHHHHHHQQ")
_MAGIC = 0x73717368
#: The whole superblock with its table offsets (bytes).
_LENGTH = 96
_COMPRESSORS = {1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}
_HINT = "give a squashfs file or an image reference such as ubuntu:24.04"


@dataclass(frozen=True)
class Superblock:
    """What a squashfs file says of itself. Sizes in bytes."""

    inodes: int
    block_size: int
    compressor: str
    bytes_used: int


def check(path: str) -> Superblock:
    """The superblock of ``path``. Raises ImageError if it is no squashfs 4.0 file that is all there."""
    try:
        # O_NONBLOCK: a FIFO must not hang the caller.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _cannot_open(path, error) from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{path} is a directory, not a squashfs file", hint=_HINT)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path} is not a regular file", hint=_HINT)
        header = os.read(descriptor, _LENGTH)
    except OSError as error:
        raise _cannot_open(path, error) from None
    finally:
        os.close(descriptor)
    return _parse(path, header, status.st_size)


def _parse(path: str, header: bytes, size: int) -> Superblock:
    if len(header) < _LENGTH or _SUPERBLOCK.unpack_from(header)[0] != _MAGIC:
        raise ImageError(f"{path} is not a squashfs file", hint=_HINT, identifier="not-squashfs")
    fields = _SUPERBLOCK.unpack_from(header)
    _, inodes, _, block_size, _, compressor, block_log, _, _, major, minor, _, used = fields
    if (major, minor) != (4, 0):
        raise ImageError(
            f"{path} is squashfs {major}.{minor}",
            hint="only squashfs 4.0 can be mounted, make the file anew",
            identifier="not-squashfs",
        )
    if compressor not in _COMPRESSORS or not 12 <= block_log <= 20 or block_size != 1 << block_log:
        raise ImageError(
            f"{path} has a damaged superblock", hint="make the file anew", identifier="damaged-image"
        )
    if not _LENGTH <= used <= size:
        raise ImageError(
            f"{path} is truncated: it has {size} of {used} bytes",
            hint="copy or make the file anew",
            identifier="damaged-image",
        )
    return Superblock(inodes, block_size, _COMPRESSORS[compressor], used)


def _cannot_open(path: str, error: OSError) -> ImageError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return ImageError(f"{path} does not exist", hint="check the path", identifier="no-such-file")
    hint = "check its mode and that of the directories above it" if error.errno == errno.EACCES else None
    return ImageError(f"cannot read {path}: {error.strerror}", hint=hint, identifier="unreadable-file")
