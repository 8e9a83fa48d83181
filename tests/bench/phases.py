"""Where the time of a warm ``pinnace run`` goes: its own timings, and what its imports cost."""

from __future__ import annotations

import re
import statistics

from bench.containers import BACKENDS, name_of, settings
from bench.measure import Series
from bench.report import Report, Table, milliseconds
from bench.site import Site
from cluster import images

_MODULES_SHOWN = 12
_TRACED_ROUNDS = 10
#: What the command does in Python, but for what becomes of the plan.
_PROGRAM = """
import sys
sys.path.insert(0, {library!r})
sys.argv = ["pinnace", "run", {reference!r}, "true"]
import pinnace.paths
pinnace.paths.EXECUTOR = "/bin/true"
from pinnace.cli import main
sys.exit(main())
"""
_IMPORT_TIME = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", re.MULTILINE)


def measure(site: Site, rounds: int) -> Report:
    reference = site.registry.push(images.debian(), "debian:12")
    site.run("pinnace", "pull", "-q", reference)
    ways = {
        name_of(backend, cached=cached): settings(site, backend, cached=cached)
        for backend in BACKENDS
        for cached in (True, False)
    }
    values: dict[str, dict[str, list[float]]] = {name: {} for name in ways}
    for number in range(-1, rounds):
        for name, environment in ways.items():
            command = ["pinnace", "run", "--timings", reference, "true"]
            told = site.cluster.run(command, env=environment, check=True).stderr
            for phase, seconds in phases(told).items() if number >= 0 else ():
                values[name].setdefault(phase, []).append(seconds)
    measured = {
        name: {phase: Series(tuple(entries)) for phase, entries in found.items()}
        for name, found in values.items()
    }
    series = {f"{name}: {phase}": entry for name, found in measured.items() for phase, entry in found.items()}
    return Report([_table(measured, rounds), _modules(site, reference)], series)


def phases(told: str) -> dict[str, float]:
    """Seconds by phase, in their order, from the line that ``--timings`` writes."""
    line = re.search(r"^pinnace: timings, ms: (.*)$", told, re.MULTILINE)
    if line is None:
        raise RuntimeError(f"no timings: {told}")
    parts = (part.strip().rpartition(" ") for part in line[1].split(","))
    return {name: float(value) / 1000 for name, _, value in parts}


def _table(measured: dict[str, dict[str, Series]], rounds: int) -> Table:
    table = Table(f"Phases of a warm `pinnace run`, {rounds} rounds", ["phase, ms", *measured])
    names = dict.fromkeys(phase for found in measured.values() for phase in found)
    for phase in sorted(names, key=lambda name: name == "in all"):
        cells = [found.get(phase) for found in measured.values()]
        table.add(phase, *(_cell(series) for series in cells))
    table.notes.append(
        "median ± interquartile range, as `--timings` tells them: until the command is executed, without it "
        "and without what the kernel does to start and end processes"
    )
    return table


def _cell(series: Series | None) -> str:
    return f"{milliseconds(series.median)} ±{milliseconds(series.spread)}" if series else ""


def _modules(site: Site, reference: str) -> Table:
    """The modules that cost most to import, without what they import themselves."""
    table = Table("The dearest imports of a start through Python", ["module, ms", "median alone"])
    program = _PROGRAM.format(library=site.library, reference=reference)
    command = [site.python, "-X", "importtime", "-I", "-S", "-c", program]
    found: dict[str, list[int]] = {}
    for _ in range(_TRACED_ROUNDS):
        done = site.cluster.run(command, env=settings(site, "squashfuse", cached=False), check=True)
        for microseconds, module in _IMPORT_TIME.findall(done.stderr):
            found.setdefault(module, []).append(int(microseconds))
    medians = {module: statistics.median(values) / 1e6 for module, values in found.items()}
    for module in sorted(medians, key=lambda name: -medians[name])[:_MODULES_SHOWN]:
        table.add(module, milliseconds(medians[module]))
    own = sum(value for module, value in medians.items() if module.startswith("pinnace"))
    table.add(f"all {len(medians)}", milliseconds(sum(medians.values())))
    table.add("of which Pinnace's own", milliseconds(own))
    table.notes.append("to time them makes them slower; the shares are what counts")
    return table
