"""A step of a job with and without a container, in one allocation."""

from __future__ import annotations

from typing import Any

from bench.measure import Measurement
from bench.report import SUMMARY, Table, milliseconds, target, timing
from bench.site import Site

_RUN = "pinnace run, not a step"
_TASKS = (1, 16)


def measure(site: Site, reference: str, rounds: int) -> dict[str, Measurement]:
    subjects: dict[str, dict[str, Any]] = {_RUN: {"command": ["pinnace", "run", reference, "true"]}}
    for tasks in _TASKS:
        # Nodes have fewer processors than 16, so tasks share them, in both cases alike.
        srun = ["srun", "--overcommit", f"--ntasks={tasks}"]
        subjects[_name(tasks, False)] = {"command": [*srun, "true"]}
        subjects[_name(tasks, True)] = {"command": [*srun, f"--container-image={reference}", "true"]}
    return site.time(subjects, rounds, within=["salloc", "--quiet", "--nodes=1", "--exclusive"])


def table(measured: dict[str, Measurement]) -> Table:
    columns = ["step, ms", *SUMMARY, "added by the container"]
    result = Table("A step of `true`, image cached", columns)
    added = {}
    for tasks in _TASKS:
        bare, ours = measured[_name(tasks, False)], measured[_name(tasks, True)]
        result.add(bare.name, *timing(bare))
        more = []
        if bare.series and ours.series:
            added[tasks] = ours.series.excess(bare.series)
            more = [milliseconds(added[tasks])]
        result.add(ours.name, *timing(ours), *more)
    result.add(_RUN, *timing(measured[_RUN]))
    one, many = (added.get(tasks) for tasks in _TASKS)
    if one is not None:
        result.notes.append(f"added to one task: {target(one * 1000, 40, 'ms')}")
    if one is not None and many is not None:
        result.notes.append(f"added to 16 tasks beyond that: {target((many - one) * 1000, 15, 'ms')}")
    return result


def _name(tasks: int, container: bool) -> str:
    return f"srun{' --container-image' if container else ''}, {tasks} task{'s' if tasks > 1 else ''}"
