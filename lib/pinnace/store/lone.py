"""A squashfs file that stands alone: an image's tree, and its configuration where enroot looks for it.

A file made so runs under enroot, and under Pinnace where there is no store that knows its configuration.
"""

from __future__ import annotations

import os

from pinnace.layers import Format, assemble, tar
from pinnace.layers.squash import SquashWriter
from pinnace.sources import enroot
from pinnace.squashfs import format as layout
from pinnace.squashfs.reader import SquashFile
from pinnace.store import output
from pinnace.store.images import Image


def write(image: Image, path: str, form: Format, *, force: bool) -> None:
    """Write ``path`` from ``image``: complete or not at all. Raises StoreError or ImageError."""
    output.write(lambda temporary: make(image, temporary, form), path, force=force)


def make(image: Image, target: str, form: Format) -> None:
    """Write ``target``, which may be there, from ``image``. Raises OSError, StoreError or ImageError."""
    files = enroot.files_of(image.config, image.reference)
    if files:
        # Nobody could make it in a container that is read-only.
        directories = _missing(image.path, image.config.get("WorkingDir") or "/")
        _assemble(image.path, directories, files, target, form)
    else:
        output.copy(image.path, target)


def _missing(image: str, directory: str) -> list[bytes]:
    """The directories on the way to ``directory`` that the image does not have, from the top."""
    parts = [part for part in os.fsencode(os.path.normpath(f"/{directory}")).split(b"/") if part]
    with SquashFile(image) as squash:
        place = squash.root()
        for number, part in enumerate(parts):
            found = (entry[1:] for entry in squash.listing(squash.inode(place)) if entry[0] == part)
            kind, place = next(found, (None, 0))
            if kind is None:
                return [b"/".join(parts[:count]) for count in range(number + 1, len(parts) + 1)]
            if kind != layout.DIRECTORY:
                break  # a link, perhaps to a directory
    return []


def _assemble(
    image: str, directories: list[bytes], files: dict[bytes, bytes], target: str, form: Format
) -> None:
    with output.unfinished(os.path.dirname(target)) as top:
        with SquashWriter(top, form) as writer:
            for name in directories:
                writer.add(tar.Entry(name, tar.DIRECTORY, 0o755))
            for name, content in files.items():
                writer.add(tar.Entry(name, tar.FILE, 0o644, len(content)), content)
        assemble([image, top], target, form)
