"""What files take: every block counted once."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnace.store import usage
from pinnace.store.usage import Account, Usage

_FICLONE = 0x40049409


def file(number: int, allocated: int, *shared: tuple[int, int]) -> Usage:
    return Usage((1, number), allocated, allocated, shared)


def test_a_file_with_several_names_counts_once_and_frees_with_the_last() -> None:
    one = file(1, 100)
    account = Account([one, one, file(2, 10)])
    assert account.total == 110
    assert account.remove([one]) == 0 and account.remove([one]) == 100 and account.total == 10


def test_blocks_that_files_share_count_once_and_free_with_the_last() -> None:
    first, second = file(1, 100, (0, 60)), file(2, 80, (20, 100))
    account = Account([first, second])
    assert account.total == 40 + 100
    assert account.remove([first]) == 40 + 20
    assert account.remove([second]) == 80 and account.total == 0


def test_what_would_become_free_is_told_without_a_change() -> None:
    files = [file(1, 100, (0, 60)), file(2, 80, (20, 100)), file(3, 7)]
    account = Account(files)
    assert account.without(files[:1]) == 60
    assert account.without(files) == account.total == 147


def test_a_file_without_clones_takes_its_blocks(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb+") as stream:
        stream.seek(1 << 20)
        stream.write(b"1" * 8192)
        stream.flush()
        found = usage.of(stream.fileno())
    assert found.size == (1 << 20) + 8192 and found.shared == ()
    assert found.allocated == path.stat().st_blocks * 512 < 1 << 20


@pytest.fixture
def reflinks(tmp_path: Path) -> Iterator[Path]:
    """A file system with reflinks."""
    if os.geteuid() != 0:
        pytest.skip("a file system of its own needs root")
    disk, place = tmp_path / "disk", tmp_path / "place"
    place.mkdir()
    with disk.open("wb") as stream:
        stream.truncate(400 << 20)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", str(disk)], check=True)
    if (
        subprocess.run(
            ["mount", "-o", "loop,allocsize=4k", str(disk), str(place)], capture_output=True
        ).returncode
        != 0
    ):
        pytest.skip("this kernel has no XFS")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_clones_count_once(reflinks: Path) -> None:
    size = 4 << 20
    (reflinks / "one").write_bytes(os.urandom(size))
    with (reflinks / "one").open("rb") as one, (reflinks / "other").open("wb+") as other:
        fcntl.ioctl(other.fileno(), _FICLONE, one.fileno())
        other.seek(0, os.SEEK_END)
        other.write(os.urandom(1 << 20))
        other.flush()
        os.fsync(other.fileno())
        files = [usage.of(one.fileno()), usage.of(other.fileno())]
    account = Account(files)
    assert sum(entry.allocated for entry in files) >= 9 << 20
    assert account.total == 5 << 20
    assert account.without(files[1:]) == 1 << 20
