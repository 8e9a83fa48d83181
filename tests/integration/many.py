"""Layers of very many small files, made faster than tarfile makes them."""

from __future__ import annotations

import io

_BLOCK = 512


def many_files(count: int, *, first: int, spread: int) -> bytes:
    """A tar archive of files numbered from ``first`` on, ``spread`` in a directory; each holds its name."""
    output = io.BytesIO()
    directory = None
    for number in range(first, first + count):
        here = (
            b"d/"
            if spread >= count
            else b"usr/lib/d%04d/e%06d/" % (number // (spread * 50), number // spread)
        )
        if here != directory:
            directory = here
            output.write(_header(here, b"5", 0))
        name = b"file-%08d" % number
        output.write(_header(here + name, b"0", len(name)) + name.ljust(_BLOCK, b"\0"))
    output.write(bytes(2 * _BLOCK))
    return output.getvalue()


def _header(path: bytes, kind: bytes, size: int) -> bytes:
    fields = (
        path.ljust(100, b"\0"), b"0000755\0" if kind == b"5" else b"0000644\0", b"0000000\0" * 2,
        b"%011o\0" % size, b"%011o\0" % 1_000_000_000, b" " * 8, kind, bytes(100), b"ustar\00000",
    )  # fmt: skip
    block = b"".join(fields).ljust(_BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
