"""How often a test is repeated."""

from __future__ import annotations

import pytest


def seeded(count: int, sample: int) -> list[object]:
    """Seeds of all rounds: a sample for every test run, the rest for ``make torture``."""
    return [
        pytest.param(n, marks=[pytest.mark.sample if n < sample else pytest.mark.torture])
        for n in range(count)
    ]
