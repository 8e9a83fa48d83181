"""A real image of several layers, Debian with Python and PyTorch, kept in build/images as plain tar files."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster import images
from cluster.requirements import REPOSITORY

_KEPT = REPOSITORY / "build" / "images"
#: Without what it depends on for GPUs. Where it can't be had (no wheel for the machine) the others serve.
_TORCH = ("torch==2.13.0",)
_INSTEAD = ("scipy", "pandas", "matplotlib", "scikit-learn")
_BESIDE = (
    "numpy", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec", "filelock", "typing-extensions",
)  # fmt: skip
_SITE = "usr/local/lib/python3.11/dist-packages"
_PYTHON = "3.11"
_TIME = 1_700_000_000
#: Bytes of what a sibling image adds.
_ADDED = 2 << 20


def layers() -> list[Path]:
    """The layers, the bottom first: Debian, Python, packages, PyTorch, and one that removes some of it."""
    recipe = Path(__file__).read_bytes()
    place = _KEPT / f"pytorch-{hashlib.sha256(recipe).hexdigest()[:12]}"
    if not place.exists():
        _KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_KEPT) as directory:
            partial = Path(directory) / "layers"
            partial.mkdir()
            for number, make in enumerate((_debian, _python, _beside, _torch, _clean)):
                make(partial / f"{number}.tar")
            partial.rename(place)
    return sorted(place.glob("*.tar"))


def added(version: str) -> bytes:
    """A layer of 2 MB that an image has on top of the others."""
    state = hashlib.shake_256(version.encode()).digest(_ADDED)
    names = [f"opt/app/module{number}.py" for number in range(100)]
    each = _ADDED // len(names)
    return _archive({name: state[n * each :][:each] for n, name in enumerate(names)})


def _debian(target: Path) -> None:
    layout = images.debian()
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(_blob(layout, index["manifests"][0]).read_text())
    with gzip.open(_blob(layout, manifest["layers"][0])) as stream, target.open("wb") as output:
        shutil.copyfileobj(stream, output, 1 << 20)


def _blob(layout: Path, descriptor: dict[str, str]) -> Path:
    return layout / "blobs" / "sha256" / descriptor["digest"].partition(":")[2]


def _python(target: Path) -> None:
    """The files of packages and of all they depend on, as apt would lay them over the base."""
    listing = ["apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-enhances"]
    listing += ["--no-conflicts", "--no-breaks", "--no-replaces", "python3", "libgomp1", "libstdc++6"]
    shown = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    names = sorted({line for line in shown.splitlines() if line[:1].isalnum()})
    with tempfile.TemporaryDirectory(dir=target.parent) as directory:
        shutil.chown(directory, "_apt")
        subprocess.run(["apt-get", "-qq", "download", *names], cwd=directory, check=True, capture_output=True)
        seen: set[str] = set()
        with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
            for deb in sorted(Path(directory).glob("*.deb")):
                command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
                with (
                    subprocess.Popen(command, stdout=subprocess.PIPE) as process,
                    tarfile.open(fileobj=process.stdout, mode="r|") as package,
                ):
                    for entry in package:
                        if entry.name not in seen:
                            seen.add(entry.name)
                            archive.addfile(entry, package.extractfile(entry) if entry.isreg() else None)


def _beside(target: Path) -> None:
    with _downloaded(target.parent, _BESIDE) as wheels:
        _unpack(wheels, target)


def _torch(target: Path) -> None:
    try:
        with _downloaded(target.parent, _TORCH) as wheels:
            _unpack(wheels, target)
    except subprocess.CalledProcessError as error:
        print(f"no PyTorch, {' '.join(_INSTEAD)} instead: {error.stderr}", file=sys.stderr)
        with _downloaded(target.parent, _INSTEAD) as wheels:
            _unpack(wheels, target)


@contextmanager
def _downloaded(place: Path, packages: Sequence[str]) -> Iterator[Path]:
    """A directory of the wheels of ``packages``. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory(dir=place) as directory:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--python-version", _PYTHON, "--dest", directory, *packages]
        subprocess.run(command, check=True, capture_output=True, text=True)
        yield Path(directory)


def _unpack(wheels: Path, target: Path) -> None:
    """A layer of what is in wheels, with all directories listed, as builders write it."""
    listed: set[str] = set()
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for wheel in sorted(wheels.glob("*.whl")):
            with zipfile.ZipFile(wheel) as package:
                for member in sorted(package.infolist(), key=lambda member: member.filename):
                    if member.is_dir():
                        continue
                    path = f"{_SITE}/{member.filename}"
                    _list_parents(archive, path, listed)
                    entry = tarfile.TarInfo(path)
                    entry.size, entry.mtime, entry.mode = member.file_size, _TIME, 0o644
                    with package.open(member) as stream:
                        archive.addfile(entry, stream)


def _list_parents(archive: tarfile.TarFile, path: str, listed: set[str]) -> None:
    parts = path.split("/")[:-1]
    for count in range(1, len(parts) + 1):
        directory = "/".join(parts[:count])
        if directory not in listed:
            listed.add(directory)
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, _TIME
            archive.addfile(entry)


def _clean(target: Path) -> None:
    """What a last line of a recipe removes and replaces."""
    files = {
        "usr/share/.wh.doc": b"",
        "usr/share/man/.wh..wh..opq": b"",
        f"{_SITE}/numpy/.wh.tests": b"",
        f"{_SITE}/sympy/.wh.testing": b"",
        "etc/motd": b"PyTorch\n",
    }
    target.write_bytes(_archive(files))


def _archive(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    listed: set[str] = set()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            _list_parents(archive, name, listed)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), _TIME
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()
