"""Threads that wait for others: registries, programs, disks."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

from pinnace.errors import HostError


def start(work: Callable[[], None], name: str) -> Thread:
    """Have a new thread do ``work``. Raises HostError if there are too many.

    It is a daemon: one that waits for a registry that says nothing must not keep the process.
    """
    thread = Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        raise HostError(
            "cannot start a thread",
            hint="check the limits of processes and memory (ulimit -a), or lower `connections`",
            identifier="too-many-threads",
        ) from None
    return thread
