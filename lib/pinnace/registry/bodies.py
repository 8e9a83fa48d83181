"""Reading bodies: in pieces as they arrive."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import requests

#: Bytes that are read at once.
PIECE = 256 << 10


class Interrupted(Exception):
    """A body that ended before its end, with the reason in words."""


class Body:
    """The pieces of one answer's body; ``waited`` is the time (seconds) that they were waited for.

    Iterating raises Interrupted if the transfer breaks, stalls or crawls. An end of the connection that
    nothing announced is an end here: whoever knows the size tells the difference.
    """

    def __init__(
        self, response: requests.Response, stall: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._raw: Any = response.raw
        self._stall = stall
        self._clock = clock
        self.waited = 0.0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            before = self._clock()
            piece = self._read()
            if not piece:
                return
            self.waited += self._clock() - before
            yield piece

    def _read(self) -> bytes:
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        from pinnace.registry.pace import Crawling

        try:
            # The raw stream: requests would undo a Content-Encoding, and digests are of what was stored.
            if hasattr(self._raw, "read1"):  # urllib3 2: what is there, be it little
                piece = self._raw.read1(PIECE, decode_content=False)
            else:
                piece = self._raw.read(PIECE >> 4, decode_content=False)
        except (ReadTimeoutError, socket.timeout) as error:
            cause = error.__context__ or error
            slow = str(cause) if isinstance(cause, Crawling) else f"no byte within {self._stall:g} s"
            raise Interrupted(slow) from None
        except (HTTPError, OSError, ValueError, AttributeError) as error:
            # urllib3 1 raises the last two on a malformed chunk and on a closed connection.
            raise Interrupted(_words(error)) from None
        return piece or b""


def _words(error: BaseException) -> str:
    cause = next((part for part in error.args if isinstance(part, BaseException)), error)
    return getattr(cause, "strerror", None) or type(cause).__name__


def whole(response: requests.Response, limit: int, stall: float) -> bytes:
    """A body of at most ``limit`` bytes; a longer one is cut after them. Raises Interrupted."""
    content = bytearray()
    for piece in Body(response, stall):
        content += piece
        if len(content) >= limit:
            return bytes(content[:limit])
    return bytes(content)
