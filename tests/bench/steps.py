"""A step of a job with and without a container, in one allocation."""

from __future__ import annotations

from typing import Any

from bench.containers import name_of, settings
from bench.measure import Measurement
from bench.report import SUMMARY, Report, Table, milliseconds, series_of, target, timing
from bench.site import Site
from cluster import images

_BARE = "bare"
#: Backends with whether by a cached plan, and what may be added to a bare step, ms.
_WAYS = (("squashfuse", True, 15), ("squashfuse", False, 40), ("unpack", True, 15))
_TASKS = (1, 16)
#: What 16 tasks may have to wait longer for a container than one, ms.
_FOR_MANY = 15


def measure(site: Site, rounds: int) -> Report:
    reference = site.registry.push(images.debian(), "debian:12")
    site.run("pinnace", "pull", "-q", reference)
    inside = ["salloc", "--quiet", "--nodes=1", "--exclusive"]
    measured = site.time(_subjects(site, reference), rounds, within=inside)
    return Report([_table(measured, rounds)], series_of(measured))


def _subjects(site: Site, reference: str) -> dict[str, dict[str, Any]]:
    subjects: dict[str, dict[str, Any]] = {}
    for tasks in _TASKS:
        # Nodes have fewer processors than 16, so tasks share them, in all cases alike.
        srun = ["srun", "--overcommit", f"--ntasks={tasks}"]
        subjects[_name(_BARE, tasks)] = {"command": [*srun, "true"]}
        for backend, cached, _ in _WAYS:
            subjects[_name(name_of(backend, cached=cached), tasks)] = {
                "command": [*srun, f"--container-image={reference}", "true"],
                "environment": settings(site, backend, cached=cached),
            }
    return subjects


def _table(measured: dict[str, Measurement], rounds: int) -> Table:
    columns = ["step of `true`, ms", *SUMMARY, "added by the container"]
    table = Table(f"A step, image cached, {rounds} rounds", columns)
    added: dict[str, list[float]] = {}
    for tasks in _TASKS:
        bare = measured[_name(_BARE, tasks)]
        table.add(bare.name, *timing(bare))
        for backend, cached, _ in _WAYS:
            way = name_of(backend, cached=cached)
            ours = measured[_name(way, tasks)]
            more = []
            if bare.series and ours.series:
                added.setdefault(way, []).append(ours.series.excess(bare.series) * 1000)
                more = [milliseconds(added[way][-1] / 1000)]
            table.add(ours.name, *timing(ours), *more)
    for backend, cached, limit in _WAYS:
        way = name_of(backend, cached=cached)
        if len(added.get(way, [])) == len(_TASKS):
            one, many = added[way]
            table.notes.append(
                f"{way}, added to one task: {target(one, limit, 'ms')}; "
                f"to 16 tasks beyond that: {target(many - one, _FOR_MANY, 'ms')}"
            )
    return table


def _name(way: str, tasks: int) -> str:
    return f"{way}, {tasks} task{'s' if tasks > 1 else ''}"
