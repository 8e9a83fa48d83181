"""Squashfs files that a stranger could write, unpacked: refused before anything is written, or harmless."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.errors import ImageError
from pinnace.layers.unpacking import survey, unpack
from pinnace.squashfs import format as layout
from pinnace.squashfs.reader import SquashFile
from unit.test_squashfs_hostile import BLOCK_SIZE, Builder


@pytest.fixture
def build() -> Builder:
    return Builder()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def unpacked(path: str, target: Path) -> None:
    with SquashFile(path) as squash:
        unpack(squash, survey(squash), str(target), workers=2)


def refused(path: str, target: Path) -> str:
    with pytest.raises(ImageError) as caught:
        unpacked(path, target)
    return str(caught.value)


def test_a_name_that_is_there_twice_is_refused(build: Builder, tmp_path: Path, target: Path) -> None:
    """The second could be written through the first, a link."""
    listing = build.listing(
        (b"a", layout.SYMLINK, build.symlink(b"/etc")), (b"a", layout.FILE, build.file(b"x"))
    )
    assert "a name twice" in refused(build.write(tmp_path / "i", build.directory(listing)), target)
    assert not list(target.iterdir())


def test_a_directory_in_itself_is_refused(build: Builder, tmp_path: Path, target: Path) -> None:
    listing = build.listing((b"a", layout.DIRECTORY, 0))
    assert "two names" in refused(build.write(tmp_path / "i", build.directory(listing)), target)


def test_directories_that_share_a_listing_are_refused(build: Builder, tmp_path: Path, target: Path) -> None:
    """A thousand directories with the same thousand names would be a million files."""
    shared = build.listing((b"f", layout.FILE, build.file(b"x")))
    children = [(b"d%d" % n, layout.DIRECTORY, build.directory(shared)) for n in range(100)]
    path = build.write(tmp_path / "i", build.directory(build.listing(*children)))
    assert "share a listing" in refused(path, target) and not list(target.iterdir())


def test_more_directories_in_one_another_than_can_be_removed_are_refused(
    build: Builder, tmp_path: Path, target: Path
) -> None:
    below = build.directory(build.listing())
    for _ in range(300):
        below = build.directory(build.listing((b"d", layout.DIRECTORY, below)))
    assert "250 directories" in refused(build.write(tmp_path / "i", below), target)


def test_a_kind_that_the_inode_contradicts_is_refused(build: Builder, tmp_path: Path, target: Path) -> None:
    listing = build.listing((b"a", layout.SYMLINK, build.file(b"x")))
    assert "contradict" in refused(build.write(tmp_path / "i", build.directory(listing)), target)


def test_a_block_that_is_shorter_than_its_file_is_refused(
    build: Builder, tmp_path: Path, target: Path
) -> None:
    build.data = b"abc"
    body = layout.BASIC_FILE.pack(layout.SUPERBLOCK.size, layout.NONE, 0, 100)
    file = build.add(layout.FILE, body + layout.NUMBER.pack(3 | layout.STORED))
    path = build.write(tmp_path / "i", build.directory(build.listing((b"a", layout.FILE, file))))
    assert "a data block has a wrong size" in refused(path, target)


def test_a_block_far_behind_the_end_is_refused(build: Builder, tmp_path: Path, target: Path) -> None:
    build.fragments = layout.FRAGMENT.pack((1 << 64) - 200, 100 | layout.STORED, 0)
    file = build.add(layout.FILE, layout.BASIC_FILE.pack(0, 0, 0, 100))
    path = build.write(tmp_path / "i", build.directory(build.listing((b"a", layout.FILE, file))))
    assert "a data block is not in it" in refused(path, target)


@pytest.mark.parametrize("link", [b"", b"a\0b"])
def test_a_link_that_no_kernel_makes_is_refused(
    link: bytes, build: Builder, tmp_path: Path, target: Path
) -> None:
    listing = build.listing((b"a", layout.SYMLINK, build.symlink(link)))
    path = build.write(tmp_path / "i", build.directory(listing))
    assert "impossible target" in refused(path, target) and not list(target.iterdir())


def test_holes_take_nothing_and_are_none_of_the_size(build: Builder, tmp_path: Path, target: Path) -> None:
    file = build.file(blocks=10_000)
    path = build.write(tmp_path / "i", build.directory(build.listing((b"a", layout.FILE, file))))
    with SquashFile(path) as squash:
        assert survey(squash).size == BLOCK_SIZE  # of the directory
    unpacked(path, target)
    status = (target / "a").stat()
    assert status.st_size == 10_000 * BLOCK_SIZE and status.st_blocks == 0


def test_files_of_the_same_blocks_count_each(build: Builder, tmp_path: Path) -> None:
    """So that a small file cannot fill a disk unnoticed."""
    first = build.file(b"x" * BLOCK_SIZE)
    start = layout.SUPERBLOCK.size
    body = layout.BASIC_FILE.pack(start, layout.NONE, 0, BLOCK_SIZE)
    same = [build.add(layout.FILE, body + layout.NUMBER.pack(BLOCK_SIZE | layout.STORED)) for _ in range(99)]
    names = [(b"f%02d" % n, layout.FILE, place) for n, place in enumerate([first, *same])]
    path = build.write(tmp_path / "i", build.directory(build.listing(*names)))
    with SquashFile(path) as squash:
        assert survey(squash).size == 101 * BLOCK_SIZE
