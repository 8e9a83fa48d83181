"""What a pull has in memory while layers come: bounded, whatever their sizes, number and compression."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from bench import images, timer
from integration import faults
from integration.faults import GZIP, OCI, Front
from integration.registry import Registry
from integration.trees import entry, layer
from torture.processes import finish, start

MEBIBYTE = 1 << 20
#: Bytes of all processes of a pull together.
BOUND = 200 * MEBIBYTE
#: Twenty layers, about 200 MB. The first are so large that each has several connections at work.
SIZES = [32 * MEBIBYTE] * 4 + [4 * MEBIBYTE] * 16
FOREVER = 10**9

Blob = tuple[bytes, bytes, str]


def stored(tar: bytes) -> Blob:
    return gzip.compress(tar, 0, mtime=0), tar, GZIP


def squeezed(tar: bytes) -> Blob:
    return gzip.compress(tar, 1, mtime=0), tar, GZIP


def windowed(tar: bytes, log: int) -> Blob:
    """In zstd, with a window of 1 << ``log`` bytes."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=log)
    # As a stream of unknown length: the window of what is known to be short is smaller.
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return stream.compress(tar) + stream.flush(), tar, f"{OCI}.layer.v1.tar+zstd"


def peak(base: Path, reference: str) -> int:
    """The largest sum of the memory of all processes of a pull."""
    process = start(base, reference)
    memory = timer.watch(process.pid)
    status, _, said = finish(process)
    assert status == 0, said
    return memory["several"]


def layers(sizes: list[int], pack: Callable[[bytes], Blob], content: Callable[[int], bytes]) -> list[Blob]:
    return [pack(layer([entry(f"f{n}", content=content(size))])) for n, size in enumerate(sizes)]


@pytest.mark.parametrize(
    "rate",
    [
        pytest.param(None, id="fast", marks=pytest.mark.torture),
        pytest.param(4 * MEBIBYTE, id="slow", marks=pytest.mark.sample),
    ],
)
def test_twenty_layers(rate: int | None, front: Front, tmp_path: Path) -> None:
    front.put("a/b", "1", layers(SIZES, stored, random.Random(1).randbytes))
    if rate:
        front.on("/blobs/", faults.limited(rate), times=FOREVER)
    assert peak(tmp_path, f"{front.host}/a/b:1") <= BOUND
    assert front.most_open > 4 or not rate


@pytest.mark.sample
def test_layers_that_are_hundreds_of_times_as_large_unpacked(front: Front, tmp_path: Path) -> None:
    front.put("a/b", "1", layers([64 * MEBIBYTE] * 4, squeezed, bytes))
    assert peak(tmp_path, f"{front.host}/a/b:1") <= BOUND


@pytest.mark.parametrize(
    ("log", "size"),
    [
        pytest.param(23, 16 * MEBIBYTE, marks=pytest.mark.torture),
        pytest.param(25, 40 * MEBIBYTE, marks=pytest.mark.torture),
        pytest.param(27, 136 * MEBIBYTE, marks=pytest.mark.sample),
    ],
)
def test_zstd_layers_of_large_windows(log: int, size: int, front: Front, tmp_path: Path) -> None:
    """Their windows alone would be more, would they all be there at the same time."""
    beginning = random.Random(2).randbytes(6 * MEBIBYTE)
    content = beginning + bytes(size - len(beginning))
    front.put("a/b", "1", layers([size] * 4, lambda tar: windowed(tar, log), lambda _: content))
    assert peak(tmp_path, f"{front.host}/a/b:1") <= BOUND


@pytest.mark.torture
@pytest.mark.timeout(3600)  # the image may have to be made first
def test_a_real_image_of_two_gigabytes(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    try:
        reference = registry.push(images.many(), "", "many:1")
        assert peak(tmp_path, reference) <= BOUND
    finally:
        registry.stop()
