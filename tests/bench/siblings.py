"""An image that differs from a cached one by a small layer on top: how long until it can be started.

All blobs are at hand, in an OCI layout. What is measured beside Pinnace is the way of the field,
extracting all layers and packing their overlay, in parts; and other tools that have the first image.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import field, layouts
from bench.measure import Measurement, Series
from bench.report import SUMMARY, Report, Table, ratio, reason, series_of, summary, target
from bench.site import Site
from bench.splices import reflinks

_MEBIBYTE = 1 << 20
_PINNACE = "pinnace pull"
_REFLINK = "pinnace pull, XFS (reflink)"
_EXTRACT = "extract all layers"
_OVERLAY = "mksquashfs of their overlay, zstd 1"
_DEFAULT = "the same as enroot has it by default"


def measure(site: Site, rounds: int) -> Report:
    images = {
        "2 MB on PyTorch": layouts.with_pytorch(),
        "10 MB on 60,000 files": layouts.with_many_files(),
    }
    tables, measured = [], {}
    for title, pair in images.items():
        place = site.directory("siblings")
        with reflinks(site, place) as shared:
            subjects = _subjects(site, place, shared, pair)
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


def _subjects(site: Site, place: Path, shared: Path, pair: Sequence[Path]) -> dict[str, dict[str, Any]]:
    first, second = pair
    layers = place / "layers"
    layers.mkdir()
    blobs = layouts.blobs_of(second)
    (place / "extract").write_text(field.extraction(layers, blobs))
    site.run("sh", str(place / "extract"), user=None)
    site.run(*field.marking(layers), user=None)
    podman = field.podman(place)
    cleared = ["sh", "-c", f"rm -f {place}/out.sqsh; mkdir -p {place}/merged"]
    site.run("sh", "-c", f"{podman} pull --quiet oci:{first}:latest", user=None)
    return {
        _PINNACE: _pull(site, place / "store", first, second),
        _REFLINK: _pull(site, shared / "store", first, second),
        _EXTRACT: {
            "command": ["sh", str(place / "extract-again")],
            "before": ["sh", "-c", f"rm -rf {place}/again; sed s,{layers},{place}/again, {place}/extract "
                                   f"> {place}/extract-again"],
        },
        **{
            name: {"command": field.packing(place, layers, len(blobs), options), "before": cleared}
            for name, options in ((_OVERLAY, field.SAME_LEVEL), (_DEFAULT, field.ENROOT))
        },
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
