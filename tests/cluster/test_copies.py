"""Squashfs files that steps on several nodes want: each node copies them once to its own disk."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster import images
from cluster.cluster import Cluster
from cluster.squash import squash
from cluster.users import ADA, BEN, User

STARTS = 4


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    for user in (ADA, BEN):
        cluster.srun(["-N2", "sh", "-c", "rm -rf /tmp/pinnace-$(id -u)"], user=user, check=True)
    assert cluster.leftovers() == []


@pytest.fixture
def image(cluster: Cluster) -> Iterator[Path]:
    """A file on what is to be a file server."""
    path = squash(images.tiny(), cluster.directory / "shared.sqsh")
    path.chmod(0o644)
    yield path
    path.unlink()


def step(cluster: Cluster, image: Path, user: User = ADA, **more: str) -> subprocess.CompletedProcess[str]:
    # A node has a /tmp of its own.
    variables = {"PINNACE_NODE_STORE": "/tmp", "PINNACE_COPY_UP": "always", "SLURM_OVERLAP": "1", **more}
    words = ["-N2", "--overlap", f"--container-image={image}", "sh", "-c", "echo in the container"]
    return cluster.srun(words, user=user, env=variables, timeout=240)


def test_of_many_steps_at_once_one_copies_on_each_node(cluster: Cluster, image: Path) -> None:
    with ThreadPoolExecutor(STARTS) as starts:
        done = list(starts.map(lambda _: step(cluster, image), range(STARTS)))
    assert [one.returncode for one in done] == [0] * STARTS, [one.stderr for one in done]
    assert all(one.stdout.count("in the container") == 2 for one in done)
    assert sum(one.stderr.count("copying shared.sqsh to this node") for one in done) == 2


def test_each_user_has_a_copy_of_his_own(cluster: Cluster, image: Path) -> None:
    for user in (ADA, BEN):
        done = step(cluster, image, user)
        assert done.returncode == 0 and done.stderr.count("copying shared.sqsh") == 2
    listed = cluster.srun(["-N1", "sh", "-c", "ls -ld /tmp/pinnace-*"], check=True).stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["drwx------"] * 2


def test_a_node_without_room_for_it_uses_the_file_where_it_is(cluster: Cluster, image: Path) -> None:
    done = step(cluster, image, PINNACE_NODE_STORE="/sys")
    assert done.returncode == 0 and done.stdout.count("in the container") == 2
    assert done.stderr.count("is used where it is: cannot make /sys/pinnace-") == 2
