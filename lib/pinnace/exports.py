"""From images of the store to files that a user names."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from pinnace.errors import StoreError, UsageError
from pinnace.layers import Format
from pinnace.reference import Reference
from pinnace.store import Image, Store, lone, output
from pinnace.store import archive as archives
from pinnace.store.build import workspace
from pinnace.store.store import Catalogue

STDOUT = "-"
_CHUNK = 1 << 20

Named = Sequence[tuple[Reference, Image]]


def squashfs(
    store: Store, images: Named, target: str, stdout: BinaryIO, form: Format, *, force: bool
) -> None:
    """Write each image as a squashfs file that stands alone.

    ``target`` is a file for one image, a directory, or ``-``. Raises StoreError, ImageError or UsageError.
    """
    if len(images) > 1 and (target == STDOUT or not output.is_directory(target)):
        raise UsageError(
            f"{target} is to hold several images", hint="name a directory, or an archive: FILE.tar"
        )
    if target == STDOUT:
        with workspace(store, form) as place:  # splicing needs a file
            temporary = place.temporary()
            lone.make(images[0][1], temporary, form)
            with _told(stdout), open(temporary, "rb") as file:
                shutil.copyfileobj(file, stdout, _CHUNK)
        return
    output.check(target, force=force)
    for reference, image in images:
        lone.write(image, output.target(target, reference), form, force=force)


def archive(known: Catalogue, images: Named, target: str, stdout: BinaryIO, *, force: bool) -> None:
    """Write an archive of ``images`` with their layers to the file ``target``, or to ``-``."""
    if target == STDOUT:
        with _told(stdout):
            archives.write(known, images, stdout.write)
        return
    if output.is_directory(target):
        raise UsageError(f"{target} is a directory", hint="name a file: FILE.tar")
    output.check(target, force=force)

    def make(path: str) -> None:
        with open(path, "wb") as file:
            archives.write(known, images, file.write)

    output.write(make, target, force=force)


@contextmanager
def _told(out: BinaryIO) -> Iterator[None]:
    """Errors of standard output are the user's to know; that its reader has gone is none."""
    try:
        yield
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StoreError(f"cannot write to standard output: {error.strerror}", identifier="output") from None
