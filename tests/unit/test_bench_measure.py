"""The statistics of `make bench`."""

from __future__ import annotations

import pytest

from bench.measure import Measurement, Series, collected
from bench.report import Table, target


def test_a_series_has_median_minimum_and_interquartile_range() -> None:
    series = Series((5.0, 1.0, 2.0, 3.0, 4.0))
    assert (series.median, series.minimum, series.spread) == (3.0, 1.0, 2.0)


def test_a_single_value_has_no_spread() -> None:
    assert Series((7.0,)).spread == 0.0


def test_comparisons_are_made_round_by_round() -> None:
    # The machine was ten times slower in the last rounds: it does not show in the ratio.
    base, own = Series((1.0, 1.0, 10.0, 10.0, 10.0)), Series((2.0, 2.0, 20.0, 20.0, 20.0))
    assert own.ratio(base) == 2.0
    assert Series((3.0, 5.0, 30.0)).excess(Series((1.0, 2.0, 3.0))) == 3.0


def test_series_are_added_round_by_round() -> None:
    assert Series((1.0, 2.0)) + Series((10.0, 20.0)) == Series((11.0, 22.0))


@pytest.mark.parametrize(
    ("seconds", "error", "expected"),
    [
        ([1.0, 2.0], "", Measurement("n", Series((1.0, 2.0)), "", Series((1.0, 2.0)))),
        ([1.0], "boom", Measurement("n", None, "boom")),
        ([], "not installed", Measurement("n", None, "not installed")),
    ],
)
def test_what_failed_once_has_no_series(seconds: list[float], error: str, expected: Measurement) -> None:
    data = {"seconds": seconds, "cpu": seconds, "error": error, "memory": {}}
    assert Measurement.from_data("n", data) == expected


def test_rounds_that_were_measured_one_by_one_are_joined() -> None:
    first = Measurement("n", Series((1.0,)), "", Series((2.0,)))
    second = Measurement("n", Series((3.0,)), "", Series((4.0,)))
    assert Measurement.joined([first, second]) == Measurement("n", Series((1.0, 3.0)), "", Series((2.0, 4.0)))
    failed = Measurement("n", None, "boom")
    assert Measurement.joined([first, failed]) == failed


def test_rounds_are_collected_by_name() -> None:
    found = collected([{"a": 1.0, "b": 2.0}, {"a": 3.0}])
    assert found == {"a": Series((1.0, 3.0))}
    assert collected([]) == {}


def test_targets_are_told_met_or_missed() -> None:
    assert target(7.96, 8, "x") == "target ≤ 8 x: met (8.0)"
    assert target(8.2, 8, "x") == "target ≤ 8 x: missed (8.2)"


def test_tables_are_markdown_with_full_rows() -> None:
    table = Table("T", ["a|b", "n"], notes=["note"])
    table.add("x|y")
    assert table.markdown().splitlines()[2:5] == ["| a|b | n |", "| --- | ---: |", "| x\\|y |  |"]
