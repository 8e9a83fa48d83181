"""Images spliced from layers that are there: how the cost grows with files, layers and bytes."""

from __future__ import annotations

import io
import json
import random
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.measure import Series
from bench.report import Report, Table, summary, target
from bench.site import Site
from integration.many import many_files

_COUNTS = (1_000, 10_000, 100_000)
#: With ``--large`` only: making its layers takes a minute, and memory by the gigabyte.
_LARGE = 1_000_000
_LAYERS = (1, 10, 40, 127)
#: Files of the images that have more and more layers, and layers of those that have more and more files.
_FILES, _STACK = 50_000, 10
_SIZES = (64, 256, 1024)  # MiB
_MEBIBYTE = 1 << 20
_MICROSECOND = 1e-6
_DISK = 8 << 30


def measure(site: Site, rounds: int) -> Report:
    place = site.directory("splices")
    counts = (*_COUNTS, _LARGE) if site.large else _COUNTS
    stacks = {f"inodes {count}": _stack(place, count, _STACK) for count in counts}
    stacks.update({f"layers {count}": _stack(place, _FILES, count) for count in _LAYERS})
    data = {size: _data(place, size) for size in _SIZES}
    found: dict[str, list[dict[str, Any]]] = {}
    with reflinks(site, place) as shared:
        for number in range(rounds):
            for name, layers in stacks.items():
                found.setdefault(name, []).append(_splice(site, place / "image", layers))
            for size, layer in data.items():
                found.setdefault(f"MiB {size}", []).append(_splice(site, place / "image", [layer]))
                if number == 0:
                    site.run("cp", str(layer), str(shared), user=None)
                    site.run("sync", "-f", str(shared), user=None)  # as a store's layers are
                linked = _splice(site, shared / "image", [shared / layer.name])
                found.setdefault(f"MiB {size}, reflink", []).append(linked)
    shutil.rmtree(place)
    measured = {name: _series(name, values) for name, values in found.items()}
    return Report([_metadata_table(found, measured, rounds), _data_table(found, measured, rounds)], measured)


@contextmanager
def reflinks(site: Site, place: Path) -> Iterator[Path]:
    """A directory below ``place`` on a new XFS, which only the site sees."""
    disk, mounted = place / "disk", place / "xfs"
    with disk.open("wb") as stream:
        stream.truncate(_DISK)
    subprocess.run(["mkfs.xfs", "-q", str(disk)], check=True)
    mounted.mkdir()
    site.run("mount", "-o", "loop", str(disk), str(mounted), user=None)
    try:
        yield mounted
    finally:
        site.run("umount", str(mounted), user=None)
        disk.unlink()


def _splice(site: Site, image: Path, layers: list[Path]) -> dict[str, Any]:
    script = [site.python, "-I", site.script("splice.py"), site.library, str(image), *map(str, layers)]
    found: dict[str, Any] = json.loads(site.run(*script, user=None))
    return found


def _stack(place: Path, files: int, layers: int) -> list[Path]:
    """Layers of ``files`` small files in all."""
    each = files // layers
    made = []
    for number in range(layers):
        made.append(place / f"{files}-{layers}-{number}.sqsh")
        _write(made[-1], many_files(each, first=number * each, spread=40))
    return made


def _data(place: Path, size: int) -> Path:
    """A layer of ``size`` MiB that don't compress."""
    rng = random.Random(size)
    piece = rng.randbytes(_MEBIBYTE)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for number in range(size // 16):
            entry = tarfile.TarInfo(f"f{number}")
            entry.size = 16 * _MEBIBYTE
            body = b"".join(rng.randbytes(64) + piece[64:] for _ in range(16))
            archive.addfile(entry, io.BytesIO(body))
    _write(place / f"{size}.sqsh", stream.getvalue())
    return place / f"{size}.sqsh"


def _write(layer: Path, content: bytes) -> None:
    command = ["tar2sqfs", "--quiet", "--force", "--compressor", "zstd", "--comp-extra", "level=1"]
    command += ["--block-size", "131072", "--defaults", "uid=0,gid=1,mode=0755,mtime=0", str(layer)]
    subprocess.run(command, input=content, check=True, stderr=subprocess.DEVNULL)


def _series(name: str, values: list[dict[str, Any]]) -> Series:
    """Of data the whole time, otherwise the processor's without that for data."""
    kind = "wall" if name.startswith("MiB") else "cpu"
    return Series(tuple(value[kind] for value in values))


def _metadata_table(
    found: dict[str, list[dict[str, Any]]], measured: dict[str, Series], rounds: int
) -> Table:
    columns = ["image", "inodes", "median", "minimum", "maximum", "spread", "memory, B"]
    title = f"Splice beside the data: µs of processor time and bytes of memory per inode, {rounds} rounds"
    table = Table(title, columns)
    worst, most = 0.0, 0.0
    for name, values in found.items():
        axis, _, count = name.partition(" ")
        if axis == "MiB":
            continue
        inodes = values[0]["inodes"]
        label = f"{_STACK} layers" if axis == "inodes" else f"{count} layers"
        each = [f"{value / inodes / _MICROSECOND:.1f}" for value in summary(measured[name])]
        memory = max(value["peak"] for value in values) / inodes
        if inodes > 5000:  # where the interpreter's own no longer counts
            worst, most = max(worst, measured[name].median / inodes / _MICROSECOND), max(most, memory)
        table.add(label, str(inodes), *each, f"{memory:.0f}")
    table.notes.append(target(worst, 12, "µs per inode beside the data"))
    table.notes.append(target(most, 1024, "B per inode"))
    table.notes.append("metadata is read from layers of tar2sqfs, merged, written and synced")
    return table


def _data_table(found: dict[str, list[dict[str, Any]]], measured: dict[str, Series], rounds: int) -> Table:
    columns = ["MiB", "median", "minimum", "maximum", "spread", "copying", "syncing"]
    table = Table(f"Splice of data: s, {rounds} rounds", columns)
    for name, values in found.items():
        if name.startswith("MiB"):
            parts = [Series(tuple(value[part] for value in values)).median for part in ("copy", "sync")]
            cells = [*summary(measured[name]), *parts]
            table.add(name.partition(" ")[2], *(f"{value:.3f}" for value in cells))
    table.notes.append("copied on the file system of the other tables; reflink: on XFS in a file of it")
    return table
