"""How fast a peer has to send: a byte now and then must not hold a request for ever.

A socket's timeout is for one read, and each byte of an answer's head, of a chunk's length or of a body
begins it anew. So the bytes that arrive are counted where they arrive.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Callable
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

#: Bytes a second below which a peer counts as stalled, over the time of the socket's timeout.
CRAWL = 1 << 10


class Crawling(socket.timeout):
    """A peer that sends next to nothing, with how much in words."""


class Paced(io.RawIOBase):
    """What ``inner`` reads from a socket; raises Crawling if it is slow for ``timeout`` seconds of waiting.

    Only the time in which it is read counts: whoever takes the bytes may be slow.
    """

    def __init__(
        self, inner: io.RawIOBase, timeout: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._inner = inner
        self._timeout = timeout
        self._clock = clock
        self.forget()

    def forget(self) -> None:
        """Begin to count anew."""
        self._waited, self._arrived = 0.0, 0

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._inner.fileno()

    def readinto(self, buffer: Any) -> int | None:
        before = self._clock()
        count = self._inner.readinto(buffer)
        self._waited += self._clock() - before
        self._arrived += count or 0
        if count and self._timeout is not None and self._waited >= self._timeout:
            if self._arrived < CRAWL * self._waited:
                raise Crawling(f"{self._arrived} bytes in {self._waited:.0f} s")
            self.forget()
        return count

    def close(self) -> None:
        self._inner.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._paced = Paced(self.fp.detach(), sock.gettimeout())
        self.fp = io.BufferedReader(self._paced)

    def begin(self) -> None:
        super().begin()
        self._paced.forget()  # the registry may have thought about its answer


class _HTTPConnection(HTTPConnection):
    response_class = _Response


class _HTTPSConnection(HTTPSConnection):
    response_class = _Response


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


#: For a urllib3 PoolManager: its pools by scheme.
POOLS = {"http": _HTTPPool, "https": _HTTPSPool}
