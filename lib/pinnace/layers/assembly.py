"""An image's squashfs file from its layers'."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence

from pinnace.layers import tree
from pinnace.layers.splice import splice
from pinnace.layers.squash import Format
from pinnace.squashfs.reader import SquashFile


def assemble(layer_files: Sequence[str], target: str, form: Format) -> str:
    """Write ``target`` from ``layer_files``, the bottom first; the same files give the same bytes.

    Gives the digest of the file, which is as true as what was read of ``layer_files``.

    Raises ImageError if the layers don't fit together or cannot be read, StoreError if
    ``target`` cannot be written. After an error there is no ``target``.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_no_collection())
        layers = [stack.enter_context(SquashFile(path)) for path in layer_files]
        return splice(tree.merge(layers), layers, target, form)


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
