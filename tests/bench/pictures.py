"""Which pictures are drawn from what was measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from bench import bars, plot
from bench.bars import Group
from bench.measure import Series
from bench.plot import Curve, Panel

_Measured = Mapping[str, Series]


def _splices(measured: _Measured) -> str:
    def curve(label: str, prefix: str, suffix: str = "") -> Curve:
        pattern = re.compile(rf"{prefix} (\d+){suffix}")
        found = {
            int(match[1]): series for name, series in measured.items() if (match := pattern.fullmatch(name))
        }
        return Curve(label, sorted(found.items()))

    panels = [
        Panel("files, in 10 layers", "processor time beside the data, s", [curve("", "inodes")]),
        Panel("layers, of 50,000 files", "processor time beside the data, s", [curve("", "layers")]),
        Panel("MiB of data", "s", [curve("copied", "MiB"), curve("reflinks", "MiB", ", reflink")]),
    ]
    return plot.drawn(panels)


def _starts(measured: _Measured) -> str:
    """Without podman, whose bar would make all others short."""
    shown = [entry for entry in measured.items() if not entry[0].startswith("podman")]
    return bars.drawn([Group("start of `true`", shown)])


def _crowd(measured: _Measured) -> str:
    return bars.drawn([Group("50 starts at once", list(measured.items()))])


def _steps(measured: _Measured) -> str:
    return bars.drawn(
        [
            Group(f"step of {tasks}", _ending(measured.items(), f", {tasks}"))
            for tasks in ("1 task", "16 tasks")
        ]
    )


def _io(measured: _Measured) -> str:
    loads = {"stat": "stat of 20,000 files", "small": "5,000 small files", "torch": "import torch"}
    return bars.drawn(
        [
            Group(f"{title}, {state}", _ending(measured.items(), f", {load}, {state}"), (1.0, "s"))
            for state in ("cold", "warm")
            for load, title in loads.items()
        ]
    )


def _memory(measured: _Measured) -> str:
    unit = (1 / (1 << 20), "MiB")
    columns = ("programs, PSS", "servers, PSS", "page cache")
    return bars.drawn(
        [
            Group(f"32 containers: {column}", _ending(measured.items(), f": {column}"), unit)
            for column in columns
        ]
    )


def _ending(entries: Iterable[tuple[str, Series]], end: str) -> list[tuple[str, Series]]:
    return [(name[: -len(end)], series) for name, series in entries if name.endswith(end)]


#: By the name of the table that they are drawn from.
PICTURES: Mapping[str, Callable[[_Measured], str]] = {
    "splices": _splices,
    "starts": _starts,
    "steps": _steps,
    "crowd": _crowd,
    "io": _io,
    "memory": _memory,
}
