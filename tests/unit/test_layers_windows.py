"""Memory for zstd's windows is shared by the streams that are decompressed at the same time."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator

import pytest
import zstandard

from pinnace.errors import ImageError
from pinnace.layers import decompression
from pinnace.layers.windows import Windows

MEBIBYTE = 1 << 20
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"


def packed(log: int, content: bytes = b"content" * 9) -> bytes:
    """A zstd stream of unknown length with a window of 1 << ``log`` bytes."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=log)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return stream.compress(content) + stream.flush()


@pytest.mark.parametrize(
    ("stream", "mebibytes"),
    [
        (b"", 0),
        (b"plain bytes, many of them", 0),
        (gzip.compress(b"x"), 0),
        (packed(20), 8),
        (packed(23), 8),
        (packed(25), 32),
        (packed(27), 128),
        (packed(28), 128),
        (SKIPPABLE + packed(20), 128),
        (packed(20)[:5], 0),
    ],
)
def test_the_first_frame_says_what_a_stream_asks_for(stream: bytes, mebibytes: int) -> None:
    assert decompression.window(stream) == mebibytes * MEBIBYTE


def pieces(stream: bytes) -> Iterator[bytes]:
    """A byte at a time."""
    return (stream[n : n + 1] for n in range(len(stream)))


@pytest.mark.parametrize("stream", [packed(27), SKIPPABLE + packed(27), packed(20) + packed(25)])
def test_streams_of_large_windows_are_decompressed(stream: bytes) -> None:
    plain = b"".join(decompression.decompressed(pieces(stream), "x"))
    assert plain == b"content" * 9 * stream.count(b"\x28\xb5\x2f\xfd")


@pytest.mark.parametrize("stream", [packed(28), packed(20) + packed(27)])
def test_a_window_that_nothing_announced_or_that_is_too_large_is_refused(stream: bytes) -> None:
    with pytest.raises(ImageError, match=r"cannot be decompressed: .*memory"):
        list(decompression.decompressed(pieces(stream), "x"))


def test_who_finds_no_room_waits() -> None:
    windows = Windows(64 * MEBIBYTE)
    begun, events = threading.Event(), []

    def other() -> None:
        begun.set()
        with windows.room(64 * MEBIBYTE):
            events.append("other")

    thread = threading.Thread(target=other)
    with windows.room(32 * MEBIBYTE), windows.room(32 * MEBIBYTE):
        thread.start()
        begun.wait()
        with windows.room(0):
            events.append("none")
        events.append("first")
    thread.join()
    assert events == ["none", "first", "other"]


def test_room_that_is_free_is_held_and_other_is_not_waited_for() -> None:
    windows = Windows(64 * MEBIBYTE)
    with windows.room_if_free(40 * MEBIBYTE) as first, windows.room_if_free(40 * MEBIBYTE) as second:
        assert (first, second) == (True, False)
        with windows.room_if_free(24 * MEBIBYTE) as rest, windows.room_if_free(-1) as none:
            assert rest and none
    with windows.room_if_free(64 * MEBIBYTE) as everything:
        assert everything


def test_a_window_larger_than_all_room_takes_all_of_it() -> None:
    windows = Windows(64 * MEBIBYTE)
    for _ in range(2):
        with windows.room(128 * MEBIBYTE), windows.room_if_free(1) as more:
            assert not more
        with windows.room_if_free(128 * MEBIBYTE) as all_of_it:
            assert all_of_it


def test_a_stream_that_fails_leaves_its_room() -> None:
    windows = Windows(64 * MEBIBYTE)
    for place in (windows.room, windows.room_if_free):
        with pytest.raises(ValueError), place(64 * MEBIBYTE):
            raise ValueError
    with windows.room_if_free(64 * MEBIBYTE) as free:
        assert free
