"""Collections, pulls and starts side by side over one store, killed at random moments.

No start fails or gets another image, nothing in the store is wrong at the end, and nothing is left over.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration import sound
from integration.faults import Front, packed
from integration.trees import entry, layer
from pinnace.store import Store, collection
from pinnace.store.retention import Policy
from torture.processes import finish, python, start
from torture.rounds import seeded

_RANDOM = random.Random(11)
_SHARED, *_OWN = (
    packed(layer([entry(f"{name}/{number}", content=_RANDOM.randbytes(40_000)) for number in range(4)]))
    for name in ("shared", "one", "two", "three")
)
NAMES = ("a/b:1", "a/b:2", "a/b:3")
KILLS = 8

_BEGIN = """
import hashlib, itertools, os, random, sys
from pinnace import config, reference, resolve, supply
from pinnace.store import Store, collection
from pinnace.store.leases import Lease
from pinnace.store.retention import Policy
settings = config.load()
store = Store(settings["store"])
names, rounds = sys.argv[2:], int(sys.argv[1])
def forever():
    return itertools.count() if rounds < 0 else range(rounds)
"""
#: Removes all that nothing uses, again and again.
COLLECT = f"""{_BEGIN}
for _ in forever():
    collection.collect(store, Policy(max_age=0), None)
"""
#: Fetches images that are missing all the time.
PULL = f"""{_BEGIN}
for number in forever():
    with Lease() as lease:
        supply.ensure(
            reference.parse(names[number % len(names)]), store=store, settings=settings, hold=lease.take
        )
"""
#: What a launcher does, and reads the image while it holds it: as its own record and a later one say.
START = f"""{_BEGIN}
for number in forever():
    found = resolve.find(names[number % len(names)], settings=settings, directory="/")
    for _ in range(3):
        sha256 = hashlib.sha256(open(found.path, "rb").read()).hexdigest()
        image = store.image(found.digest)
        assert image is not None and os.stat(found.path).st_size == image.size, (found, image)
    print(names[number % len(names)], sha256, flush=True)
    os.close(found.lease)
"""


@pytest.fixture(scope="module")
def registry() -> Iterator[Front]:
    with Front() as running:
        for name, own in zip(NAMES, _OWN):
            running.put(*name.split(":"), [_SHARED, own])
        yield running


@pytest.fixture(scope="module")
def undisturbed(registry: Front, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of all objects."""
    base = tmp_path_factory.mktemp("undisturbed")
    for name in NAMES:
        status, _, said = finish(start(base, f"{registry.host}/{name}"))
        assert status == 0, said
    return sound.objects(base / "store")


def run(script: str, root: Path, registry: Front, rounds: int = -1) -> subprocess.Popen[str]:
    return python(root.parent, script, str(rounds), *(f"{registry.host}/{name}" for name in NAMES))


@pytest.mark.parametrize("seed", seeded(25, 1))  # of KILLS collections each, and as many pulls
def test_collections_and_pulls_are_killed_beside_starts(
    seed: int, registry: Front, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    rng, root = random.Random(seed), tmp_path / "store"
    starts = [run(START, root, registry, rounds=6) for _ in range(2)]
    survivor = run(COLLECT, root, registry)
    for _ in range(KILLS):
        victims = [run(COLLECT, root, registry), run(PULL, root, registry)]
        for victim in victims:
            time.sleep(rng.uniform(0.2, 0.8))
            victim.send_signal(signal.SIGKILL)
        assert [finish(victim)[2] for victim in victims] == ["", ""]
    for launcher in starts:
        status, out, said = finish(launcher)
        assert (status, said) == (0, "")
        assert {line.split()[1] for line in out.splitlines()} <= set(undisturbed.values())
        assert len(out.splitlines()) == 6
    survivor.kill()
    assert finish(survivor) == (-signal.SIGKILL, "", "")
    assert sound.faults(root, undisturbed) == []
    collection.collect(Store(str(root)), Policy(), None)
    assert sound.leftovers(root) == [] and sound.faults(root, undisturbed) == []
    collection.collect(Store(str(root)), Policy(max_age=0), None)
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["store.json"]


def test_two_collections_at_once_remove_everything_once(
    registry: Front, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    root = tmp_path / "store"
    for name in NAMES:
        assert finish(start(tmp_path, f"{registry.host}/{name}"))[0] == 0
    assert sound.objects(root) == undisturbed
    both = [run(COLLECT, root, registry, rounds=3) for _ in range(2)]
    assert [finish(one)[::2] for one in both] == [(0, "")] * 2
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["store.json"]
