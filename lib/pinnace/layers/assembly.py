"""An image's squashfs file from its layers'."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence

from pinnace.layers import splice, tree
from pinnace.layers.squash import Format
from pinnace.squashfs.reader import SquashFile


def assemble(layer_files: Sequence[str], target: str, form: Format) -> None:
    """Write ``target`` from ``layer_files``, the bottom first; the same files give the same bytes.

    Raises ImageError if the layers don't fit together or cannot be read, StoreError if
    ``target`` cannot be written. After an error there is no ``target``.
    """
    with _opened(layer_files) as layers:
        splice.splice(tree.merge(layers), layers, target, form)


def digest_of(layer_files: Sequence[str], form: Format) -> str:
    """The digest of the file that ``assemble`` makes of ``layer_files``. Raises ImageError."""
    with _opened(layer_files) as layers:
        return splice.digest(tree.merge(layers), layers, form)


@contextlib.contextmanager
def _opened(layer_files: Sequence[str]) -> Iterator[list[SquashFile]]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(_no_collection())
        yield [stack.enter_context(SquashFile(path)) for path in layer_files]


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Nothing here refers to itself, and looking for what does takes a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
