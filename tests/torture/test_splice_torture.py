"""Images of random layers, of very many and of a real distribution's, against umoci and all readers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from integration.stacks import random_layers
from integration.test_pull_flattening import flatten, theirs
from integration.trees import describe, differences
from integration.views import VIEWS

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the kernel's squashfs needs root")


def seeded(count: int, sample: int) -> list[object]:
    """Seeds of all rounds: a sample for every test run, the rest for ``make torture``."""
    return [
        pytest.param(n, marks=[pytest.mark.sample if n < sample else pytest.mark.torture])
        for n in range(count)
    ]


@pytest.mark.parametrize("seed", seeded(200, 12))
def test_a_random_stack_is_what_umoci_makes_of_it_whoever_reads_it(seed: int, tmp_path: Path) -> None:
    layers = random_layers(seed)
    image = flatten(layers, tmp_path)
    expected = theirs(layers, tmp_path)
    for view in VIEWS:
        with view(image, tmp_path / view.__name__) as place:
            assert differences(describe(place), expected) == [], view.__name__
