"""A real image of several layers, made from this machine's package sources and its own files."""

from __future__ import annotations

import bisect
import gzip
import hashlib
import io
import itertools
import json
import os
import random
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from cluster import images, oci
from cluster.requirements import REPOSITORY

_KEPT = REPOSITORY / "build" / "bench" / "images"
_PACKAGES = ("python3", "g++")
#: Bytes of the machine's own files that make the largest layer.
_OWN_FILES = 200 << 20
_OWN_ROOT = "usr/lib"
_TOP_FILES = 200
#: The image of many layers, and bytes of each, compressed.
_MANY = 20
_MANY_SIZE = 100_000_000
#: Of this many MiB of its layers one is random, as models and packed data are.
_RANDOM_SHARE = 12
_MEBIBYTE = 1 << 20


def large() -> Path:
    """A layout: Debian's base, python3 and g++ with all they need, files of this machine, a small top."""
    return _kept("large", _make_large)


def sibling() -> Path:
    """The same layers but for the small one on top."""
    return _kept("sibling", _make_sibling)


def many() -> Path:
    """Twenty layers of 100 MB compressed: files of this machine, among them some that don't compress."""
    return _kept("many", _make_many)


def _kept(name: str, make: Callable[[Path, Path], None]) -> Path:
    key = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    layout = _KEPT / f"{name}-{key}"
    if not layout.exists():
        _KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_KEPT) as directory:
            partial = Path(directory) / "layout"
            make(partial, Path(directory))
            partial.rename(layout)
    return layout


def _make_large(layout: Path, place: Path) -> None:
    base, packages, own, top = (place / f"{name}.tar" for name in ("base", "packages", "own", "top"))
    with gzip.open(_first_layer(images.debian())) as stream, base.open("wb") as target:
        shutil.copyfileobj(stream, target, 1 << 20)
    _write_packages(packages, place)
    _write_own_files(own)
    top.write_bytes(_top("first"))
    oci.write_layout(layout, [base, packages, own, top], {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"]})


def _make_sibling(layout: Path, place: Path) -> None:
    """The large image with another top: only that is compressed anew."""
    shutil.copytree(large(), layout)
    other = place / "other"
    oci.write_layout(other, [_top("second")], {})
    manifest, image = _documents(layout)
    their_manifest, their_image = _documents(other)
    manifest["layers"][-1] = their_manifest["layers"][0]
    image["rootfs"]["diff_ids"][-1] = their_image["rootfs"]["diff_ids"][0]
    shutil.copytree(other / "blobs", layout / "blobs", dirs_exist_ok=True)
    _describe(layout, manifest, image)


def _make_many(layout: Path, _: Path) -> None:
    oci.write_layout(layout, [], {"Env": ["PATH=/usr/bin:/bin"]})
    files = list(_regular_files(Path("/usr")))
    before = list(itertools.accumulate(path.lstat().st_size for path in files))

    def part(number: int) -> tuple[dict[str, Any], str]:
        first = bisect.bisect(before, before[-1] * number // _MANY)
        return _write_part(layout, itertools.chain(files[first:], itertools.cycle(files)), number)

    with ThreadPoolExecutor(os.cpu_count()) as workers:
        layers = list(workers.map(part, range(_MANY)))
    manifest, image = _documents(layout)
    manifest["layers"] = [descriptor for descriptor, _ in layers]
    image["rootfs"]["diff_ids"] = [diff_id for _, diff_id in layers]
    _describe(layout, manifest, image)


def _write_part(layout: Path, files: Iterable[Path], number: int) -> tuple[dict[str, Any], str]:
    """One of many layers, of as many of ``files`` as it takes; gives its descriptor and its diff ID."""
    rng = random.Random(number)
    written = random_files = 0
    partial = layout / f"part{number}"
    with partial.open("wb") as target:
        blob = _Blob(target)
        with tarfile.open(fileobj=blob, mode="w|", format=tarfile.GNU_FORMAT) as archive:
            for path in files:
                if blob.size >= _MANY_SIZE:
                    break
                written += _add(archive, path, f"opt/{number}{path}")
                while random_files < written // (_RANDOM_SHARE * _MEBIBYTE):
                    entry = tarfile.TarInfo(f"opt/{number}/random/{random_files}")
                    entry.size = _MEBIBYTE
                    archive.addfile(entry, io.BytesIO(rng.randbytes(_MEBIBYTE)))
                    random_files += 1
        blob.finish()
    partial.rename(layout / "blobs" / "sha256" / blob.digest.hexdigest())
    descriptor = {
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "digest": f"sha256:{blob.digest.hexdigest()}",
        "size": blob.size,
    }
    return descriptor, f"sha256:{blob.diff_id.hexdigest()}"


class _Blob:
    """A file to write a tar to, which compresses and hashes it on its way to ``target``."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._gzip = zlib.compressobj(1, wbits=31)
        self.diff_id, self.digest, self.size = hashlib.sha256(), hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self.diff_id.update(data)
        self._pass(self._gzip.compress(data))

    def finish(self) -> None:
        self._pass(self._gzip.flush())

    def _pass(self, data: bytes) -> None:
        self.digest.update(data)
        self.size += len(data)
        self._target.write(data)


def _describe(layout: Path, manifest: dict[str, Any], image: dict[str, Any]) -> None:
    """Give a layout's only image other documents."""
    blobs = layout / "blobs" / "sha256"

    def write(document: object, descriptor: dict[str, object]) -> None:
        text = json.dumps(document).encode()
        digest = hashlib.sha256(text).hexdigest()
        (blobs / digest).write_bytes(text)
        descriptor.update(digest=f"sha256:{digest}", size=len(text))

    write(image, manifest["config"])
    index = json.loads((layout / "index.json").read_text())
    write(manifest, index["manifests"][0])
    (layout / "index.json").write_text(json.dumps(index))


def _documents(layout: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest and the configuration of a layout's only image."""

    def blob(descriptor: dict[str, str]) -> dict[str, Any]:
        name = descriptor["digest"].partition(":")[2]
        document: dict[str, Any] = json.loads((layout / "blobs" / "sha256" / name).read_text())
        return document

    manifest = blob(json.loads((layout / "index.json").read_text())["manifests"][0])
    return manifest, blob(manifest["config"])


def _first_layer(layout: Path) -> Path:
    digest: str = _documents(layout)[0]["layers"][0]["digest"].partition(":")[2]
    return layout / "blobs" / "sha256" / digest


def _write_packages(target: Path, place: Path) -> None:
    """The files of packages and of all they depend on, as apt would lay them over the base."""
    debs = place / "debs"
    debs.mkdir()
    listing = ["apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-enhances"]
    listing += ["--no-conflicts", "--no-breaks", "--no-replaces", *_PACKAGES]
    shown = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    names = sorted({line for line in shown.splitlines() if line[:1].isalnum()})
    shutil.chown(debs, "_apt")
    subprocess.run(["apt-get", "-qq", "download", *names], cwd=debs, check=True, capture_output=True)
    seen: set[str] = set()
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        for deb in sorted(debs.glob("*.deb")):
            command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
            with (
                subprocess.Popen(command, stdout=subprocess.PIPE) as process,
                tarfile.open(fileobj=process.stdout, mode="r|") as package,
            ):
                for entry in package:
                    if entry.name not in seen:
                        seen.add(entry.name)
                        archive.addfile(entry, package.extractfile(entry) if entry.isreg() else None)
    shutil.rmtree(debs)


def _write_own_files(target: Path) -> None:
    left = _OWN_FILES
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        for path in _regular_files(Path("/", _OWN_ROOT)):
            left -= _add(archive, path, f"opt/machine{path}")
            if left < 0:
                return


def _add(archive: tarfile.TarFile, path: Path, name: str) -> int:
    """Add one of this machine's files as ``name``; gives its bytes."""
    entry = archive.gettarinfo(str(path), name)
    if not entry.isreg():
        archive.addfile(entry)
        return 0
    with path.open("rb") as stream:
        archive.addfile(entry, stream)
    return entry.size


def _regular_files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file() or path.is_symlink())


def _top(name: str) -> bytes:
    """A small layer: a few hundred files of text."""
    line = f"a line of the {name} top layer\n".encode()
    return oci.tar({f"srv/{name}/{number}.txt": line * 300 for number in range(_TOP_FILES)})
