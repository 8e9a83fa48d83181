"""Telling a user what takes time.

Code that does the work is given a ``Progress`` and calls it from any thread; it never prints.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from pinnace.errors import one_line

if TYPE_CHECKING:
    from types import TracebackType

#: Seconds between two lines where there is no terminal.
INTERVAL = 5.0
#: Seconds over which the rate is measured.
_WINDOW = 15.0


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


class Meter:
    """Counts bytes of all transfers, and how fast they came lately. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = self.done = 0
        self._clock = clock
        self._marks = deque([(clock(), 0)])

    def started(self, total: int) -> None:
        self.total += total

    def advanced(self, count: int) -> None:
        self.done += count
        now = self._clock()
        if now - self._marks[-1][0] >= 1.0:
            self._marks.append((now, self.done))
            while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW:
                self._marks.popleft()

    def rate(self) -> float:
        """Bytes a second."""
        begun, before = self._marks[0]
        passed = self._clock() - begun
        return (self.done - before) / passed if passed > 0 else 0.0

    def remaining(self) -> float | None:
        """Seconds until all that has begun is there; None if nothing moves."""
        rate = self.rate()
        return (self.total - self.done) / rate if rate > 0 else None


class PlainProgress(Progress):
    """One line on ``stream`` for each message, and one every few seconds while bytes arrive."""

    def __init__(
        self,
        stream: TextIO | None = None,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._meter = Meter(clock)
        self._last = clock()

    def message(self, text: str) -> None:
        # A reader that went away must not stop the work.
        with suppress(OSError, ValueError):
            self._stream.write(f"pinnace: {one_line(text)}\n")
            self._stream.flush()

    def started(self, name: str, total: int) -> None:
        with self._lock:
            self._meter.started(total)

    def advanced(self, name: str, count: int) -> None:
        with self._lock:
            self._meter.advanced(count)
            now = self._clock()
            if now - self._last < self._interval:
                return
            self._last = now
            text = f"{size(self._meter.done)} of {size(self._meter.total)} downloaded"
            text += f", {size(self._meter.rate())}/s"
            left = self._meter.remaining()
            if left is not None:
                text += f", {duration(left)} left"
        self.message(text)


class JsonProgress(Progress):
    """One JSON object a line on ``stream``: docs/registry-configuration.md lists the events."""

    def __init__(
        self,
        stream: TextIO | None = None,
        interval: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stdout
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._meter = Meter(clock)
        self._last = clock()
        self._layers: dict[str, list[int]] = {}

    def event(self, kind: str, **facts: Any) -> None:
        """Write an event."""
        line = json.dumps({"event": kind, **facts})
        with suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    def message(self, text: str) -> None:
        with self._lock:
            self.event("message", text=text)

    def started(self, name: str, total: int) -> None:
        with self._lock:
            self._meter.started(total)
            self._layers[name] = [0, total]
            self.event("layer-started", layer=name, size=total)

    def advanced(self, name: str, count: int) -> None:
        with self._lock:
            self._meter.advanced(count)
            if name in self._layers:
                self._layers[name][0] += count
            now = self._clock()
            if now - self._last < self._interval:
                return
            self._last = now
            self.event(
                "progress",
                done=self._meter.done,
                total=self._meter.total,
                rate=round(self._meter.rate()),
                remaining=self._meter.remaining(),
                layers={name: done for name, (done, _) in self._layers.items()},
            )

    def finished(self, name: str) -> None:
        with self._lock:
            done, total = self._layers.pop(name, (0, 0))
            self.event("layer-finished", layer=name, size=total, complete=done >= total)


class TerminalProgress(Progress):
    """A line for each layer and one for all of them, drawn by rich."""

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as Display

        self._console = console or Console(stderr=True)
        self._display = Display(
            TextColumn("{task.description:>12}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
        )
        self._lock = threading.Lock()
        self._tasks: dict[str, Any] = {}
        self._all: Any = None
        self._total = 0

    def message(self, text: str) -> None:
        self._console.print(f"pinnace: {one_line(text)}", markup=False, highlight=False, soft_wrap=True)

    def started(self, name: str, total: int) -> None:
        with self._lock:
            if self._all is None:
                self._all = self._display.add_task("total", total=0)
                self._display.start()
            self._total += total
            self._tasks[name] = self._display.add_task(name, total=total)
            self._display.update(self._all, total=self._total)

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


def for_stream(stream: TextIO | None = None, *, quiet: bool = False, as_json: bool = False) -> Progress:
    """What suits ``stream`` (standard error unless given): nothing, plain lines or a display.

    With ``as_json`` it is events on standard output.
    """
    if as_json:
        return JsonProgress()
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


def duration(seconds: float) -> str:
    """``seconds`` for people."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
