"""Statistics of repeated measurements on a machine that is never quiet.

Subjects are measured in turn, round by round, so that what disturbs one round disturbs all of
them alike. Two subjects are therefore compared round by round, and only then is the median taken.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Series:
    """Seconds of one subject, a value for each round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def minimum(self) -> float:
        return min(self.values)

    @property
    def maximum(self) -> float:
        return max(self.values)

    @property
    def spread(self) -> float:
        """The interquartile range."""
        if len(self.values) < 2:
            return 0.0
        lower, _, upper = statistics.quantiles(self.values, n=4, method="inclusive")
        return upper - lower

    def ratio(self, base: Series) -> float:
        """How many times as long as ``base`` it took."""
        return statistics.median(own / other for own, other in zip(self.values, base.values))

    def excess(self, base: Series) -> float:
        """How many seconds longer than ``base`` it took."""
        return statistics.median(own - other for own, other in zip(self.values, base.values))

    def __add__(self, other: Series) -> Series:
        """Round by round, as if one had followed the other."""
        return Series(tuple(own + more for own, more in zip(self.values, other.values)))


@dataclass(frozen=True)
class Measurement:
    """What became of a subject: a series, or the reason why there is none.

    ``cpu``: the same in seconds of processor time. ``memory``: bytes, by the names in timer.py.
    """

    name: str
    series: Series | None
    error: str = ""
    cpu: Series | None = None
    memory: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_data(cls, name: str, data: Mapping[str, Any]) -> Measurement:
        """From what the timer wrote. A subject that failed in any round has no series."""
        error = str(data["error"])
        complete = data["seconds"] and not error
        series, cpu = (Series(tuple(data[key])) if complete else None for key in ("seconds", "cpu"))
        return cls(name, series, error, cpu, data["memory"])

    @classmethod
    def joined(cls, rounds: Sequence[Measurement]) -> Measurement:
        """One measurement from those of several rounds of one subject."""
        name, error = rounds[0].name, next((entry.error for entry in rounds if entry.error), "")
        if error:
            return cls(name, None, error)
        series, cpu = (
            Series(tuple(value for part in parts if part for value in part.values))
            for parts in ([entry.series for entry in rounds], [entry.cpu for entry in rounds])
        )
        return cls(name, series, "", cpu)


def collected(rounds: list[dict[str, float]]) -> dict[str, Series]:
    """Series by name from the values of each round; a name has to be in all of them."""
    names = [name for name in rounds[0] if all(name in values for values in rounds)] if rounds else []
    return {name: Series(tuple(values[name] for values in rounds)) for name in names}
