"""A real image of several layers, made from this machine's package sources and its own files."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cluster import images, oci
from cluster.requirements import REPOSITORY

_KEPT = REPOSITORY / "build" / "bench" / "images"
_PACKAGES = ("python3", "g++")
#: Bytes of the machine's own files that make the largest layer.
_OWN_FILES = 200 << 20
_OWN_ROOT = "usr/lib"
_TOP_FILES = 200


def large() -> Path:
    """A layout: Debian's base, python3 and g++ with all they need, files of this machine, a small top."""
    return _kept("large", _make_large)


def sibling() -> Path:
    """The same layers but for the small one on top."""
    return _kept("sibling", _make_sibling)


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
    blobs = layout / "blobs" / "sha256"
    manifest, image = _documents(layout)
    their_manifest, their_image = _documents(other)
    manifest["layers"][-1] = their_manifest["layers"][0]
    image["rootfs"]["diff_ids"][-1] = their_image["rootfs"]["diff_ids"][0]
    shutil.copytree(other / "blobs", layout / "blobs", dirs_exist_ok=True)

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
            entry = archive.gettarinfo(str(path), f"opt/machine/{path.relative_to('/')}")
            left -= entry.size
            if left < 0:
                return
            if entry.isreg():
                with path.open("rb") as stream:
                    archive.addfile(entry, stream)
            else:
                archive.addfile(entry)


def _regular_files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file() or path.is_symlink())


def _top(name: str) -> bytes:
    """A small layer: a few hundred files of text."""
    line = f"a line of the {name} top layer\n".encode()
    return oci.tar({f"srv/{name}/{number}.txt": line * 300 for number in range(_TOP_FILES)})
