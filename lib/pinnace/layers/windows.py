"""Memory for zstd's windows: a stream may refer back to what lies as much as 128 MiB before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Windows:
    """The windows of streams that are decompressed at the same time are ``total`` bytes, or one stream's."""

    def __init__(self, total: int = 64 << 20) -> None:
        self._total = self._free = total
        self._changed = threading.Condition()

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Wait until ``size`` bytes are free and hold them until the block ends; at most all there are."""
        size = min(size, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            self._give(size)

    @contextmanager
    def room_if_free(self, size: int) -> Iterator[bool]:
        """Like ``room`` without waiting: gives False, and holds nothing, if so much is not free."""
        size = min(max(size, 0), self._total)
        with self._changed:
            free = self._free >= size
            self._free -= size if free else 0
        try:
            yield free
        finally:
            self._give(size if free else 0)

    def _give(self, size: int) -> None:
        with self._changed:
            self._free += size
            self._changed.notify_all()
