"""Every target with the kept inputs and some thousand changes of them; `make fuzz` goes on from there."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from fuzz import mutations, squash
from fuzz.guard import MEMORY, TooLarge, TooSlow, files
from fuzz.targets import TARGETS, Target
from pinnace import digest
from pinnace.errors import ImageError
from pinnace.layers import Format, Limits, assemble, convert

CORPUS = Path(__file__).parent / "corpus"
#: Changed inputs of each target: as many as take a second or two.
COUNTS = {
    "layer": 1200, "image": 2500, "foreign": 1500, "unpack": 600, "compression": 900, "manifest": 2500,
    "record": 2500, "archive": 1500, "text": 5000, "request": 8000, "credentials": 1500,
}  # fmt: skip
#: Seconds of processor time: what hangs is told from what is slow on a busy machine.
_SECONDS = 20.0


def kept(name: str) -> list[bytes]:
    return [file.read_bytes() for file in sorted((CORPUS / name).iterdir())]


def changed(name: str, inputs: list[bytes], count: int) -> Iterator[bytes]:
    """Inputs made of ``inputs``, the same in every run."""
    rng = Random(name)
    target = TARGETS[name]
    for _ in range(count):
        data = rng.choice(inputs)
        if rng.random() < 0.2:
            data = target.cross(data, rng.choice(inputs), rng)
        for _ in range(rng.choice((1, 1, 2))):
            data = target.mutate(data, rng, mutations.plain(rng))
        yield data[: target.largest]


def read(name: str, data: bytes, place: Path) -> bool:
    """Whether the target takes ``data``, which is kept below ``place`` if it fails."""
    try:
        return TARGETS[name].run(data, _SECONDS) is None
    except BaseException:
        (place / name).write_bytes(data)
        raise


def taken(name: str, count: int, place: Path) -> list[bytes]:
    """Kept inputs that the target takes, and those of ``count`` changes of them."""
    inputs = [data for data in kept(name) if read(name, data, place)]
    return inputs + [data for data in changed(name, inputs, count) if read(name, data, place)]


def test_what_hangs_fails() -> None:
    def hang(data: bytes) -> None:
        while True:
            pass

    with pytest.raises(TooSlow):
        Target(hang).run(b"", 0.05)


def test_what_takes_too_much_memory_fails() -> None:
    def grow(data: bytes) -> None:
        bytearray(b"x") * (MEMORY * 3 // 2)

    with pytest.raises(TooLarge):
        Target(grow).run(b"", _SECONDS)
    with pytest.raises(TooLarge):  # the peak of the first does not hide it
        Target(grow).run(b"", _SECONDS)


def test_all_targets_have_kept_inputs() -> None:
    assert sorted(path.name for path in CORPUS.iterdir()) == sorted(TARGETS) == sorted(COUNTS)


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_once_is_read_or_refused(name: str, tmp_path: Path) -> None:
    accepted = [read(name, data, tmp_path) for data in kept(name)]
    assert any(accepted)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_changed_is_read_or_refused(name: str, tmp_path: Path) -> None:
    for data in changed(name, kept(name), COUNTS[name]):
        read(name, data, tmp_path)


def test_tar2sqfs_takes_every_layer_that_passes(tmp_path: Path) -> None:
    """It is given what was checked, so that it has no reason to fail."""
    inputs = taken("layer", 120, tmp_path)
    assert len(inputs) > 50
    for data in inputs:
        path = str(tmp_path / "layer.sqsh")
        try:
            convert(iter([data]), digest.of_bytes(data), path, Format("zstd", 1, 4096), Limits())
            assemble([path], f"{path}.image", Format())
        except ImageError as error:
            assert "is not in the image" in str(error), error  # a hard link into a layer that is not there


@pytest.mark.skipif(os.geteuid() != 0, reason="the kernel's squashfs needs root")
def test_the_kernel_reads_every_image_that_is_made(tmp_path: Path) -> None:
    """All of its metadata; data that a stranger wrote may be anything."""
    inputs = taken("image", 200, tmp_path)
    target, place = tmp_path / "image.sqsh", tmp_path / "mounted"
    place.mkdir()
    for data in inputs[::3]:
        with files(*squash.split(data)) as paths:
            assemble(paths, str(target), Format())
        subprocess.run(["mount", "-t", "squashfs", "-o", "loop,ro", target, place], check=True)
        try:
            look_at_all(place)
        finally:
            subprocess.run(["umount", place], check=True)


def look_at_all(place: Path) -> None:
    def fail(error: OSError) -> None:
        raise error

    for directory, below, others in os.walk(os.fsencode(place), onerror=fail):
        for name in below + others:
            path = os.path.join(directory, name)
            if stat.S_ISLNK(os.lstat(path).st_mode):
                os.readlink(path)
            try:
                for attribute in os.listxattr(path, follow_symlinks=False):
                    os.getxattr(path, attribute, follow_symlinks=False)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:  # no file has any
                    raise


def test_unsquashfs_reads_every_image_that_is_made(tmp_path: Path) -> None:
    inputs = taken("image", 200, tmp_path)
    assert len(inputs) > 50
    for data in inputs:
        target = tmp_path / "image.sqsh"
        with files(*squash.split(data)) as paths:
            assemble(paths, str(target), Format())
        listed = subprocess.run(
            ["unsquashfs", "-lls", target], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert listed.returncode == 0, listed.stdout
