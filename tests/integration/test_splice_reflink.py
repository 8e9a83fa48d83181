"""Splicing on file systems with reflinks: the data is the layers' own, and the image no other."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.registry import run
from integration.test_pull_flattening import ROOT, flatten
from integration.trees import describe, entry, layer
from integration.views import kernel
from pinnace.layers import Format, assemble

MEBIBYTE = 1 << 20
#: Bytes of data in a layer, far more than a file system's own doings take.
DATA = 48 * MEBIBYTE


@pytest.fixture(params=["xfs", "btrfs"])
def reflinks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """An empty file system that has reflinks."""
    kind: str = request.param
    if os.geteuid() != 0:
        pytest.skip("a file system of its own needs root")
    # Kernels with modules load them for mount(8).
    image, place = tmp_path / "disk", tmp_path / "disk.mounted"
    with image.open("wb") as stream:
        stream.truncate(512 * MEBIBYTE)
    run(f"mkfs.{kind}", "-q", str(image))
    place.mkdir()
    try:
        run("mount", "-o", "loop", str(image), str(place))
    except AssertionError as error:
        pytest.skip(f"this kernel has no {kind}: {error}")
    try:
        yield place
    finally:
        run("umount", str(place))


def used(place: Path) -> int:
    os.sync()
    facts = os.statvfs(place)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize


def layers() -> list[bytes]:
    choose = random.Random(1)
    big = [entry(f"f{n}", content=choose.randbytes(DATA // 8 + n)) for n in range(8)]
    small = [entry(f"s{n}", content=choose.randbytes(n)) for n in range(300)]
    upper = [entry("new", content=choose.randbytes(MEBIBYTE)), entry(".wh.f3"), entry(".wh.s7")]
    return [layer([ROOT, *big, *small]), layer([ROOT, *upper])]


def test_an_image_shares_its_blocks_with_its_layers(reflinks: Path) -> None:
    flatten(layers(), reflinks)
    files = [str(reflinks / f"{number}.sqsh") for number in range(2)]
    (reflinks / "image.sqsh").unlink()
    before = used(reflinks)
    assemble(files, str(reflinks / "image.sqsh"), Format())
    assert (reflinks / "image.sqsh").stat().st_size > DATA // 2
    assert used(reflinks) - before < 2 * MEBIBYTE


def test_the_bytes_are_those_of_a_file_system_without_reflinks(reflinks: Path, tmp_path: Path) -> None:
    image = flatten(layers(), reflinks)
    files = [str(reflinks / f"{number}.sqsh") for number in range(2)]
    assemble(files, str(tmp_path / "copied.sqsh"), Format())  # from one file system to another
    assert (tmp_path / "copied.sqsh").read_bytes() == image.read_bytes()


def test_the_tree_outlives_the_layers(reflinks: Path, tmp_path: Path) -> None:
    stack = layers()
    (tmp_path / "other").mkdir()
    with kernel(flatten(stack, tmp_path / "other"), tmp_path / "other/kernel") as place:
        expected = describe(place)
    image = flatten(stack, reflinks)
    for number in range(2):
        (reflinks / f"{number}.sqsh").unlink()
    with kernel(image, tmp_path / "kernel") as place:
        assert describe(place) == expected
