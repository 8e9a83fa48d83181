"""Many starts of one image at once on one node: until the last of them has ended."""

from __future__ import annotations

from bench.containers import BUBBLEWRAP, CH_RUN, Image
from bench.measure import Measurement
from bench.report import SUMMARY, Report, Table, milliseconds, ratio, series_of, timing
from bench.site import Site
from cluster import images

_COPIES = 50


def measure(site: Site, rounds: int) -> Report:
    image = Image(site, images.debian(), "debian:12")
    ways = {**image.peers(), **image.pinnace()}
    subjects = {name: way.subject("true", copies=_COPIES) for name, way in ways.items()}
    measured = site.time(subjects, rounds)
    return Report([_table(measured, rounds)], series_of(measured))


def _table(measured: dict[str, Measurement], rounds: int) -> Table:
    bases = [measured[CH_RUN].series, measured[BUBBLEWRAP].series]
    columns = [f"{_COPIES} starts of `true`, ms", *SUMMARY, "each", "x ch-run", "x bubblewrap"]
    table = Table(f"{_COPIES} starts at once, {rounds} rounds", columns)
    for name, entry in measured.items():
        more = []
        if entry.series:
            each = milliseconds(entry.series.median / _COPIES)
            more = [each, *(ratio(entry.series, base) for base in bases)]
        table.add(name, *timing(entry), *more)
    table.notes.append("from the first process until all have ended; each: the same for one of them")
    return table
