"""Starts of a cached image on the command line: by a cached plan and through Python, and other tools."""

from __future__ import annotations

from typing import Any

from bench.containers import BUBBLEWRAP, CH_RUN, Image, name_of, settings
from bench.measure import Measurement
from bench.report import SUMMARY, Report, Table, ratio, series_of, target, timing
from bench.site import Site
from cluster import images

#: Of which backend, whether by a cached plan, beside what, at most how many times as long.
_TARGETS = (
    ("squashfuse", False, CH_RUN, 4),
    ("squashfuse", True, CH_RUN, 2),
    ("unpack", False, BUBBLEWRAP, 6),
    ("unpack", True, BUBBLEWRAP, 2),
)


def measure(site: Site, rounds: int) -> Report:
    measured = site.time(_subjects(site, Image(site, images.debian(), "debian:12")), rounds)
    return Report([_table(measured, rounds)], series_of(measured))


def _subjects(site: Site, image: Image) -> dict[str, dict[str, Any]]:
    subjects: dict[str, dict[str, Any]] = {
        "/bin/true, bare": {"command": ["/bin/true"]},
        "python3 -I -S -c pass": {"command": [site.python, "-I", "-S", "-c", "pass"]},
    }
    for name, way in {**image.peers(), **image.pinnace()}.items():
        subjects[name] = way.subject("true")
    for name, command in image.engines("true").items():
        subjects[name] = {"command": command}
    subjects["pinnace, squashfuse, PATH.sqsh"] = {
        "command": ["pinnace", "run", image.squashfs, "true"],
        "environment": settings(site, "squashfuse"),
    }
    return subjects


def _table(measured: dict[str, Measurement], rounds: int) -> Table:
    bases = [measured[CH_RUN].series, measured[BUBBLEWRAP].series]
    columns = ["start of `true`, ms", *SUMMARY, "x ch-run", "x bubblewrap"]
    table = Table(f"Start of a cached image, {rounds} rounds", columns)
    for name, entry in measured.items():
        ratios = [ratio(entry.series, base) for base in bases] if entry.series else []
        table.add(name, *timing(entry), *ratios)
    table.notes.append(
        "ch-run is compared on the same squashfs file, bubblewrap on the same tree, unpacked; "
        "ratios are medians of the rounds' ratios; spread: interquartile range"
    )
    for backend, cached, peer, limit in _TARGETS:
        name = name_of(backend, cached=cached)
        own, base = measured[name].series, measured[peer].series
        if own and base:
            table.notes.append(f"{name}: {target(own.ratio(base), limit, f'x {peer}')}")
    return table
