"""One blob's bytes in order: going on after a cut, and several connections where one is too slow."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pinnace import threads
from pinnace.registry import ranges, retry
from pinnace.registry.bodies import Body, Interrupted

if TYPE_CHECKING:
    import requests

#: Requests a blob with these headers; gives an answer with status 200, 206 or 416, or raises RegistryError.
Ask = Callable[[dict[str, str]], "requests.Response"]
#: The share of its time that a transfer spends waiting from which on more connections are worth it.
_WAITING = 0.5


@dataclass(frozen=True)
class Tuning:
    """How blobs are fetched.

    A blob of several times ``part`` bytes (0: none) may be fetched in parts by ``connections`` at a
    time, of which as many are held in memory. ``stall`` in seconds.
    """

    part: int = 4 << 20
    connections: int = 4
    stall: float = 60.0
    policy: retry.Policy = field(default_factory=retry.Policy)
    pause: Callable[[float], None] = lambda seconds: None


class NoRanges(Exception):
    """The registry answers with something else than the part that it was asked for."""


class Overlong(Exception):
    """The registry has more bytes than there should be."""


class Truncated(Exception):
    """The transfer ends early again and again; ``received`` bytes are known."""

    def __init__(self, received: int, reason: str) -> None:
        super().__init__(reason)
        self.received = received


class Stream:
    """The bytes from ``start`` up to before ``end`` over one connection at a time.

    ``end`` grows to ``size`` if the registry ignores it, unless ``strict`` is set: then NoRanges
    is raised. Iterating raises Overlong or Truncated as well.
    """

    def __init__(
        self, ask: Ask, start: int, end: int, size: int, tuning: Tuning, *, strict: bool = False
    ) -> None:
        self._ask = ask
        self.position = start
        self.end = end
        self._size = size
        self._tuning = tuning
        self._strict = strict
        self._ranges = True
        self._etag: str | None = None
        #: Seconds of waiting for bytes.
        self.waited = 0.0

    def __iter__(self) -> Iterator[bytes]:
        attempts = retry.Attempts(self._tuning.policy)
        while self.position < self.end:
            before = self.position
            reason = "the connection ended"
            try:
                yield from self._once()
            except Interrupted as error:
                reason = str(error)
            if self.position >= self.end:
                return
            if not attempts.failed(self.position - before):
                raise Truncated(self.position, reason)
            self._tuning.pause(attempts.delay(random.random()))

    def _once(self) -> Iterator[bytes]:
        """What one request gives; ends early without an error if the transfer ends."""
        start = self.position if self._ranges else 0
        end = self.end if self.end < self._size and self._ranges else None
        with self._ask(ranges.request_headers(start, end, self._etag)) as response:
            first = ranges.first_byte(response.status_code, response.headers, self._size)
            if response.status_code == 416 or first is None or first > self.position:
                # Its ranges are of no use; the next attempt takes it from the beginning.
                if self._strict:
                    raise NoRanges
                self._ranges = False
                return
            if response.status_code == 200 and end is not None:
                if self._strict:
                    raise NoRanges
                self.end = self._size
            self._etag = response.headers.get("ETag")
            announced = ranges.length(response.headers)
            if announced is not None and first + announced > self._size:
                raise Overlong
            yield from self._pieces(Body(response, self._tuning.stall), self.position - first)

    def _pieces(self, body: Body, skip: int) -> Iterator[bytes]:
        for piece in body:
            self.waited += body.waited
            body.waited = 0.0
            if skip >= len(piece):
                skip -= len(piece)
                continue
            if skip:
                piece = piece[skip:]
                skip = 0
            if len(piece) > self.end - self.position:
                if self.end == self._size:
                    raise Overlong
                piece = piece[: self.end - self.position]
            if piece:
                self.position += len(piece)
                yield piece
            elif self.position >= self.end:
                return  # more than was asked for


class Parallel:
    """The bytes from ``start`` on in parts over several connections, in order.

    At most as many parts as there are connections are in memory, so if whoever takes the bytes
    is the slower one the connections wait. Iterating raises what a ``Stream`` raises.
    """

    def __init__(self, ask: Ask, start: int, size: int, tuning: Tuning) -> None:
        self.position = start
        self._ask = ask
        self._size = size
        self._tuning = tuning
        self._todo = deque(
            (number, at, min(at + tuning.part, size))
            for number, at in enumerate(range(start, size, tuning.part))
        )
        self._count = len(self._todo)
        self._parts: dict[int, deque[bytes]] = {}
        self._finished: set[int] = set()
        self._error: BaseException | None = None
        self._taken = 0
        self._over = False
        self._changed = threading.Condition()

    def __iter__(self) -> Iterator[bytes]:
        try:
            for _ in range(min(self._tuning.connections, self._count)):
                threads.start(self._work, "part")
            while self._taken < self._count:
                piece = self._next()
                if piece is not None:
                    self.position += len(piece)
                    yield piece
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _next(self) -> bytes | None:
        """The next piece in order; None if a part has come to its end."""
        with self._changed:
            number = self._taken
            while True:
                if self._parts.get(number):
                    return self._parts[number].popleft()
                if number in self._finished:
                    del self._parts[number]
                    self._finished.discard(number)
                    self._taken += 1
                    self._changed.notify_all()
                    return None
                if self._error is not None:
                    raise self._error
                self._changed.wait()

    def _work(self) -> None:
        try:
            while True:
                with self._changed:
                    while self._todo and not self._over:
                        # In order, and no further ahead than there is memory.
                        if self._todo[0][0] < self._taken + self._tuning.connections:
                            break
                        self._changed.wait()
                    if not self._todo or self._over or self._error is not None:
                        return
                    number, start, end = self._todo.popleft()
                    self._parts[number] = deque()
                self._fetch(number, start, end)
        except BaseException as error:
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()

    def _fetch(self, number: int, start: int, end: int) -> None:
        stream = Stream(self._ask, start, end, self._size, self._tuning, strict=True)
        for piece in stream:
            with self._changed:
                if self._over:
                    return
                self._parts[number].append(piece)
                self._changed.notify_all()
        with self._changed:
            self._finished.add(number)
            self._changed.notify_all()


def fetch(ask: Ask, start: int, size: int, tuning: Tuning, clock: Callable[[], float]) -> Iterator[bytes]:
    """The bytes of a blob from ``start`` on. Raises RegistryError, Overlong or Truncated.

    A large one begins with a part: if the registry gives just that, and it was waited for longer
    than it took to use, the rest comes over several connections.
    """
    position = start
    several = tuning.part > 0 and tuning.connections > 1
    if several and size - start > 2 * tuning.part:
        begun = clock()
        stream = Stream(ask, start, start + tuning.part, size, tuning)
        yield from stream
        position = stream.position
        if position < size and stream.waited > _WAITING * (clock() - begun):
            parallel = Parallel(ask, position, size, tuning)
            try:
                yield from parallel
                return
            except NoRanges:
                position = parallel.position
    if position < size:
        yield from Stream(ask, position, size, size, tuning)
