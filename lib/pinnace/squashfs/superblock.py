"""The superblock of a squashfs file. On the launch path: standard library alone."""

from __future__ import annotations

import errno
import os
import stat
import struct

from pinnace import unnoticed
from pinnace.errors import ImageError
from pinnace.squashfs.format import COMPRESSORS, MAGIC, POSITION, SUPERBLOCK, Superblock
from pinnace.tuples import NamedTuple

_HINT = "give a squashfs file or a reference such as ubuntu:24.04; `pinnace pull PATH` imports other files"
#: The metadata block of an id table that holds 0 alone: not compressed, 4 bytes.
_ROOT_ALONE = b"\4\x80" + bytes(4)


class Summary(NamedTuple):
    """What a squashfs file says of itself. Sizes in bytes."""

    inodes: int
    block_size: int
    compressor: str
    bytes_used: int


def check(path: str) -> Summary:
    """The superblock of ``path``. Raises ImageError if it is no squashfs 4.0 file that is all there."""
    try:
        # O_NONBLOCK: a FIFO must not hang the caller.
        descriptor = unnoticed.opener(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _cannot_open(path, error) from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{path} is a directory, not a squashfs file", hint=_HINT)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path} is not a regular file", hint=_HINT)
        header = os.read(descriptor, SUPERBLOCK.size)
    except OSError as error:
        raise _cannot_open(path, error) from None
    finally:
        os.close(descriptor)
    return parse(path, header, status.st_size)


def parse(path: str, header: bytes, size: int) -> Summary:
    """The same of ``header``, the first bytes of ``path``, which has ``size`` bytes."""
    if len(header) < SUPERBLOCK.size or SUPERBLOCK.unpack_from(header)[0] != MAGIC:
        raise ImageError(f"{path} is not a squashfs file", hint=_HINT, identifier="not-squashfs")
    fields = SUPERBLOCK.unpack_from(header)[:13]
    _, inodes, _, block_size, _, compressor, block_log, _, _, major, minor, _, used = fields
    if (major, minor) != (4, 0):
        raise ImageError(
            f"{path} is squashfs {major}.{minor}",
            hint="only squashfs 4.0 can be mounted, make the file anew",
            identifier="not-squashfs",
        )
    if compressor not in COMPRESSORS or not 12 <= block_log <= 20 or block_size != 1 << block_log:
        raise ImageError(
            f"{path} has a damaged superblock", hint="make the file anew", identifier="damaged-image"
        )
    if not SUPERBLOCK.size <= used <= size:
        raise ImageError(
            f"{path} is truncated: it has {size} of {used} bytes",
            hint="copy or make the file anew",
            identifier="damaged-image",
        )
    return Summary(inodes, block_size, COMPRESSORS[compressor], used)


def is_all_root(path: str) -> bool:
    """Whether every file of a checked squashfs file belongs to user and group 0."""
    try:
        with open(path, "rb", buffering=0) as file:
            block = Superblock.unpack(file.read(SUPERBLOCK.size))
            (place,) = POSITION.unpack(os.pread(file.fileno(), POSITION.size, block.id_table))
            # One number, which no compressor makes shorter: builders store it as it is.
            return block.ids == 1 and os.pread(file.fileno(), len(_ROOT_ALONE), place) == _ROOT_ALONE
    except (OSError, OverflowError, struct.error):
        return False  # whoever mounts it says what is wrong


def _cannot_open(path: str, error: OSError) -> ImageError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return ImageError(f"{path} does not exist", hint="check the path", identifier="no-such-file")
    hint = "check its mode and that of the directories above it" if error.errno == errno.EACCES else None
    return ImageError(f"cannot read {path}: {error.strerror}", hint=hint, identifier="unreadable-file")
