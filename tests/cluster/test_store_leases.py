"""Images in use, on a real cluster: held while a container lives, and for a job between its steps."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.cluster import Cluster, wait_until

_LIST = "for fd in /proc/$$/fd/*; do readlink $fd; done; true"


@pytest.fixture(autouse=True)
def nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    assert cluster.leftovers() == []


@pytest.fixture
def stored(cluster: Cluster, tiny_image: str) -> Path:
    """The squashfs file of the tiny image in the user's store."""
    digest = cluster.run(["pinnace", "pull", tiny_image], check=True).stdout.strip().partition("@sha256:")[2]
    return cluster.home() / ".cache/pinnace/images/sha256" / f"{digest}.sqsh"


def is_held(file: Path) -> bool:
    with file.open("rb+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize("front", [["pinnace", "run"], ["srun", "-wn1", "--container-image"]])
@pytest.mark.parametrize("overlay", ["kernel", "fuse-overlayfs"])
def test_an_image_is_held_as_long_as_its_container_lives(
    cluster: Cluster, tiny_image: str, stored: Path, front: list[str], overlay: str
) -> None:
    command = [*front, tiny_image, "sh", "-c", "echo ready; read end"]
    environment = {"PINNACE_OVERLAY": overlay}
    with cluster.popen(command, env=environment, stdin=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline() == "ready\n"
        assert is_held(stored)
        running.communicate("end\n")
    wait_until(lambda: not is_held(stored), what="the end of the lease")


@pytest.mark.parametrize("front", [["pinnace", "run"], ["srun", "-wn1", "--container-image"]])
def test_the_lease_is_not_the_commands(
    cluster: Cluster, tiny_image: str, stored: Path, front: list[str]
) -> None:
    done = cluster.run([*front, tiny_image, "sh", "-c", _LIST], check=True)
    assert done.stdout and ".sqsh" not in done.stdout


def test_a_failed_start_holds_nothing(cluster: Cluster, tiny_image: str, stored: Path) -> None:
    assert cluster.run(["pinnace", "run", "-w", "/none", tiny_image, "true"]).returncode != 0
    wait_until(lambda: not is_held(stored), what="the end of the lease")


def test_a_step_leaves_a_lease_of_its_job(cluster: Cluster, tiny_image: str, stored: Path) -> None:
    script = f'srun --container-image={tiny_image} true && echo "$SLURM_JOB_ID-$SLURM_CLUSTER_NAME"'
    name = cluster.run(["salloc", "-Q", "-n1", "sh", "-c", script], check=True).stdout.strip()
    lease = stored.parents[2] / "leases" / f"{stored.stem}-{name}"
    assert name.endswith("-pinnace") and lease.stat().st_size == 0


def test_the_use_of_an_image_is_noted(cluster: Cluster, tiny_image: str, stored: Path) -> None:
    modified = stored.stat().st_mtime
    os.utime(stored, (1000, modified))
    cluster.run(["pinnace", "run", tiny_image, "true"], check=True)
    assert stored.stat().st_atime > modified - 60 and stored.stat().st_mtime == modified


def test_a_dry_run_shows_the_lease(cluster: Cluster, tiny_image: str, stored: Path) -> None:
    shown = cluster.run(["pinnace", "run", "--dry-run", tiny_image, "true"], check=True).stdout
    assert [operation[0] for operation in json.loads(shown)][:3] == ["version", "failure-status", "lease"]
