"""Reading a stream of pieces by exact counts of bytes."""

from __future__ import annotations

from collections.abc import Iterator


class EndOfStream(Exception):
    """The stream ended within something that was to be read whole."""


class ByteStream:
    """Bytes that arrive in pieces of any size, read in the counts that a format asks for."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def at_end(self) -> bool:
        """Whether nothing is left."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return True
            self._rest = memoryview(piece)
        return False

    def pieces(self, count: int) -> Iterator[memoryview]:
        """The next ``count`` bytes without copying them. Raises EndOfStream."""
        while count:
            if self.at_end():
                raise EndOfStream
            piece = self._rest[:count]
            self._rest = self._rest[count:]
            count -= len(piece)
            yield piece

    def exactly(self, count: int) -> bytes:
        """The next ``count`` bytes. Raises EndOfStream."""
        if len(self._rest) >= count:  # nearly always
            piece = bytes(self._rest[:count])
            self._rest = self._rest[count:]
            return piece
        return b"".join(self.pieces(count))

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes. Raises EndOfStream."""
        for _ in self.pieces(count):
            pass

    def drain(self) -> None:
        """Read and forget all that is left."""
        self._rest = memoryview(b"")
        for _ in self._pieces:
            pass
