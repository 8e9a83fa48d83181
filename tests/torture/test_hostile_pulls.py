"""Pulls of hostile layers: each ends with one clear line, within its bounds, and leaves nothing behind."""

from __future__ import annotations

import gzip
import random
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import timer
from integration import faults, sound
from integration.faults import GZIP, Front, packed
from integration.trees import entry, layer
from torture.processes import finish, start, survivors
from torture.test_pull_memory import BOUND, FOREVER, MEBIBYTE, Blob

#: Bytes that are not compressible, and so many that a process of its own converts them.
FILLING = random.Random(3).randbytes(6 * MEBIBYTE)
GOOD = layer([entry("filling", content=FILLING)])


def bomb(size: int) -> Blob:
    """A layer of ``size`` zeros, a thousand times as large as its blob. What it would be is never known."""
    member = tarfile.TarInfo("zeros")
    member.size = size
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    head = deflate.compress(member.tobuf(tarfile.PAX_FORMAT)) + deflate.flush(zlib.Z_FULL_FLUSH)
    part = deflate.compress(bytes(64 * MEBIBYTE)) + deflate.flush(zlib.Z_FULL_FLUSH)
    start_of_file = gzip.compress(b"", mtime=0)[:10]
    return start_of_file + head + part * (size // (64 * MEBIBYTE)), b"", GZIP


def liar() -> Blob:
    blob, _, kind = packed(GOOD)
    return blob, b"something else", kind


def cut_short() -> Blob:
    return packed(GOOD[: 5 * MEBIBYTE])


def damaged() -> Blob:
    blob, tar, kind = packed(GOOD)
    return blob[: 5 * MEBIBYTE] + bytes(1000) + blob[5 * MEBIBYTE + 1000 :], tar, kind


def outside() -> Blob:
    return packed(layer([entry("filling", content=FILLING), entry("../x")]))


def device() -> Blob:
    return packed(layer([entry("filling", content=FILLING), entry("sda", tarfile.BLKTYPE)]))


def fails(base: Path, reference: str, **variables: str) -> tuple[str, int]:
    """The one line of a pull that leaves nothing, and the bytes that its processes had in memory."""
    process = start(base, reference, **variables)
    memory = timer.watch(process.pid)
    status, _, said = finish(process)
    assert survivors(base, patience=0) == []
    assert status == 1 and said.count("\n") == 1, said
    assert sound.leftovers(base / "store") == [] and sound.faults(base / "store") == []
    return said, memory["several"]


@pytest.mark.sample
def test_ten_gigabytes_from_ten_megabytes_stop_at_their_limit(front: Front, tmp_path: Path) -> None:
    layers = [bomb(10 << 30)]
    assert len(layers[0][0]) < 11 * MEBIBYTE
    front.put("a/b", "1", layers)
    limit = 128 * MEBIBYTE
    said, memory = fails(tmp_path, f"{front.host}/a/b:1", PINNACE_MAX_LAYER_SIZE=str(limit))
    assert f"unpacks to more than {limit} bytes" in said and 0 < memory <= BOUND
    assert sound.objects(tmp_path / "store") == {}


@pytest.mark.torture
def test_ten_gigabytes_from_ten_megabytes_are_not_meant_unless_somebody_says_so(
    front: Front, tmp_path: Path
) -> None:
    front.put("a/b", "1", [bomb(10 << 30)])
    said, memory = fails(tmp_path, f"{front.host}/a/b:1")
    assert "raise max_layer_ratio if that is meant" in said and 0 < memory <= BOUND


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(outside, marks=pytest.mark.sample),
        *(pytest.param(one, marks=pytest.mark.torture) for one in (liar, cut_short, damaged, device)),
    ],
)
def test_a_hostile_layer_ends_the_processes_of_all(
    hostile: Callable[[], Blob], front: Front, tmp_path: Path
) -> None:
    """Beside others that are large as well and come so slowly that they are far from their ends."""
    slow = [packed(layer([entry(name, content=FILLING)])) for name in ("one", "two")]
    front.put("a/b", "1", [*slow, hostile()])
    for blob, _, _ in slow:
        front.on(faults.digest_of(blob), faults.limited(MEBIBYTE), times=FOREVER)
    fails(tmp_path, f"{front.host}/a/b:1")
