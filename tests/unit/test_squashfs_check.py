"""The check of a user's squashfs file."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from eyes import Eyes
from pinnace import squashfs
from pinnace.errors import ImageError


def superblock(magic: int = 0x73717368, block_log: int = 17, major: int = 4, used: int = 96) -> bytes:
    fields = (magic, 5, 0, 1 << 17, 0, 6, block_log, 0, 1, major, 0, 0, used)
    return struct.pack("<IIIIIHHHHHHQQ", *fields).ljust(96, b"\0")


def refused(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        squashfs.check(str(path))
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_whole_file_passes(tmp_path: Path) -> None:
    (tmp_path / "i").write_bytes(superblock())
    assert squashfs.check(str(tmp_path / "i")).compressor == "zstd"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a squashfs file"),
        (b"x" * 200, "is not a squashfs file"),
        (superblock(magic=1), "is not a squashfs file"),
        (superblock(major=3), "is squashfs 3.0"),
        (superblock(block_log=16), "damaged superblock"),
        (superblock(used=97), "is truncated: it has 96 of 97 bytes"),
        (superblock(used=1), "is truncated"),
    ],
)
def test_what_is_no_squashfs_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "i").write_bytes(content)
    assert message in refused(tmp_path / "i")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "no.sqsh")


def test_a_directory_is_told(tmp_path: Path) -> None:
    assert "is a directory" in refused(tmp_path)


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p")
    assert "not a regular file" in refused(tmp_path / "p")


def test_an_unreadable_file_is_told(tmp_path: Path, ordinary_eyes: Eyes) -> None:
    (tmp_path / "i").touch(0)
    with ordinary_eyes():
        assert "Permission denied" in refused(tmp_path / "i")


@pytest.mark.parametrize(
    ("options", "owners", "root_alone"),
    [
        ([], (0, 0), True),
        ([], (1234, 0), False),
        ([], (0, 1234), False),
        (["-all-root"], (1234, 1234), True),
        (["-comp", "lzo"], (0, 0), True),
        (["-comp", "lzo", "-noI"], (7, 8), False),
    ],
)
def test_who_owns_the_files_is_told_without_reading_them(
    options: list[str], owners: tuple[int, int], root_alone: bool, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("files of others need root")
    tree, file = tmp_path / "tree", tmp_path / "x.sqsh"
    tree.mkdir()
    (tree / "f").touch()
    os.chown(tree / "f", *owners)
    subprocess.run(["mksquashfs", str(tree), str(file), "-quiet", "-noappend", *options], check=True)
    assert squashfs.is_all_root(str(file)) is root_alone
