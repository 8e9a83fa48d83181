"""What a squashfs can hold at most, through conversion and splice, as the kernel sees it."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import pinnace
from integration.many import many_files
from integration.registry import run
from integration.test_pull_flattening import ROOT, flatten
from integration.trees import describe, directory, entry, hardlink, layer, symlink
from integration.views import VIEWS, kernel
from pinnace import digest
from pinnace.layers import Format, Limits, assemble, convert
from pinnace.squashfs.format import Superblock

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the kernel's squashfs needs root")

FORM = Format()
MEBIBYTE = 1 << 20


def test_names_of_255_bytes_may_have_any_value_but_a_slash(tmp_path: Path) -> None:
    name = bytes(byte for byte in range(1, 256) if byte != ord("/"))
    names = [os.fsdecode(name), os.fsdecode(name[::-1] + b"\xff"), "n" * 255]
    made = layer([ROOT, *(entry(name, content=os.fsencode(name)) for name in names)], form=1)
    upper = layer([ROOT, directory("d"), hardlink("d/link", names[1])], form=1)
    with kernel(flatten([made, upper], tmp_path), tmp_path / "kernel") as place:
        assert set(os.listdir(place)) == {"d", *names}
        assert (place / "d/link").read_bytes() == os.fsencode(names[1])


def test_paths_of_4095_bytes_are_reached(tmp_path: Path) -> None:
    parts = ["p" * 254] * 15 + ["e" * 250]
    path = "/".join(parts)
    target = "t/" * 2047
    made = layer([ROOT, entry(f"{path}/f", content=b"x"), symlink("l", target)])
    with kernel(flatten([made, layer([ROOT])], tmp_path), tmp_path / "kernel") as place:
        here = os.open(place, os.O_RDONLY)
        try:
            assert os.readlink("l", dir_fd=here) == target
            for part in parts:
                below = os.open(part, os.O_RDONLY, dir_fd=here)
                os.close(here)
                here = below
            assert os.listdir(here) == ["f"]
        finally:
            os.close(here)


def test_a_directory_of_60000_names_from_several_layers_is_whole(tmp_path: Path) -> None:
    layers = [many_files(6000, first=first, spread=6000) for first in range(0, 60_000, 5000)]
    with kernel(flatten(layers, tmp_path), tmp_path / "kernel") as place:
        (within,) = place.iterdir()
        names = os.listdir(within)
        assert len(names) == 61_000 == len(set(names))
        for name in names[::197]:  # a look-up goes by the directory's index
            assert (within / name).read_text() == name
        assert not (within / "0").exists()


def test_a_file_of_70000_names_counts_them(tmp_path: Path) -> None:
    links = [[hardlink(f"{n}-{m}", "f") for m in range(5000)] for n in range(14)]
    layers = [layer([ROOT, entry("f", content=b"x")]), *(layer([ROOT, *names]) for names in links)]
    with kernel(flatten(layers, tmp_path), tmp_path / "kernel") as place:
        assert (place / "f").stat().st_nlink == 70_001
        assert (place / "13-4999").stat().st_ino == (place / "f").stat().st_ino


def test_127_layers_are_one_image(tmp_path: Path) -> None:
    layers = [
        layer([ROOT, entry("same", content=b"%d" % n), entry(f"own{n}", content=b"%d" % n * 1000)])
        for n in range(127)
    ]
    with kernel(flatten(layers, tmp_path), tmp_path / "kernel") as place:
        assert (place / "same").read_bytes() == b"126"
        assert all((place / f"own{n}").read_bytes() == b"%d" % n * 1000 for n in range(127))


def test_values_of_attributes_that_files_share_are_there_once(tmp_path: Path) -> None:
    pax = {"SCHILY.xattr.user.shared": "v" * 2000}
    files = [entry(f"f{n}", pax={**pax, "SCHILY.xattr.user.own": str(n)}) for n in range(200)]
    image = flatten([layer([ROOT, *files])], tmp_path)
    assert image.stat().st_size < 100_000
    expected = None
    for view in VIEWS:
        with view(image, tmp_path / view.__name__) as place:
            expected = expected or describe(place)
            assert describe(place) == expected
            assert os.getxattr(place / "f199", "user.shared") == b"v" * 2000


def test_values_that_lie_elsewhere_are_read(tmp_path: Path) -> None:
    pax = {"SCHILY.xattr.user.long": "v" * 3000}
    entries = [entry(f"f{n}", pax={**pax, "SCHILY.xattr.user.n": str(n)}) for n in range(5)]
    image = flatten([layer([ROOT, *entries])], tmp_path)
    assemble([str(image)], str(tmp_path / "again.sqsh"), FORM)
    assert (tmp_path / "again.sqsh").read_bytes() == image.read_bytes()


def test_every_kind_of_inode_of_another_builder_is_kept(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "dir").mkdir(parents=True)
    for number, (name, kind) in enumerate({"c": stat.S_IFCHR, "b": stat.S_IFBLK}.items()):
        os.mknod(tree / name, kind | 0o600, os.makedev(300 + number, 70_000))
    os.mkfifo(tree / "p")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tree / "s"))
    (tree / "l").symlink_to("dir")
    (tree / "f").write_bytes(b"f" * 300_000)
    os.link(tree / "f", tree / "dir/f")
    for path in (tree / "dir", tree / "f"):
        os.setxattr(path, "user.x", b"1")
    os.setxattr(tree / "p", "trusted.x", b"1")
    file = tmp_path / "theirs.sqsh"
    run("mksquashfs", str(tree), str(file), "-comp", "zstd", "-quiet", "-no-progress")
    image = tmp_path / "image.sqsh"
    assemble([str(file)], str(image), FORM)
    with kernel(file, tmp_path / "before") as before, kernel(image, tmp_path / "after") as after:
        assert describe(after) == describe(before)
        for name in ("b", "c", "p", "s"):
            one, other = (before / name).stat(), (after / name).stat()
            assert (one.st_mode, one.st_rdev, one.st_nlink) == (other.st_mode, other.st_rdev, other.st_nlink)
        assert os.getxattr(after / "p", "trusted.x") == b"1"


def test_a_sparse_file_takes_no_room(tmp_path: Path) -> None:
    content = b"a" + bytes(40 * MEBIBYTE) + b"z"
    layers = [layer([ROOT, entry("sparse", content=content)]), layer([ROOT, hardlink("link", "sparse")])]
    image = flatten(layers, tmp_path)
    assert image.stat().st_size < 64 << 10
    with kernel(image, tmp_path / "kernel") as place:
        assert (place / "link").read_bytes() == content


@pytest.mark.torture
def test_files_and_images_of_more_than_4_gib_are_whole(tmp_path: Path) -> None:
    choose = random.Random(4)
    block = choose.randbytes(MEBIBYTE)
    files = []
    for number in range(2):
        size = 2300 * MEBIBYTE
        state, target = hashlib.sha256(), tmp_path / f"{number}.tar"
        with target.open("wb") as stream:
            head = entry(f"f{number}", content=b"")[0]
            head.size = size
            stream.write(head.tobuf())
            for position in range(size // MEBIBYTE):
                # Different everywhere and not to be compressed.
                stream.write(block[:-8] + position.to_bytes(4, "big") + number.to_bytes(4, "big"))
            stream.write(bytes(1024))
        with target.open("rb") as stream:
            while piece := stream.read(MEBIBYTE):
                state.update(piece)
        with target.open("rb") as stream:
            made = str(tmp_path / f"{number}.sqsh")
            chunks = iter(lambda: stream.read(MEBIBYTE), b"")
            convert(chunks, f"sha256:{state.hexdigest()}", made, FORM, Limits())
        target.unlink()
        files.append(made)
    hole = tmp_path / "hole"
    hole.mkdir()
    with (hole / "sparse").open("wb") as stream:
        stream.truncate(5 << 30)
        stream.seek(0, os.SEEK_END)
        stream.write(b"end")
    run("mksquashfs", str(hole), str(tmp_path / "2.sqsh"), "-comp", "zstd", "-quiet", "-no-progress")
    assemble([*files, str(tmp_path / "2.sqsh")], str(tmp_path / "image.sqsh"), FORM)
    assert (tmp_path / "image.sqsh").stat().st_size > 4 << 30
    with kernel(tmp_path / "image.sqsh", tmp_path / "kernel") as place:
        assert (place / "sparse").stat().st_size == (5 << 30) + 3
        with (place / "sparse").open("rb") as stream:
            stream.seek(-4, os.SEEK_END)
            assert stream.read() == b"\0end"
        for number in range(2):
            with (place / f"f{number}").open("rb") as stream:
                for position in range(2300):
                    tail = position.to_bytes(4, "big") + number.to_bytes(4, "big")
                    assert stream.read(MEBIBYTE) == block[:-8] + tail


@pytest.mark.parametrize(
    ("layers", "files"),
    [
        pytest.param(10, 30_000, marks=pytest.mark.sample),
        pytest.param(127, 2_000_000, marks=[pytest.mark.torture, pytest.mark.timeout(3600)]),
    ],
)
def test_an_image_of_very_many_files_takes_less_than_a_kibibyte_of_memory_each(
    layers: int, files: int, tmp_path: Path
) -> None:
    paths = []
    each = files // layers
    for number in range(layers):
        # A twentieth of each layer's files is another layer's as well.
        content = many_files(each, first=number * (each - each // 20), spread=40)
        paths.append(str(tmp_path / f"{number}.sqsh"))
        convert(iter([content]), digest.of_bytes(content), paths[-1], FORM, Limits())
    image = tmp_path / "image.sqsh"
    small = _peak(paths[:1], tmp_path / "small.sqsh")
    peak = _peak(paths, image) - small
    inodes = Superblock.unpack(image.read_bytes()[:96]).inodes
    assert inodes > files * 9 // 10
    assert peak < inodes << 10
    with kernel(image, tmp_path / "kernel") as place:
        assert os.statvfs(place).f_files == inodes
        listed = run("find", str(place), "-type", "f").splitlines()
        assert len(listed) == each + (layers - 1) * (each - each // 20)
        for path in listed[:: max(1, len(listed) // 5000)]:
            assert Path(path).read_text() == os.path.basename(path)


def _peak(layers: list[str], target: Path, seed: str = "0") -> int:
    """Bytes of memory that a process takes at most while it assembles ``layers``."""
    program = (
        "import sys, resource; from pinnace.layers import Format, assemble; "
        "assemble(sys.argv[2:], sys.argv[1], Format()); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    environment = {"PYTHONPATH": str(Path(pinnace.__file__).parents[1]), "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", program, str(target), *layers]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return int(done.stdout) << 10


def test_the_bytes_do_not_depend_on_the_process(tmp_path: Path) -> None:
    layers = [
        layer([ROOT, *(entry(f"f{n}", content=b"%d" % n * 50, pax={f"SCHILY.xattr.user.{n}": "1"})
                       for n in range(300)), hardlink("l", "f7")]),
        layer([ROOT, *(hardlink(f"l{n}", f"f{n}") for n in range(50)), entry("new", content=b"n" * 200_000)]),
    ]  # fmt: skip
    image = flatten(layers, tmp_path)
    files = sorted(str(path) for path in tmp_path.glob("[0-9].sqsh"))
    for seed in ("1", "2"):
        _peak(files, tmp_path / "again.sqsh", seed)
        assert (tmp_path / "again.sqsh").read_bytes() == image.read_bytes()
