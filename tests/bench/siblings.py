"""An image that differs from a cached one by a small layer on top: how long until it can be started.

All blobs are at hand, in an OCI layout. What is measured beside Pinnace is the way of the field,
extracting all layers and packing their overlay, in parts; and other tools that have the first image.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.measure import Measurement, Series
from bench.report import SUMMARY, Report, Table, ratio, reason, series_of, summary, target
from bench.site import Site
from bench.splices import reflinks
from cluster import oci, pytorch
from cluster.requirements import REPOSITORY
from integration.trees import layer as tar_of

_KEPT = REPOSITORY / "build" / "bench" / "images"
_MEBIBYTE = 1 << 20
#: The second image: files of 1 GB in five layers, and what its sibling adds.
_FILES, _BYTES, _LAYERS, _TOP = 60_000, 1000 * _MEBIBYTE, 5, 10 * _MEBIBYTE
_CONFIG = {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"]}

_PINNACE = "pinnace pull"
_REFLINK = "pinnace pull, XFS (reflink)"
_EXTRACT = "extract all layers"
_OVERLAY = "mksquashfs of their overlay, zstd 1"
_DEFAULT = "the same as enroot has it by default"
#: Options of mksquashfs: the level of Pinnace, and enroot.conf's ENROOT_SQUASH_OPTIONS.
_SAME = "-comp zstd -Xcompression-level 1 -b 131072"
_ENROOT = "-comp lzo -noD"


def measure(site: Site, rounds: int) -> Report:
    images = {
        "2 MB on PyTorch": _layouts("pytorch", pytorch.layers(), [pytorch.added("1"), pytorch.added("2")]),
        "10 MB on 60,000 files": _many_files(),
    }
    tables, measured = [], {}
    for title, layouts in images.items():
        place = site.directory("siblings")
        with reflinks(site, place) as shared:
            subjects = _subjects(site, place, shared, layouts)
            # Looking at a command's memory costs little beside these.
            watched = {name: {**subject, "watch": True} for name, subject in subjects.items()}
            found = site.time(watched, rounds, user=None)
            size = json.loads(site.run("pinnace", "inspect", "second:1", user=None, env=_environment(place)))[
                "size"
            ]
        shutil.rmtree(place)
        tables.append(_table(title, found, size, rounds))
        measured.update({f"{title}: {name}": series for name, series in series_of(found).items()})
    return Report(tables, measured)


def _subjects(site: Site, place: Path, shared: Path, layouts: Sequence[Path]) -> dict[str, dict[str, Any]]:
    first, second = layouts
    layers = place / "layers"
    layers.mkdir()
    blobs = _blobs(second)
    (place / "extract").write_text(_extract(layers, blobs))
    site.run("sh", str(place / "extract"), user=None)
    _overlay_marks(layers)
    podman = f"podman {_storage(place)}"
    site.run("sh", "-c", f"{podman} pull --quiet oci:{first}:latest", user=None)
    return {
        _PINNACE: _pull(site, place / "store", first, second),
        _REFLINK: _pull(site, shared / "store", first, second),
        _EXTRACT: {
            "command": ["sh", str(place / "extract-again")],
            "before": ["sh", "-c", f"rm -rf {place}/again; sed s,{layers},{place}/again, {place}/extract "
                                   f"> {place}/extract-again"],
        },
        _OVERLAY: _pack(place, layers, len(blobs), _SAME),
        _DEFAULT: _pack(place, layers, len(blobs), _ENROOT),
        "umoci unpack": {
            "command": ["umoci", "unpack", "--image", f"{second}:latest", str(place / "unpacked")],
            "before": ["rm", "-rf", str(place / "unpacked")],
        },
        "podman pull": {
            "command": ["sh", "-c", f"{podman} pull --quiet oci:{second}:latest > {place}/second"],
            "before": ["sh", "-c", f"{podman} rmi --force $(cat {place}/second)"],
        },
    }  # fmt: skip


def _environment(place: Path) -> dict[str, str]:
    return {"PINNACE_STORE": str(place / "store")}


def _pull(site: Site, store: Path, first: Path, second: Path) -> dict[str, Any]:
    environment = _environment(store.parent)
    site.run("pinnace", "pull", "-q", f"oci:{first}", "--name", "first:1", user=None, env=environment)
    return {
        "command": ["pinnace", "pull", "-q", f"oci:{second}", "--name", "second:1"],
        "before": ["pinnace", "rm", "-q", "second:1"],
        "environment": environment,
    }


def _pack(place: Path, layers: Path, count: int, options: str) -> dict[str, Any]:
    """mksquashfs over the overlay of what was extracted, the way enroot goes."""
    lower = ":".join(str(layers / str(number)) for number in reversed(range(count)))
    command = (
        f"mount -t overlay overlay -o lowerdir={lower} {place}/merged && "
        f"mksquashfs {place}/merged {place}/out.sqsh {options} -noappend -quiet -no-progress >&2 && "
        f"sync {place}/out.sqsh"
    )
    unshared = ["unshare", "--mount", "sh", "-c", command]
    return {"command": unshared, "before": ["sh", "-c", f"rm -f {place}/out.sqsh; mkdir -p {place}/merged"]}


def _extract(layers: Path, blobs: Sequence[Path]) -> str:
    """A script that extracts each blob to a directory of its own, as many at once as there are processors."""
    lines = "\n".join(f"{number} {blob}" for number, blob in enumerate(blobs))
    one = f'mkdir -p {layers}/$0 && tar -C {layers}/$0 -I "$(command -v pigz || echo gzip)" -xpf $1'
    return f"xargs -P {os.cpu_count()} -n 2 sh -c '{one}' <<'EOF'\n{lines}\nEOF\n"


def _blobs(layout: Path) -> list[Path]:
    """The compressed layers of a layout's only image, the bottom first."""
    blobs = layout / "blobs" / "sha256"

    def document(descriptor: dict[str, str]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((blobs / descriptor["digest"][7:]).read_text())
        return found

    manifest = document(json.loads((layout / "index.json").read_text())["manifests"][0])
    return [blobs / descriptor["digest"][7:] for descriptor in manifest["layers"]]


def _overlay_marks(layers: Path) -> None:
    """Whiteouts as overlayfs has them."""
    for path in sorted(layers.rglob(".wh.*")):
        path.unlink()
        if path.name == ".wh..wh..opq":
            os.setxattr(path.parent, "trusted.overlay.opaque", b"y")
        else:
            os.mknod(path.with_name(path.name[4:]), 0o020000, os.makedev(0, 0))


def _storage(place: Path) -> str:
    # podman takes no path of more than 50 characters for the second
    runs = hashlib.sha256(str(place).encode()).hexdigest()[:8]
    return f"--root {place}/podman --runroot /run/podman-{runs} --cgroup-manager=cgroupfs"


def _table(title: str, found: dict[str, Measurement], size: int, rounds: int) -> Table:
    columns = ["s", *SUMMARY, "x pinnace", "x with reflink", "processor, s", "memory, MiB"]
    table = Table(f"{title}: s, {rounds} rounds", columns)
    series = {name: entry.series for name, entry in found.items()}
    extract, overlay = series[_EXTRACT], series[_OVERLAY]
    pull, reflink = series[_PINNACE], series[_REFLINK]
    for name, entry in found.items():
        if entry.series is None:
            table.add(name, reason(entry))
            continue
        cpu = f"{entry.cpu.median:.2f}" if entry.cpu else ""
        memory = f"{entry.memory.get('all', 0) / _MEBIBYTE:.0f}"
        table.add(
            name,
            *_seconds(entry.series),
            ratio(entry.series, pull),
            ratio(entry.series, reflink),
            cpu,
            memory,
        )
    if extract and overlay:
        field = extract + overlay
        table.add("both", *_seconds(field), ratio(field, pull), ratio(field, reflink))
        if pull and reflink:
            table.notes += [
                _times("the field's way", field.ratio(pull), 20),
                _times("mksquashfs alone", overlay.ratio(pull), 3),
                _times("mksquashfs alone, with reflink", overlay.ratio(reflink), 10),
                f"ready: {target(pull.median, 1, 's')}; with reflink: {target(reflink.median, 0.3, 's')}",
            ]
    table.notes.append(f"the image is a file of {size / _MEBIBYTE:.0f} MiB")
    return table


def _seconds(series: Series) -> list[str]:
    return [f"{value:.2f}" for value in summary(series)]


def _times(what: str, value: float, limit: float) -> str:
    verdict = "met" if value >= limit else "missed"
    return f"{what} takes {value:.1f} times as long; target ≥ {limit:g}: {verdict}"


# Images


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


def _many_files() -> list[Path]:
    """60,000 files of a real image's content."""
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
