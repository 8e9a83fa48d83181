"""Images of random layers, of very many and of a real distribution's, against umoci and all readers."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cluster import pytorch
from integration.stacks import random_layers
from integration.test_pull_flattening import flatten, theirs
from integration.trees import describe, differences
from integration.views import VIEWS
from torture.rounds import seeded

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the kernel's squashfs needs root")


@pytest.mark.parametrize("seed", seeded(200, 12))
def test_a_random_stack_is_what_umoci_makes_of_it_whoever_reads_it(seed: int, tmp_path: Path) -> None:
    layers = random_layers(seed)
    image = flatten(layers, tmp_path)
    expected = theirs(layers, tmp_path)
    for view in VIEWS:
        with view(image, tmp_path / view.__name__) as place:
            assert differences(describe(place), expected) == [], view.__name__


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_a_real_image_is_what_umoci_makes_of_it_whoever_reads_it(tmp_path: Path) -> None:
    """Debian, Python and PyTorch, with what a recipe's last line removes, and a small layer on top."""
    layers = [path.read_bytes() for path in pytorch.layers()] + [pytorch.added("1")]
    image = flatten(layers, tmp_path)
    expected = without_devices(theirs(layers, tmp_path))
    assert len(expected) > 15_000
    for view in VIEWS:
        with view(image, tmp_path / view.__name__) as place:
            assert differences(describe(place), expected) == [], view.__name__


def without_devices(tree: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """``tree`` as an image has it: without the device nodes in /dev (docs/architecture.md)."""
    kinds = (stat.S_IFCHR, stat.S_IFBLK)
    return {
        name: facts for name, facts in tree.items() if not (name.startswith("dev/") and facts[0] in kinds)
    }
