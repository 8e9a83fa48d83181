"""Squashfs files as plain directories: the same tree as the kernel shows, without what no user may make."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from eyes import Eyes
from integration.registry import run
from integration.trees import describe
from integration.views import kernel
from pinnace.layers import unpacking
from pinnace.squashfs.reader import SquashFile
from pinnace.store import removal

COMPRESSORS = ["zstd", "gzip", "xz"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


def packed(tree: Path, *options: str) -> Path:
    target = tree.with_name("image.sqsh")
    common = ("-quiet", "-no-progress", "-noappend")
    run("mksquashfs", str(tree), str(target), *common, *(options or ("-comp", "zstd")))
    return target


def unpacked(image: Path, workers: int = 3) -> Path:
    target = image.with_name("unpacked")
    target.mkdir()
    with SquashFile(str(image)) as squash:
        unpacking.unpack(squash, unpacking.survey(squash), str(target), workers)
    return target


def fill(tree: Path) -> None:
    """Files of all kinds and sizes."""
    (tree / "d/e").mkdir(parents=True)
    for number, size in enumerate((0, 1, 4096, 131_071, 131_072, 131_073, 400_000)):
        (tree / f"d/f{number}").write_bytes(os.urandom(size))
    for number in range(200):
        (tree / f"d/e/s{number}").write_bytes(b"x" * number)
    (tree / "l").symlink_to("d/f1")
    os.link(tree / "d/f6", tree / "d/e/link")
    with (tree / "sparse").open("wb") as stream:
        stream.seek(2_000_000)
        stream.write(b"middle")
        stream.truncate(5_000_000)
    os.mkfifo(tree / "p", 0o640)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tree / "s"))
    os.setxattr(tree / "d", "user.of", b"directory")
    os.setxattr(tree / "d/f1", "user.of", b"file")
    for time, path in enumerate([*tree.rglob("*"), tree]):
        os.utime(path, (time, 1_000_000_000 + time), follow_symlinks=False)


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_a_tree_is_what_was_packed(compressor: str, tree: Path) -> None:
    fill(tree)
    assert describe(unpacked(packed(tree, "-comp", compressor))) == describe(tree)


@pytest.mark.parametrize("workers", [1, 8])
def test_a_tree_is_what_the_kernel_shows(workers: int, tree: Path, tmp_path: Path) -> None:
    fill(tree)
    image = packed(tree, "-b", "4096", "-no-fragments")
    with kernel(image, tmp_path / "kernel") as place:
        assert describe(unpacked(image, workers)) == describe(place)


def test_a_large_file_is_written_by_several_threads(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "_LARGE", 1_000_000)
    monkeypatch.setattr(unpacking, "_PART", 300_000)
    (tree / "f").write_bytes(os.urandom(3_000_001))
    (tree / "whole").write_bytes(os.urandom(2 << 20))
    (tree / "f").chmod(0o400)
    os.setxattr(tree / "f", "user.of", b"file")
    assert describe(unpacked(packed(tree))) == describe(tree)


def test_holes_stay_holes(tree: Path) -> None:
    fill(tree)
    assert (unpacked(packed(tree)) / "sparse").stat().st_blocks * 512 < 1_000_000


def test_everything_is_the_callers_and_nothing_has_set_user_id_bits(tree: Path) -> None:
    (tree / "d").mkdir()
    (tree / "d/f").write_bytes(b"")
    for path, mode in ((tree / "d", 0o3777), (tree / "d/f", 0o6755)):
        os.chown(path, 1234, 4321)
        path.chmod(mode)
    found = unpacked(packed(tree))
    assert stat.S_IMODE((found / "d").stat().st_mode) == 0o1777
    assert stat.S_IMODE((found / "d/f").stat().st_mode) == 0o755
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in (found, *found.rglob("*"))}
    assert owners == {(os.geteuid(), os.getegid())}


def test_device_nodes_are_left_out(tree: Path) -> None:
    (tree / "dev").mkdir()
    os.mknod(tree / "dev/null", 0o020666, os.makedev(1, 3))
    os.mknod(tree / "mem", 0o060666, os.makedev(1, 1))
    image = packed(tree)
    with SquashFile(str(image)) as squash:
        assert unpacking.survey(squash).devices == 2
    assert [path.name for path in unpacked(image).rglob("*")] == ["dev"]


def test_attributes_that_mean_something_to_overlayfs_are_left_out(tree: Path) -> None:
    (tree / "d").mkdir()
    for name in ("user.overlay.opaque", "trusted.overlay.opaque", "user.kept"):
        os.setxattr(tree / "d", name, b"y")
    assert os.listxattr(unpacked(packed(tree)) / "d") == ["user.kept"]


def test_a_file_system_without_attributes_goes_without_them(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tree)
    image = packed(tree)
    monkeypatch.setattr(os, "setxattr", refusing)
    target = image.with_name("unpacked")
    target.mkdir()
    with SquashFile(str(image)) as squash:
        assert not unpacking.unpack(squash, unpacking.survey(squash), str(target), 2)
    assert os.listxattr(target / "d") == [] and (target / "d/f6").stat().st_size == 400_000


def refusing(*_: object) -> None:
    raise OSError(95, "Operation not supported")


def test_the_size_is_known_before(tree: Path) -> None:
    fill(tree)
    image = packed(tree)
    with SquashFile(str(image)) as squash:
        expected = unpacking.survey(squash).size
    target = unpacked(image)
    taken = sum(
        status.st_blocks * 512
        for status in {path.lstat().st_ino: path.lstat() for path in target.rglob("*")}.values()
    )
    assert abs(taken - expected) <= 0.1 * taken


# Removing


def locked_up(tree: Path) -> None:
    for mode, name in ((0o000, "a"), (0o555, "b"), (0o300, "c")):
        (tree / name / "below").mkdir(parents=True)
        (tree / name / "below/file").write_bytes(b"x")
        (tree / name / "below").chmod(mode)
        (tree / name).chmod(mode)


def test_directories_without_permissions_are_removed_by_their_owner(tree: Path, ordinary_eyes: Eyes) -> None:
    tree.chmod(0o777)
    tree.parent.chmod(0o777)
    with ordinary_eyes():
        locked_up(tree)
        removal.remove(str(tree))
        assert not tree.exists()


def test_removing_follows_no_link(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir(mode=0o500)
    (tmp_path / "kept/file").write_bytes(b"x")
    (tree / "link").symlink_to(tmp_path / "kept")
    removal.remove(str(tree))
    assert (tmp_path / "kept/file").exists() and stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o500


def test_a_link_in_the_place_of_a_directory_is_not_removed(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree)
    with pytest.raises(OSError):
        removal.remove(str(tmp_path / "link"))
    assert tree.exists()
