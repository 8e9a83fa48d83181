"""Spliced images, as the kernel, squashfuse and unsquashfs see them."""

from __future__ import annotations

import os
import random
import tarfile
from pathlib import Path

import pytest

from integration.registry import run
from integration.stacks import random_layers
from integration.test_pull_flattening import ROOT, flatten
from integration.trees import directory, entry, hardlink, layer
from integration.views import kernel
from pinnace import digest
from pinnace.errors import ImageError, StoreError
from pinnace.layers import Format, Limits, assemble, convert, digest_of

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="the kernel's squashfs needs root"),
]


def test_files_of_all_sizes_keep_their_bytes(tmp_path: Path) -> None:
    block = FORM_BLOCK
    sizes = (0, 1, block - 1, block, block + 1, 3 * block, 3 * block + 77, 20 * block + 1)
    choose = random.Random(7)
    contents = {f"f{size}": choose.randbytes(size) for size in sizes}
    contents["sparse"] = b"a" + bytes(10 * block) + b"z"
    lower = layer([ROOT, *(entry(name, content=content[::-1]) for name, content in contents.items())])
    upper = layer([ROOT, *(entry(name, content=content) for name, content in contents.items())])
    with kernel(flatten([lower, upper], tmp_path), tmp_path / "kernel") as place:
        assert {path.name: path.read_bytes() for path in place.iterdir()} == contents


def test_hard_links_over_layers_count_their_names(tmp_path: Path) -> None:
    lower = layer([ROOT, entry("f", content=b"x" * 100_000), hardlink("g", "f")])
    upper = layer([ROOT, hardlink("h", "f"), entry(".wh.g")])
    with kernel(flatten([lower, upper], tmp_path), tmp_path / "kernel") as place:
        assert sorted(path.name for path in place.iterdir()) == ["f", "h"]
        assert (place / "f").stat().st_nlink == 2
        assert (place / "f").stat().st_ino == (place / "h").stat().st_ino


def test_every_kind_of_file_has_attributes(tmp_path: Path) -> None:
    pax = {"SCHILY.xattr.user.one": "1", "SCHILY.xattr.user.two": "2" * 5000}
    fifo, content = entry("fifo", tarfile.FIFOTYPE, pax=pax)
    made = layer([ROOT, (fifo, content), entry("file", content=b"x", pax=pax), (*directory("dir"),)])
    with kernel(flatten([made, layer([ROOT])], tmp_path), tmp_path / "kernel") as place:
        assert os.getxattr(place / "file", "user.two") == b"2" * 5000
        assert (place / "fifo").is_fifo()


def test_what_no_file_uses_is_left_out(tmp_path: Path) -> None:
    big = random.Random(1).randbytes(5_000_000)
    image = flatten([layer([ROOT, entry("f", content=big)]), layer([ROOT, entry(".wh.f")])], tmp_path)
    assert image.stat().st_size < 100_000


def test_the_same_layers_give_the_same_bytes(tmp_path: Path) -> None:
    layers = random_layers(5)
    images = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        images.append(flatten(layers, tmp_path / name).read_bytes())
    assert images[0] == images[1]


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    big = random.Random(2).randbytes(3_000_000)
    image = flatten([layer([ROOT, entry("f", content=big)]), *random_layers(3)], tmp_path)
    files = sorted(str(path) for path in tmp_path.glob("[0-9].sqsh"))
    assert digest_of(files, Format()) == digest.of_file(str(image))


@pytest.mark.parametrize("compressor", ["zstd", "gzip"])
def test_images_keep_their_layers_compressor(tmp_path: Path, compressor: str) -> None:
    form = Format(compressor=compressor)
    content = layer([ROOT, entry("f", content=b"x" * 300_000)])
    target = str(tmp_path / "layer.sqsh")
    convert(iter([content]), digest.of_bytes(content), target, form, Limits())
    assemble([target], str(tmp_path / "image.sqsh"), form)
    with kernel(tmp_path / "image.sqsh", tmp_path / "kernel") as place:
        assert (place / "f").read_bytes() == b"x" * 300_000


def test_an_image_without_layers_is_an_empty_directory(tmp_path: Path) -> None:
    assemble([], str(tmp_path / "image.sqsh"), Format())
    with kernel(tmp_path / "image.sqsh", tmp_path / "kernel") as place:
        assert list(place.iterdir()) == []


@pytest.mark.parametrize("damage", range(40))
def test_a_damaged_layer_is_an_error_or_makes_no_difference(tmp_path: Path, damage: int) -> None:
    """Bytes changed anywhere in the metadata end in an error of ours and never in another one."""
    flatten(random_layers(9), tmp_path)
    files = sorted(str(path) for path in tmp_path.glob("[0-9].sqsh"))
    content = bytearray(Path(files[0]).read_bytes())
    choose = random.Random(damage)
    for _ in range(3):
        content[choose.randrange(40, len(content))] = choose.randrange(256)
    Path(files[0]).write_bytes(content)
    target = tmp_path / "again.sqsh"
    try:
        assemble(files, str(target), Format())
    except ImageError as error:
        assert "damaged" in str(error) or "layer" in str(error) or "hard link" in str(error)
        assert not target.exists()


def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    image = flatten([layer([ROOT, entry("f", content=random.Random(3).randbytes(3_000_000))])], tmp_path)
    small = tmp_path / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(small))
    try:
        with pytest.raises(StoreError, match="no space left"):
            assemble([str(image.with_name("0.sqsh"))], str(small / "image.sqsh"), Format())
        assert list(small.iterdir()) == []
    finally:
        run("umount", str(small))


FORM_BLOCK = Format().block_size
