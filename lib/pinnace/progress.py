"""Telling a user what takes time.

Code that does the work is given a ``Progress`` and calls it from any thread; it never prints.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from pinnace.errors import one_line

if TYPE_CHECKING:
    from types import TracebackType

#: Seconds between two lines where there is no terminal.
INTERVAL = 5.0


class Progress:
    """Says nothing: the base of the others and what ``--quiet`` uses."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def message(self, text: str) -> None:
        """Something a user wants to know once, such as what is waited for."""

    def started(self, name: str, total: int) -> None:
        """A transfer of ``total`` bytes begins."""

    def advanced(self, name: str, count: int) -> None:
        """``count`` more bytes of ``name`` arrived."""

    def finished(self, name: str) -> None:
        """``name`` is complete or was given up."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class PlainProgress(Progress):
    """One line on ``stream`` for each message, and one every few seconds while bytes arrive."""

    def __init__(self, stream: TextIO | None = None, interval: float = INTERVAL) -> None:
        self._stream = stream or sys.stderr
        self._interval = interval
        self._lock = threading.Lock()
        self._total = self._done = 0
        self._last = time.monotonic()

    def message(self, text: str) -> None:
        # A reader that went away must not stop the work.
        with suppress(OSError, ValueError):
            self._stream.write(f"pinnace: {one_line(text)}\n")
            self._stream.flush()

    def started(self, name: str, total: int) -> None:
        with self._lock:
            self._total += total

    def advanced(self, name: str, count: int) -> None:
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now - self._last < self._interval:
                return
            self._last = now
            text = f"{size(self._done)} of {size(self._total)} downloaded"
        self.message(text)


class TerminalProgress(Progress):
    """A line for each layer and one for all of them, drawn by rich."""

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
        from rich.progress import Progress as Display

        self._console = console or Console(stderr=True)
        self._display = Display(
            TextColumn("{task.description:>12}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            console=self._console,
            transient=True,
        )
        self._lock = threading.Lock()
        self._tasks: dict[str, Any] = {}
        self._all: Any = None

    def message(self, text: str) -> None:
        self._console.print(f"pinnace: {one_line(text)}", markup=False, highlight=False, soft_wrap=True)

    def started(self, name: str, total: int) -> None:
        with self._lock:
            if self._all is None:
                self._all = self._display.add_task("total", total=0)
                self._display.start()
            self._tasks[name] = self._display.add_task(name, total=total)
            self._display.update(self._all, total=self._total() + total)

    def advanced(self, name: str, count: int) -> None:
        with self._lock:
            if name in self._tasks:  # not finished: a hostile manifest may name a blob twice
                self._display.advance(self._tasks[name], count)
            self._display.advance(self._all, count)

    def finished(self, name: str) -> None:
        with self._lock:
            task = self._tasks.pop(name, None)
            if task is not None:
                self._display.remove_task(task)

    def close(self) -> None:
        self._display.stop()

    def _total(self) -> float:
        return float(next(task.total or 0 for task in self._display.tasks if task.id == self._all))


def for_stream(stream: TextIO | None = None, *, quiet: bool = False) -> Progress:
    """What suits ``stream`` (standard error unless given): nothing, plain lines or a display."""
    stream = stream or sys.stderr
    if quiet or stream is None:  # None: standard error is closed
        return Progress()
    if stream.isatty():
        with suppress(ImportError):
            return TerminalProgress()
    return PlainProgress(stream)


def size(count: float) -> str:
    """``count`` bytes for people, in powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
