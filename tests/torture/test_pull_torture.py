"""Pulls cut, killed and starved at random moments: the next one succeeds, and no object is wrong."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from integration import faults, sound
from integration.faults import Front, packed
from integration.puller import Puller
from integration.registry import run
from integration.trees import directory, entry, layer
from pinnace.registry.bodies import PIECE
from torture.processes import finish, start
from torture.rounds import seeded

#: Cuts and the bytes that each may cost.
CUTS = 50
_RANDOM = random.Random(7)
LAYERS = [
    packed(
        layer(
            [
                directory("./"),
                *(entry(f"d{n}/f{m}", content=_RANDOM.randbytes(size // 8)) for m in range(8)),
            ]
        )
    )
    for n, size in enumerate((9 << 20, 4 << 20, 2 << 20, 1 << 20, 4096))
]
SIZE = sum(len(blob) for blob, _, _ in LAYERS)


@pytest.fixture(scope="module")
def registry() -> Iterator[Front]:
    """Slow enough that there is a moment for everything."""

    def slow(request: faults.Request, reply: faults.Reply) -> faults.Reply:
        time.sleep(0.01)
        return reply

    with Front() as running:
        running.put("a/b", "1", LAYERS)
        running.on("/blobs/", slow, times=10**9)
        yield running


@pytest.fixture(scope="module")
def undisturbed(registry: Front, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    """Digests of the objects of a pull that nothing disturbs, and the seconds that it takes."""
    base = tmp_path_factory.mktemp("undisturbed")
    begun = time.monotonic()
    status, _, said = finish(start(base, _image(registry)))
    assert status == 0, said
    return sound.objects(base / "store"), time.monotonic() - begun


def _image(registry: Front) -> str:
    return f"{registry.host}/a/b:1"


def check(base: Path, registry: Front, expected: dict[str, str]) -> None:
    """Nothing in the store is wrong now, and the next pull makes what an undisturbed one makes."""
    assert sound.faults(base / "store", expected) == []
    status, _, said = finish(start(base, _image(registry)))
    assert (status, said) == (0, "")
    assert sound.objects(base / "store") == expected
    assert sound.faults(base / "store", expected) == []
    assert sound.leftovers(base / "store") == []


@pytest.mark.parametrize("seed", seeded(100, 4))
def test_a_pull_is_killed(
    seed: int, registry: Front, undisturbed: tuple[dict[str, str], float], tmp_path: Path
) -> None:
    expected, duration = undisturbed
    process = start(tmp_path, _image(registry))
    time.sleep(random.Random(seed).uniform(0, duration))
    process.send_signal(signal.SIGKILL)
    finish(process)
    check(tmp_path, registry, expected)


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system needs root")
@pytest.mark.parametrize("point", seeded(20, 5))
def test_the_disk_is_full(
    point: int, registry: Front, undisturbed: tuple[dict[str, str], float], tmp_path: Path
) -> None:
    expected, _ = undisturbed
    store = tmp_path / "store"
    store.mkdir()
    # An image of random bytes takes its layers' size twice.
    room = 64 << 10 if point == 0 else SIZE * 2 * point // 20
    run("mount", "-t", "tmpfs", "-o", f"size={room}", "none", str(store))
    try:
        status, _, said = finish(start(tmp_path, _image(registry)))
        assert status == 1 and said.count("\n") == 1 and "no space left" in said, said
        assert sound.leftovers(store) == []
        run("mount", "-o", f"remount,size={SIZE * 8}", str(store))
        check(tmp_path, registry, expected)
    finally:
        run("umount", str(store))


@pytest.mark.parametrize("seed", seeded(20, 2))
def test_the_network_is_gone(
    seed: int, undisturbed: tuple[dict[str, str], float], tmp_path: Path, puller: Puller
) -> None:
    """From some request on nothing is answered any more; then it is again."""
    rng = random.Random(seed)
    with Front() as front:
        front.put("a/b", "1", LAYERS)
        # A connection breaks within a body; no other gets an answer.
        front.on("/v2/", faults.cut(-1), times=10**9, skip=rng.randrange(1, 8))
        front.on(
            "/v2/", lambda q, a: replace(a, cut=rng.randrange(len(a.body))), times=3, skip=rng.randrange(3)
        )
        puller.fails(f"{front.host}/a/b:1")
        front.forget_faults()
        puller.succeeds(f"{front.host}/a/b:1")
        assert sound.faults(puller.root) == []


@pytest.mark.parametrize("part_size", ["0", "65536", "1M"])
@pytest.mark.parametrize("seed", seeded(10, 1))
def test_a_pull_is_cut_many_times(
    seed: int, part_size: str, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    monkeypatch.setenv("PINNACE_PART_SIZE", part_size)
    with Front() as front:
        front.put("a/b", "1", LAYERS)
        puller.succeeds(f"{front.host}/a/b:1")
        expected, config = sound.objects(puller.root), front.sent - SIZE
        run("rm", "-r", str(puller.root))
        front.sent = 0
        # Counted over the bytes of all answers, in the order in which they begin.
        places = sorted(rng.sample(range(SIZE), CUTS), reverse=True)
        begun = 0

        def cut(request: faults.Request, reply: faults.Reply) -> faults.Reply:
            nonlocal begun
            start, begun = begun, begun + len(reply.body)
            if not places or places[-1] >= begun:
                return reply
            begun = places.pop()
            return replace(reply, cut=begun - start)

        front.on("/blobs/", cut, times=10**9, skip=1)
        puller.succeeds(f"{front.host}/a/b:1")
        assert places == []
        assert sound.objects(puller.root) == expected
        assert SIZE <= front.sent - config <= SIZE + CUTS * PIECE
