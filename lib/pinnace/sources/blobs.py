"""Content-addressed files of a layout or an archive, each checked against the digest that names it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Protocol

from pinnace import digest as digests
from pinnace.errors import ImageError
from pinnace.sources.archive import Archive, File


class Blobs(Protocol):
    """Files by name: a directory or an archive."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def read(self, name: str, limit: int) -> bytes:
        """A whole file of at most ``limit`` bytes. Raises ImageError."""

    def pieces(self, name: str) -> Iterator[bytes]:
        """A file's bytes. Raises ImageError."""

    def size(self, name: str) -> int:
        """A file's bytes, counted. Raises ImageError."""

    def __contains__(self, name: str) -> bool:
        """Whether there is such a file."""


class Directory:
    """``Blobs`` in a directory. Its owner may link files as he likes: he reads them as himself."""

    def __init__(self, path: str) -> None:
        if not os.path.isdir(path):
            raise ImageError(f"{path} is no directory", hint="check the path", identifier="no-such-file")
        self.name = path

    def __contains__(self, name: str) -> bool:
        return os.path.isfile(os.path.join(self.name, name))

    def read(self, name: str, limit: int) -> bytes:
        if self.size(name) > limit:
            raise ImageError(f"{name} in {self.name} has {self.size(name)} bytes, {limit} are the limit")
        return b"".join(self.pieces(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        file = File.open(os.path.join(self.name, name))
        try:
            yield from file.pieces()
        finally:
            os.close(file.descriptor)

    def size(self, name: str) -> int:
        try:
            return os.stat(os.path.join(self.name, name)).st_size
        except OSError as error:
            raise ImageError(
                f"{self.name} has no {name}",
                context=error.strerror,
                hint="the image is incomplete there: copy it anew",
                identifier="missing-blob",
            ) from None


def path_of(digest: str) -> str:
    """Where a layout has the blob (image-spec, image-layout.md)."""
    return "blobs/sha256/" + digests.hex_of(digest)


def read(blobs: Blobs, digest: str, size: int, limit: int) -> bytes:
    """A small blob. Raises ImageError if it is too large, or not what ``digest`` and ``size`` say."""
    if size > limit:
        raise ImageError(f"blob {digest} of {blobs.name} has {size} bytes, {limit} are the limit")
    return b"".join(checked(blobs, path_of(digest), digest, size))


def checked(blobs: Blobs, name: str, digest: str, size: int) -> Iterator[bytes]:
    """The bytes of the file ``name``; after the last one ImageError if they are not what ``digest`` says."""
    actual_size = blobs.size(name)
    if actual_size != size:
        raise _damaged(blobs.name, digest, f"it has {actual_size} bytes, not {size}")
    state = hashlib.sha256()
    for piece in blobs.pieces(name):
        state.update(piece)
        yield piece
    actual = digests.PREFIX + state.hexdigest()
    if actual != digest:
        raise _damaged(blobs.name, digest, f"its content has digest {actual}")


def _damaged(name: str, digest: str, how: str) -> ImageError:
    return ImageError(
        f"blob {digest} of {name} is damaged: {how}",
        hint="copy or make it anew",
        identifier="digest-mismatch",
    )


__all__ = ["Archive", "Blobs", "Directory", "checked", "path_of", "read"]
