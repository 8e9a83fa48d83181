"""How `make bench` reads what `pinnace run --timings` tells."""

from __future__ import annotations

import pytest

from bench.phases import phases


def test_timings_are_read_phase_by_phase() -> None:
    told = "a word of the command\npinnace: timings, ms: keeping the plan 0.52, server 3.10, in all 3.62\n"
    assert phases(told) == pytest.approx({"keeping the plan": 0.00052, "server": 0.0031, "in all": 0.00362})


def test_what_tells_no_timings_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no timings: killed"):
        phases("killed")
