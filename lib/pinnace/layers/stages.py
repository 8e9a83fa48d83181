"""A stage of a stream that runs beside the others."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import Empty, Queue
from typing import Any

from pinnace import threads

#: Pieces that may wait between two stages.
_DEPTH = 3
_END = object()


def ahead(pieces: Iterator[bytes]) -> Generator[bytes, None, None]:
    """The same pieces, made by a thread of their own some way ahead of whoever takes them.

    Inflating and hashing leave Python's lock, so that stages chained so have a processor each.
    What ``pieces`` raises is raised here, after the pieces before it. If this is closed early the
    thread ends with the piece that it is at.
    """
    waiting: Queue[Any] = Queue(_DEPTH)
    over = threading.Event()

    def work() -> None:
        try:
            for piece in pieces:
                if over.is_set():
                    return
                waiting.put(piece)
        except BaseException as error:
            waiting.put(error)
        else:
            waiting.put(_END)

    threads.start(work, "stage")
    piece: Any = None
    try:
        while (piece := waiting.get()) is not _END:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        del piece  # an error that this frame refers to would keep it, and all before it, from ending
        over.set()
        _empty(waiting)


def _empty(waiting: Queue[Any]) -> None:
    """Make room for the one piece that a thread may be about to put before it looks again."""
    try:
        while True:
            waiting.get_nowait()
    except Empty:
        pass
