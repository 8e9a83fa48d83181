"""Many containers started at once: of several images, by two users, with each backend."""

from __future__ import annotations

import gzip
import itertools
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster import images, oci
from cluster.cluster import Cluster
from cluster.registry import Registry
from cluster.users import USERS, User

_BACKENDS = ("squashfuse", "unpack")
_OVERLAYS = ("kernel", "fuse-overlayfs")
_IMAGES = 3


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    assert cluster.leftovers() == []


@pytest.fixture(scope="module")
def references(cluster: Cluster, registry: Registry) -> list[str]:
    """Images like the tiny one, each with its number in /id."""
    return [registry.push(_image(cluster, number), f"crowd:{number}") for number in range(_IMAGES)]


def _image(cluster: Cluster, number: int) -> Path:
    layout = cluster.directory / f"crowd-{number}"
    base = max((images.tiny() / "blobs" / "sha256").iterdir(), key=lambda blob: blob.stat().st_size)
    own = oci.tar({"id": f"{number}\n".encode()})
    oci.write_layout(layout, [gzip.decompress(base.read_bytes()), own], {"Env": ["PATH=/bin"]})
    return layout


@pytest.mark.parametrize("overlay", _OVERLAYS)
@pytest.mark.parametrize("backend", _BACKENDS)
@pytest.mark.parametrize(
    "count", [pytest.param(16, marks=pytest.mark.sample), pytest.param(200, marks=pytest.mark.torture)]
)
def test_none_of_many_starts_at_once_fails(
    cluster: Cluster, references: list[str], backend: str, overlay: str, count: int
) -> None:
    environment = {"PINNACE_BACKEND": backend, "PINNACE_OVERLAY": overlay}

    def start(number: int, user: User) -> subprocess.CompletedProcess[str]:
        words = ["--rw", references[number % _IMAGES], "sh", "-c", "cat /id; whoami; echo x > /new; cat /new"]
        return cluster.run(
            ["pinnace", "run", *words], user=user, host=cluster.nodes[0], env=environment, timeout=500
        )

    asked = list(zip(range(count), itertools.cycle(USERS)))
    with ThreadPoolExecutor(count) as everybody:
        done = list(everybody.map(lambda one: start(*one), asked))
    assert [one.stderr for one in done if one.returncode] == []
    assert [one.stdout for one in done] == [f"{number % _IMAGES}\n{user.name}\nx\n" for number, user in asked]
