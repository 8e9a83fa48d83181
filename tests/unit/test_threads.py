"""Threads: they start, or one line says why not."""

from __future__ import annotations

import threading

import pytest

from pinnace import threads
from pinnace.errors import HostError


def test_it_does_the_work_and_does_not_keep_the_process() -> None:
    done = threading.Event()
    thread = threads.start(done.set, "test")
    assert done.wait(60)
    assert (thread.name, thread.daemon) == ("test", True)


def test_one_that_cannot_start_is_one_line_with_what_to_do() -> None:
    before = threading.stack_size(1 << 46)  # more than there can be
    try:
        with pytest.raises(HostError, match="cannot start a thread") as found:
            threads.start(lambda: None, "test")
    finally:
        threading.stack_size(before)
    assert "ulimit" in (found.value.hint or "")
