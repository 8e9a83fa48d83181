"""Tables, as Markdown for people and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten

from bench.measure import Measurement, Series

#: Characters of a reason, as it stands in a cell of a table.
_LONGEST = 120
SUMMARY = ("median", "minimum", "maximum", "spread")


@dataclass
class Table:
    """Rows of text below columns, and what has to be said about them."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        self.rows.append(list(cells))

    def markdown(self) -> str:
        heads = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)]]
        lines = [f"| {' | '.join(cells)} |" for cells in [*heads, *map(self._full, self.rows)]]
        return "\n".join([f"### {self.title}", "", *lines, "", *(f"- {note}" for note in self.notes), ""])

    def _full(self, row: list[str]) -> list[str]:
        return [cell.replace("|", "\\|") for cell in row] + [""] * (len(self.columns) - len(row))


@dataclass
class Report:
    """The tables of one topic with all values that they were made from."""

    tables: list[Table]
    measured: Mapping[str, Series]

    def write(self, directory: Path, name: str, machine: Mapping[str, str]) -> str:
        """Write NAME.json and NAME.md; gives the text of the latter."""
        directory.mkdir(parents=True, exist_ok=True)
        facts = [f"- {key}: {value}" for key, value in machine.items()]
        text = "\n".join([f"## {name}", "", *facts, "", *(table.markdown() for table in self.tables)])
        (directory / f"{name}.md").write_text(text)
        data = {
            "machine": dict(machine),
            "seconds": {key: series.values for key, series in self.measured.items()},
            "tables": [vars(table) for table in self.tables],
        }
        (directory / f"{name}.json").write_text(json.dumps(data, indent=1))
        return text


def series_of(measurements: Mapping[str, Measurement]) -> dict[str, Series]:
    """The series that came about."""
    return {name: entry.series for name, entry in measurements.items() if entry.series is not None}


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"


def timing(measurement: Measurement) -> list[str]:
    """The cells below SUMMARY; a single one that says why there are none."""
    series = measurement.series
    if series is None:
        return [reason(measurement)]
    return [milliseconds(value) for value in summary(series)]


def reason(measurement: Measurement) -> str:
    """Why there is no series."""
    return f"not here: {shorten(measurement.error, _LONGEST, placeholder=' …')}"


def summary(series: Series) -> tuple[float, ...]:
    """What is told of a series, in the order of SUMMARY."""
    return series.median, series.minimum, series.maximum, series.spread


def ratio(series: Series | None, base: Series | None) -> str:
    return f"{series.ratio(base):.1f} x" if series and base else ""


def target(value: float, limit: float, unit: str) -> str:
    """Whether a target is met, in words."""
    verdict = "met" if value <= limit else "missed"
    return f"target ≤ {limit:.3g} {unit}: {verdict} ({value:.1f})"
