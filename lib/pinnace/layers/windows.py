"""Memory for zstd's windows: a stream may refer back to what lies as much as 128 MiB before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pinnace.layers import decompression


class Windows:
    """The windows of streams that are decompressed at the same time are ``total`` bytes, or one stream's."""

    def __init__(self, total: int = 64 << 20) -> None:
        self._total = self._free = total
        self._changed = threading.Condition()

    @contextmanager
    def room_for(self, chunks: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
        """The same stream, once there is room for its window; there is until the block ends."""
        head, chunks = decompression.beginning(chunks)
        wanted = min(decompression.window(head), self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        try:
            yield chunks
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()
