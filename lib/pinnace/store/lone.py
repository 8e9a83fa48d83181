"""A squashfs file that stands alone: an image's tree, and its configuration where enroot looks for it.

A file made so runs under enroot, and under Pinnace where there is no store that knows its configuration.
"""

from __future__ import annotations

import os
import shutil
import tempfile

from pinnace.layers import Format, assemble, tar
from pinnace.layers.squash import SquashWriter
from pinnace.sources import enroot
from pinnace.store import output
from pinnace.store.images import Image


def write(image: Image, path: str, form: Format, *, force: bool) -> None:
    """Write ``path`` from ``image``: complete or not at all. Raises StoreError or ImageError."""
    output.write(lambda temporary: make(image, temporary, form), path, force=force)


def make(image: Image, target: str, form: Format) -> None:
    """Write ``target``, which may be there, from ``image``. Raises OSError, StoreError or ImageError."""
    files = enroot.files_of(image.config, image.reference)
    if files:
        _assemble(image.path, files, target, form)
    else:
        output.copy(image.path, target)


def _assemble(image: str, files: dict[bytes, bytes], target: str, form: Format) -> None:
    directory = tempfile.mkdtemp(prefix=f"{os.path.basename(target)}.", dir=os.path.dirname(target))
    try:
        top = os.path.join(directory, "top.sqsh")
        with SquashWriter(top, form) as writer:
            for name, content in files.items():
                writer.add(tar.Entry(name, tar.FILE, 0o644, len(content)), content)
        assemble([image, top], target, form)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
