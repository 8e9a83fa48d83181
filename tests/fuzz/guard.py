"""Limits of what one input may cost, and files that have no name."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

#: Bytes by which the process may grow for one input.
MEMORY = 256 << 20


class TooSlow(BaseException):
    """An input took more processor time than it may."""


class TooLarge(BaseException):
    """An input took more memory than it may."""


def _too_slow(*_: Any) -> None:
    raise TooSlow


def _peak(*, anew: bool = False) -> int:
    """Bytes of memory that this process had at the most, or has now from when on it counts ``anew``."""
    if anew:
        with open("/proc/self/clear_refs", "wb", buffering=0) as clear:
            clear.write(b"5")  # proc(5): forget the peak
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Run the block with ``seconds`` of processor time and ``MEMORY`` bytes of memory."""
    before = _peak(anew=True)
    signal.signal(signal.SIGPROF, _too_slow)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    grown = _peak() - before
    if grown > MEMORY:
        raise TooLarge(f"{grown >> 20} MiB")


@contextmanager
def files(*contents: bytes) -> Iterator[list[str]]:
    """Paths of files in memory with ``contents``."""
    with ExitStack() as stack:
        paths = []
        for content in contents:
            descriptor = os.memfd_create("input")
            stack.callback(os.close, descriptor)
            os.write(descriptor, content)
            paths.append(f"/proc/self/fd/{descriptor}")
        yield paths
