"""What users and programs are told of a pull."""

from __future__ import annotations

import io
import json
from typing import Any

from pinnace import progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_tell_amount_rate_and_time_left() -> None:
    clock, stream = Clock(), io.StringIO()
    display = progress.PlainProgress(stream, interval=5, clock=clock)
    display.started("a", 100 << 20)
    for _ in range(10):
        clock.now += 1
        display.advanced("a", 1 << 20)
    assert stream.getvalue().splitlines() == [
        "pinnace: 5.0 MiB of 100.0 MiB downloaded, 1.0 MiB/s, 1 min 35 s left",
        "pinnace: 10.0 MiB of 100.0 MiB downloaded, 1.0 MiB/s, 1 min 30 s left",
    ]


def test_the_rate_is_that_of_late() -> None:
    clock = Clock()
    meter = progress.Meter(clock)
    meter.started(1000)
    assert meter.remaining() is None
    for speed in [1] * 20 + [10] * 40:
        clock.now += 1
        meter.advanced(speed)
    assert meter.rate() == 10


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_events_are_objects_one_a_line() -> None:
    clock, stream = Clock(), io.StringIO()
    with progress.JsonProgress(stream, clock=clock) as display:
        display.message("two\nlines")
        display.started("a", 10)
        clock.now = 2
        display.advanced("a", 4)
        display.advanced("a", 6)
        display.finished("a")
        display.started("b", 5)
        display.finished("b")
    assert events(stream) == [
        {"event": "message", "text": "two\nlines"},
        {"event": "layer-started", "layer": "a", "size": 10},
        {"event": "progress", "done": 4, "total": 10, "rate": 2, "remaining": 3.0, "layers": {"a": 4}},
        {"event": "layer-finished", "layer": "a", "size": 10, "complete": True},
        {"event": "layer-started", "layer": "b", "size": 5},
        {"event": "layer-finished", "layer": "b", "size": 5, "complete": False},
    ]


def test_a_reader_of_events_that_went_away_stops_nothing() -> None:
    stream = io.StringIO()
    stream.close()
    progress.JsonProgress(stream).message("x")


def test_durations_are_for_people() -> None:
    assert [progress.duration(n) for n in (0.4, 59, 61, 3600, 7260)] == [
        "0 s",
        "59 s",
        "1 min 1 s",
        "1 h 0 min",
        "2 h 1 min",
    ]
