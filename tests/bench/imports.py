"""A real image from a registry on this machine, nothing of it cached: until it can be started, by tool."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

from bench import field, layouts
from bench.measure import Measurement
from bench.report import SUMMARY, Report, Table, ratio, reason, series_of, summary
from bench.site import Site

_PINNACE = "pinnace pull"
_FIELD = "skopeo copy, extract, mksquashfs, zstd 1"
_ENROOT = "the same with enroot's default options"
#: How many times as long the field's way as enroot goes it has to take at least.
_TIMES = 3
_MEBIBYTE = 1 << 20


def measure(site: Site, rounds: int) -> Report:
    layout = layouts.with_pytorch()[0]
    reference = site.registry.push(layout, "pytorch:1")
    place = site.directory("imports")
    # Looking at a command's memory costs little beside these.
    subjects = {
        name: {**subject, "before": _emptied(place), "watch": True}
        for name, subject in _subjects(place, reference, layout).items()
    }
    found = site.time(subjects, rounds, warm_up=False, user=None)
    shutil.rmtree(place)
    size = sum(blob.stat().st_size for blob in layouts.blobs_of(layout))
    return Report([_table(found, size, rounds)], series_of(found))


def _subjects(place: Path, reference: str, layout: Path) -> dict[str, dict[str, Any]]:
    name = reference.replace("#", "/")
    copy = f"skopeo --insecure-policy copy --quiet --src-tls-verify=false docker://{name}"
    unpack = f"umoci unpack --image {place}/layout:latest {place}/unpacked"
    return {
        _PINNACE: {
            "command": ["pinnace", "pull", "-q", reference],
            "environment": {"PINNACE_STORE": f"{place}/store"},
        },
        "skopeo copy (download only)": _shell(f"{copy} dir:{place}/blobs"),
        _FIELD: _shell(_packed(place, copy, layout, field.SAME_LEVEL)),
        _ENROOT: _shell(_packed(place, copy, layout, field.ENROOT)),
        "skopeo copy, umoci unpack": _shell(f"{copy} oci:{place}/layout:latest && {unpack}"),
        "podman pull": _shell(f"{field.podman(place)} pull --quiet --tls-verify=false docker://{name}"),
        # Charliecloud pulls by https alone, so umoci does it.
        "skopeo copy, umoci unpack, ch-convert": _shell(
            f"{copy} oci:{place}/layout:latest && {unpack} && "
            f"ch-convert -i dir -o squash {place}/unpacked/rootfs {place}/out.sqsh",
            USER="root",
        ),
    }


def _packed(place: Path, copy: str, layout: Path, options: str) -> str:
    layers = place / "layers"
    blobs = [place / "blobs" / blob.name for blob in layouts.blobs_of(layout)]
    steps = [
        f"{copy} dir:{place}/blobs",
        f"mkdir {place}/merged",
        field.extraction(layers, blobs).rstrip(),
        shlex.join(field.marking(layers)),
        shlex.join(field.packing(place, layers, len(blobs), options)),
    ]
    return "\n".join(["set -e", *steps])


def _shell(lines: str, **environment: str) -> dict[str, Any]:
    return {"command": ["sh", "-c", lines], "environment": environment}


def _emptied(place: Path) -> list[str]:
    return ["sh", "-c", f"{field.podman(place)} rmi --all --force; rm -rf {place}/*; sync -f {place}"]


def _table(found: dict[str, Measurement], size: int, rounds: int) -> Table:
    columns = ["s", *SUMMARY, "x pinnace", "processor, s", "memory, MiB"]
    table = Table(f"Import of PyTorch, cold: s, {rounds} rounds", columns)
    own = found[_PINNACE].series
    for name, entry in found.items():
        if entry.series is None:
            table.add(name, reason(entry))
            continue
        cpu = f"{entry.cpu.median:.1f}" if entry.cpu else ""
        memory = f"{entry.memory['all'] / _MEBIBYTE:.0f}"
        values = [f"{value:.1f}" for value in summary(entry.series)]
        table.add(name, *values, ratio(entry.series, own), cpu, memory)
    enroot = found[_ENROOT].series
    if own and enroot:
        verdict = "met" if enroot.ratio(own) >= _TIMES else "missed"
        table.notes.append(f"{_ENROOT}: target ≥ {_TIMES} x {_PINNACE}: {verdict} ({enroot.ratio(own):.1f})")
    table.notes.append(
        f"{size / _MEBIBYTE:.0f} MiB compressed, from docker-registry over the loopback interface; "
        "memory: largest sum of all processes of the tool; what the tools leave differs: a squashfs file "
        "(pinnace, mksquashfs, ch-convert), directories (umoci, podman), the blobs alone (skopeo)"
    )
    return table
