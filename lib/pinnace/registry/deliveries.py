"""A blob as it is delivered: checked as it passes, and taken from the next address if it was wrong."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from pinnace import digest as digests
from pinnace.errors import ImageError, RegistryError
from pinnace.registry.endpoint import DAMAGED, TRUNCATED, damaged

if TYPE_CHECKING:
    from pinnace.registry.endpoint import Endpoint

_T = TypeVar("_T")
#: What wrong bytes look like to whoever reads them before their digest is known.
_LIKE_DAMAGE = frozenset(("damaged-layer", "malformed-layer", "conversion"))


class Delivery(Iterator[bytes]):
    """The bytes of one blob from the first of ``endpoints`` that has them; the next go on where one fails.

    Raises RegistryError if they don't come or, at the end, are not what ``digest`` says. One thread may
    go on where another has stopped.
    """

    def __init__(self, endpoints: Sequence[Endpoint], repository: str, digest: str, size: int) -> None:
        self._endpoints = endpoints
        self._repository = repository
        self._digest = digest
        self._size = size
        #: Those of whom bytes came.
        self.givers: list[Endpoint] = []
        #: Whether all bytes have passed and are what the digest says.
        self.right = False
        self._error: RegistryError | None = None
        self._pieces = self._checked()
        self._over = False
        self._lock = threading.Lock()

    def __next__(self) -> bytes:
        with self._lock:
            piece = next(self._pieces)
            if self._over:
                self._pieces.close()
            return piece

    def close(self) -> None:
        """Give the connection back, once a thread that waits for bytes has got them."""
        self._over = True
        if self._lock.acquire(blocking=False):
            try:
                self._pieces.close()
            finally:
                self._lock.release()

    def verdict(self) -> RegistryError | None:
        """Why the bytes are wrong, for which the rest is fetched; None if they aren't, or nobody knows."""
        with suppress(RegistryError):
            deque(self, 0)
        return self._error

    def _checked(self) -> Generator[bytes, None, None]:
        state = hashlib.sha256()
        try:
            for piece in self._gathered():
                state.update(piece)
                yield piece
            actual = digests.PREFIX + state.hexdigest()
            if actual != self._digest:
                hosts = " and ".join(giver.host for giver in self.givers or self._endpoints[-1:])
                raise damaged(hosts, self._repository, self._digest, f"its content has digest {actual}")
            self.right = True
        except RegistryError as error:
            if error.identifier in (DAMAGED, TRUNCATED):
                self._error = error
            raise

    def _gathered(self) -> Iterator[bytes]:
        """The bytes as they come: an endpoint goes on where the one before has failed."""
        received = 0
        for endpoint in self._endpoints:
            before = received
            try:
                for piece in endpoint.pieces(self._repository, self._digest, self._size, received):
                    if received == before:
                        self.givers.append(endpoint)
                    received += len(piece)
                    yield piece
                return
            except RegistryError:
                if endpoint is self._endpoints[-1]:
                    raise


def read(
    endpoints: Sequence[Endpoint],
    repository: str,
    digest: str,
    size: int,
    use: Callable[[Iterator[bytes]], _T],
    note: Callable[[str], None],
) -> _T:
    """What ``use`` makes of a blob's bytes, of the right ones: what it made of others does not count.

    The digest is known at the end only, so an ImageError of ``use`` before it may mean wrong bytes as well.
    Then all of them are taken from the next of ``endpoints``; ``note`` is told. The last one's error is the
    one that is raised: RegistryError, or what ``use`` raises.
    """
    first = 0
    while True:
        delivery = Delivery(endpoints[first:], repository, digest, size)
        try:
            return use(delivery)
        except (RegistryError, ImageError) as error:
            if delivery.right:  # no other address has other bytes
                raise
            suspect = delivery.givers[0] if delivery.givers else endpoints[-1]
            if suspect is endpoints[-1]:
                if error.identifier in _LIKE_DAMAGE:
                    raise delivery.verdict() or error from None
                raise
            if isinstance(error, RegistryError) and error.identifier != DAMAGED:
                raise
            first = endpoints.index(suspect) + 1
            note(f"mirror {suspect.host} is passed over for {digests.short(digest)}: {error.message}")
        finally:
            delivery.close()
