"""Layouts of real images, kept in build/bench/images, whose blobs other tools can read as well."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster import oci, pytorch
from cluster.requirements import REPOSITORY
from integration.trees import layer as tar_of

_KEPT = REPOSITORY / "build" / "bench" / "images"
_MEBIBYTE = 1 << 20
#: The image of many files: 1 GB in five layers, and what its sibling adds.
_FILES, _BYTES, _LAYERS, _TOP = 60_000, 1000 * _MEBIBYTE, 5, 10 * _MEBIBYTE
_CONFIG = {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"]}


def with_pytorch() -> list[Path]:
    """Two images of Debian, Python and PyTorch, each with another 2 MB on top."""
    return _layouts("pytorch", pytorch.layers(), [pytorch.added("1"), pytorch.added("2")])


def with_many_files() -> list[Path]:
    """Two images of 60,000 files with a real image's content, each with another 10 MB on top."""
    place = _KEPT / f"many-files-{_key(str((_FILES, _BYTES, _LAYERS)))}"
    if not place.exists():
        partial = place.with_suffix(".partial")
        partial.mkdir(parents=True, exist_ok=True)
        content = pytorch.layers()[3].read_bytes()
        rng = random.Random(0)
        for number in range(_LAYERS):
            with tarfile.open(partial / f"{number}.tar", "w") as archive:
                _fill(archive, f"usr/lib/part{number}", _FILES // _LAYERS, _BYTES // _LAYERS, content, rng)
        partial.rename(place)
    rng = random.Random(1)
    tops = [
        tar_of([_entry(f"opt/top/f{number}", rng.randbytes(_TOP // 100)) for number in range(100)])
        for _ in range(2)
    ]
    return _layouts("many-files-layout", sorted(place.glob("*.tar")), tops)


def blobs_of(layout: Path) -> list[Path]:
    """The compressed layers of a layout's only image, the bottom first."""
    blobs = layout / "blobs" / "sha256"

    def document(descriptor: dict[str, str]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((blobs / descriptor["digest"][7:]).read_text())
        return found

    manifest = document(json.loads((layout / "index.json").read_text())["manifests"][0])
    return [blobs / descriptor["digest"][7:] for descriptor in manifest["layers"]]


def _layouts(name: str, lower: Sequence[Path], tops: Sequence[bytes]) -> list[Path]:
    """Layouts of one image for each of ``tops``, with the same layers below."""
    made = []
    for number, top in enumerate(tops):
        layout = _KEPT / f"{name}-{number}-{_key(hashlib.sha256(top).hexdigest())}"
        made.append(layout)
        if not layout.exists():
            partial = layout.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            oci.write_layout(partial, [*lower, top], _CONFIG)
            index = json.loads((partial / "index.json").read_text())
            index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
            (partial / "index.json").write_text(json.dumps(index))
            partial.rename(layout)
    return made


def _key(recipe: str) -> str:
    """What tells kept files of one recipe from those of another."""
    return hashlib.sha256(Path(pytorch.__file__).read_bytes() + recipe.encode()).hexdigest()[:12]


def _fill(
    archive: tarfile.TarFile, top: str, files: int, size: int, content: bytes, rng: random.Random
) -> None:
    mean = size // files
    for number in range(files):
        # Most files are small, as in a real image.
        length = int(rng.expovariate(1 / mean))
        place = rng.randrange(len(content) - length)
        entry, body = _entry(f"{top}/d{number // 50}/f{number}", content[place : place + length])
        archive.addfile(entry, io.BytesIO(body))


def _entry(name: str, body: bytes) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.size = len(body)
    return entry, body
